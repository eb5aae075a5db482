// Rounding and checked conversions between the signed sizes of Arrow's API and the
// unsigned ones of format/.

#pragma once

#include <bit>
#include <cstdint>
#include <utility>

#include "base/check.h"

namespace sheaf {

constexpr uint64_t RoundUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);  // `alignment` is a power of two
}

constexpr uint64_t RoundDown(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);  // `alignment` is a power of two
}

constexpr bool IsAligned(uint64_t value, uint64_t alignment) {
  return (value & (alignment - 1)) == 0;
}

/// \brief The one cast between integer types. The value must fit: our own bug otherwise.
template <typename To, typename From>
constexpr To CheckedCast(From value) {
  SHEAF_CHECK(std::in_range<To>(value));
  return static_cast<To>(value);
}

/// \brief True if [offset, offset + size) lies in [0, limit), without overflow for any
/// input.
constexpr bool FitsWithin(uint64_t offset, uint64_t size, uint64_t limit) {
  return offset <= limit && size <= limit - offset;
}

}  // namespace sheaf
