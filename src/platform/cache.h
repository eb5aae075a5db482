// Cache lines. This room alone executes cache instructions and fences: cache_*.cc, and
// shared_word.h for the fence of a single store.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

namespace sheaf::platform {

/// \brief The protocol's primitives on a mapped range (docs/protocol.md section 1). One
/// implementation per kind of memory: hardware-coherent, incoherent with CPU
/// instructions, and the simulator's. All calls are thread-safe. Ranges may have any
/// alignment; every line they touch is meant.
class CacheControl {
 public:
  virtual ~CacheControl() = default;

  /// FLUSH: write back and drop the lines of the range. Orders nothing by itself.
  virtual void Flush(const void* address, size_t size_bytes) = 0;

  /// FENCE: waits until earlier flushes have left this node (or arrived, class A), and
  /// orders all earlier accesses before all later ones. On coherent memory: sequentially
  /// consistent.
  virtual void Fence() = 0;

  /// INVAL: drop the lines, then fence, so that later loads see what other nodes wrote.
  virtual void Invalidate(const void* address, size_t size_bytes) = 0;

  /// INVAL of a table's data, which may have gone: IOError with reason damaged where its
  /// memory fails (GuardBusError). What cannot fail under cache operations is left to who
  /// reads it.
  virtual arrow::Status InvalidateGuarded(const void* address, size_t size_bytes) {
    Invalidate(address, size_bytes);
    return arrow::Status::OK();
  }

  /// SETTLE: on return the stores to the range made before are in memory, not merely on
  /// the way.
  virtual void Settle(const void* address, size_t size_bytes) = 0;

  /// True if Flush, Invalidate and Settle do nothing because hardware keeps nodes
  /// coherent.
  virtual bool coherent() const = 0;

  /// Unit of write-back in bytes (64 or 128).
  virtual size_t line_bytes() const = 0;
};

/// \brief When does a write-back arrive in memory (docs/protocol.md section 1)?
enum class SettleClass : uint8_t {
  kArrived,  ///< A: when the fence returns.
  kOrdered,  ///< B: a later load of the same line from memory does not pass it.
  kPosted,   ///< C: within a bound D of real time.
};

/// \brief Memory that hardware keeps coherent between all nodes: only fences remain.
std::unique_ptr<CacheControl> MakeCoherentCacheControl();

/// \brief Memory that is coherent inside this node only: executes this CPU's cache
/// instructions, chosen at run time and self-tested once. NotImplemented if the CPU
/// offers none. `posted_delay_us` is D, used by Settle in class C.
arrow::Result<std::unique_ptr<CacheControl>> MakeSoftwareCacheControl(
    SettleClass settle_class, int64_t posted_delay_us);

/// \brief Which instructions MakeSoftwareCacheControl uses here, e.g. "clflushopt,
/// mfence".
std::string CacheInstructions();

/// \brief Line of write-back of this CPU in bytes.
size_t CacheLineBytes();

/// \brief Copy `size_bytes` (ranges must not overlap) past the caches where the CPU can
/// (non-temporal stores for whole lines, plain stores for the edges), and fence the
/// stores so that a Settle of the range is enough to publish them. `destination` should
/// be 64-aligned.
void StreamingCopy(void* destination, const void* source, size_t size_bytes);

}  // namespace sheaf::platform
