// The main function of every test program.

#include <iostream>

#include <arrow/compute/initialize.h>
#include <arrow/status.h>
#include <gmock/gmock.h>

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  // Without this, Arrow knows no kernels ("No function registered with name: sum").
  if (const arrow::Status status = arrow::compute::Initialize(); !status.ok()) {
    std::cerr << status.ToString() << '\n';
    return 1;
  }
  return RUN_ALL_TESTS();
}
