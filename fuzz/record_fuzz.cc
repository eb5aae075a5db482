// Any bytes as a record: an error, or a record whose fields are in range, and which the
// home's own encoder writes so that it reads back the same.
//
// Decoders: src/directory/record.cc src/directory/name.cc

#include <cstddef>
#include <cstdint>
#include <string>

#include <arrow/buffer.h>

#include "base/check.h"
#include "directory/directory.h"
#include "fuzz/input.h"
#include "fuzz/record_rules.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sheaf::directory::DecodeRecord;
  const std::string bytes = sheaf::fuzz::Input(data, size).TakeText();
  const auto record = DecodeRecord(arrow::Buffer::FromString(bytes));
  if (!record.ok()) return 0;
  sheaf::fuzz::CheckRecord(*record);
  const auto encoded = sheaf::directory::EncodeRecord(*record);
  SHEAF_CHECK(encoded.ok());
  const auto again = DecodeRecord(*encoded);
  SHEAF_CHECK(again.ok() && sheaf::fuzz::IsSame(*record, *again));
  return 0;
}
