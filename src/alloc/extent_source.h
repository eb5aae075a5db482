// Where a pool gets its memory.

#pragma once

#include <cstdint>

#include <arrow/result.h>
#include <arrow/status.h>

namespace sheaf::alloc {

/// \brief A coarse extent that this session may write: `grant` and `generation` name the
/// grant.
struct Extent {
  uint32_t grant = 0;
  uint64_t generation = 0;
  uint64_t offset = 0;  ///< In the home segment's data part; a multiple of the granule.
  uint64_t size_bytes = 0;
  uint8_t* data = nullptr;  ///< Mapped writable in this process; page-aligned.
};

/// \brief Where a pool gets its extents: a session with a home daemon, or a test's arena.
/// Called by the pool with its lock held, from any thread; must not call the pool.
class ExtentSource {
 public:
  virtual ~ExtentSource() = default;
  /// \brief One extent of at least `size_bytes`, of `wish_bytes` if that is easy to have;
  /// writable, invalidated (P2). OutOfMemory as RangeMap::Grant.
  virtual arrow::Result<Extent> Acquire(uint64_t size_bytes, uint64_t wish_bytes) = 0;
  /// \brief Give a grant back; none of its unsealed bytes is in use. Flushed by the
  /// source. The pool forgets the extent even if this fails: what became of it then is
  /// for the source to find out.
  virtual arrow::Status Return(const Extent& extent) = 0;
};

}  // namespace sheaf::alloc
