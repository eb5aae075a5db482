// Includes every public header and calls into the library, as a user's program would.

#include <iostream>

#include <sheaf/sheaf.h>

int main() {
  const arrow::Status status =
      sheaf::MakeStatus(arrow::StatusCode::IOError, sheaf::ErrorReason::kTimeout, "late");
  std::cout << status.ToString() << '\n';
  return sheaf::IsTimeout(status) ? 0 : 1;
}
