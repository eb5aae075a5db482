// Damage to memory that others share, done behind their backs: through the file of a
// segment, in a mapping of the test's own.

#pragma once

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <ios>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "base/math.h"
#include "platform/file.h"

namespace sheaf::testing {

/// \brief A byte of a file.
struct FilePlace {
  std::string path;
  uint64_t offset = 0;
};

/// \brief Where this process has `address` from (/proc/self/maps).
inline FilePlace MappedPlaceOf(const void* address) {
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    uintptr_t begin = 0;
    uintptr_t end = 0;
    char dash = 0;
    std::string access;
    uint64_t offset = 0;
    fields >> std::hex >> begin >> dash >> end >> access >> offset;
    if (wanted < begin || wanted >= end) continue;
    return {line.substr(line.find('/')), offset + (wanted - begin)};
  }
  ADD_FAILURE() << "nothing is mapped there";
  return {};
}

/// \brief The same; for a simulated node's image, the memory behind it.
inline FilePlace PlaceOf(const void* address) {
  FilePlace place = MappedPlaceOf(address);
  place.path.resize(std::min(place.path.find(".image"), place.path.size()));
  return place;
}

/// \brief As a stray write, or a cell that lost a bit, would: change the byte at `place`.
inline void FlipByte(const FilePlace& place) {
  const auto fd = platform::OpenFile(place.path, platform::Access::kReadWrite);
  ASSERT_TRUE(fd.ok()) << fd.status();
  const uint64_t size = platform::FileSize(fd->get()).ValueOrDie();
  auto mapping =
      platform::Mapping::Map(fd->get(), size, platform::Access::kReadWrite).ValueOrDie();
  mapping.data()[place.offset] ^= 0x10;
}

}  // namespace sheaf::testing
