// A byte range of one segment's data part.

#pragma once

#include <compare>
#include <cstdint>

namespace sheaf::alloc {

/// \brief A byte range of one segment's data part.
struct Range {
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  uint64_t end() const { return offset + size_bytes; }
  auto operator<=>(const Range&) const = default;
};

}  // namespace sheaf::alloc
