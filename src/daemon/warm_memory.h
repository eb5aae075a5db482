// Which bytes of the data part really exist.

#pragma once

#include <cstdint>
#include <map>

#include <arrow/status.h>

#include "alloc/range_map.h"
#include "region/region.h"

namespace sheaf::daemon {

/// \brief Remembers what was ever allocated, so that reused memory costs nothing: freed
/// ranges stay warm. Single-threaded.
class WarmMemory {
 public:
  explicit WarmMemory(region::Part* data) : data_(data) {}

  /// \brief Allocate what of `range` never was. OutOfMemory if the memory is not there;
  /// what was allocated on the way stays warm.
  arrow::Status Warm(const alloc::Range& range);

  uint64_t warm_bytes() const { return warm_bytes_; }

 private:
  arrow::Status WarmGap(uint64_t begin, uint64_t end);

  region::Part* data_;
  std::map<uint64_t, uint64_t> warm_;  ///< Begin -> end; disjoint, neighbours merged.
  uint64_t warm_bytes_ = 0;
};

}  // namespace sheaf::daemon
