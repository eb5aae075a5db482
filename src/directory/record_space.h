// Which bytes of the record area are free: best fit with coalescing, in private memory.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

namespace sheaf::directory {

/// \brief Divides [0, size) in granules of 256 B. Memory is really allocated as the used
/// part grows. Rebuilt by `Reserve` from whatever refers into the area. Not thread-safe;
/// the home daemon owns it. Invariant RECORD-1: free blocks are disjoint, apart
/// (coalesced), and lie below `frontier_`; everything below it is really allocated.
class RecordSpace {
 public:
  /// Really allocates a range of the area (Part::Allocate).
  using AllocateFn = std::function<arrow::Status(uint64_t offset, uint64_t size_bytes)>;

  RecordSpace(uint64_t size_bytes, AllocateFn allocate);

  /// \brief The offset of `size_bytes` (> 0), rounded up to granules. CapacityError if no
  /// block is large enough, OutOfMemory if memory is not there; nothing changes then.
  arrow::Result<uint64_t> Allocate(uint64_t size_bytes);
  void Free(uint64_t offset, uint64_t size_bytes);

  /// \brief Rebuild: take a range that is in use. Invalid if it is not inside the area or
  /// overlaps one taken before.
  arrow::Status Reserve(uint64_t offset, uint64_t size_bytes);

  uint64_t free_bytes() const;  ///< Including what is not yet really allocated.

 private:
  using Block = std::map<uint64_t, uint64_t>::iterator;
  arrow::Status Grow(uint64_t size_bytes);
  void Insert(uint64_t offset, uint64_t size_bytes);
  void Erase(Block block);

  uint64_t size_bytes_;
  AllocateFn allocate_;
  uint64_t frontier_ = 0;              ///< Nothing above was ever used.
  std::map<uint64_t, uint64_t> free_;  ///< offset -> size
  std::set<std::pair<uint64_t, uint64_t>>
      by_size_;  ///< (size, offset) of the same blocks
};

}  // namespace sheaf::directory
