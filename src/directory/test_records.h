// Records for this room's tests.

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <arrow/buffer.h>

#include "directory/directory.h"
#include "sheaf/types.h"

namespace sheaf::directory {

inline Record MakeRecord(const std::string& name, uint32_t segment = 0,
                         size_t descriptor_size = 100, char fill = 'd') {
  Record record;
  record.name = name;
  record.creator_session = 11;
  record.created_unix_ns = 1'700'000'000'000'000'000;
  record.num_rows = 1000;
  record.num_columns = 3;
  record.num_chunks = 6;
  record.data_bytes = 4096;
  record.own_ranges = {{{{segment}, 256}, 512}, {{{segment}, 4096}, 256}};
  record.references = {{{segment + 1}, 5, 77}, {{segment + 2}, 0, 78}};
  record.reference_extents = {{{{segment + 1}, 512}, 1024}, {{{segment + 2}, 0}, 256}};
  record.descriptor = arrow::Buffer::FromString(std::string(descriptor_size, fill));
  return record;
}

/// SplitMix64: the same numbers on every machine.
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  uint64_t Below(uint64_t limit) { return Next() % limit; }

 private:
  uint64_t state_;
};

}  // namespace sheaf::directory
