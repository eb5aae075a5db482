// Any bytes as a staging list: an error, or a list that says the same when it is written
// again, with entries that lie in it.
//
// Decoders: src/client/staging.cc

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "client/staging.h"
#include "format/layout.h"
#include "fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace client = sheaf::client;
  const std::string bytes = sheaf::fuzz::Input(data, size).TakeText();
  const auto staging = client::DecodeStaging(bytes);
  if (!staging.ok()) return 0;
  SHEAF_CHECK(client::EncodeStaging(*staging) == bytes);
  SHEAF_CHECK(staging->of > 0 && staging->of <= client::kStagedMax);
  SHEAF_CHECK(staging->entries.size() + staging->Missing().size() == staging->of);
  for (const client::StagedEntry& entry : staging->entries) {
    SHEAF_CHECK(entry.index < staging->of && entry.num_rows >= 0);
    SHEAF_CHECK(*staging->Find(entry.index) == entry);
    SHEAF_CHECK(entry.object.segment.value < sheaf::format::kNodesMax);
  }
  return 0;
}
