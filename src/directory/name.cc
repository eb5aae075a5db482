#include <cstddef>
#include <cstdint>
#include <string>

#include <arrow/status.h>
#include <arrow/util/utf8.h>

#include "directory/directory.h"

namespace sheaf::directory {
namespace {

/// C0, DEL and C1 (in UTF-8 the two bytes C2 80 to C2 9F).
bool IsControl(uint8_t previous, uint8_t byte) {
  return byte < 0x20 || byte == 0x7F || (previous == 0xC2 && byte >= 0x80 && byte < 0xA0);
}

}  // namespace

arrow::Status ValidateName(const std::string& name) {
  if (name.empty()) return arrow::Status::Invalid("a table's name may not be empty");
  if (name.size() > kNameBytesMax) {
    return arrow::Status::Invalid("a table's name has at most ", kNameBytesMax,
                                  " bytes, this one ", name.size());
  }
  arrow::util::InitializeUTF8();
  if (!arrow::util::ValidateUTF8(name)) {
    return arrow::Status::Invalid("a table's name must be UTF-8");
  }
  uint8_t previous = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    const auto byte = static_cast<uint8_t>(name[i]);
    if (IsControl(previous, byte)) {
      return arrow::Status::Invalid(
          "a table's name may not have control characters; byte ", i, " is one");
    }
    previous = byte;
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::directory
