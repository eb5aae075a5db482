// Memory of every home that this session builds in: a pool for each.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/extent_source.h"
#include "alloc/region_memory_pool.h"
#include "base/mutex.h"
#include "client/daemon_channel.h"
#include "client/spill_pool.h"
#include "format/message.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief Send a request to the home of `segment`: to this session's daemon, or through
/// it to another one. Otherwise as DaemonChannel::Call.
arrow::Result<Reply> CallHome(DaemonChannel* daemon, const region::Region& region,
                              SegmentId segment, format::Body type,
                              const DaemonChannel::BuildBody& body,
                              const DaemonChannel::OnReply& on_reply = {},
                              const std::function<void()>& first = {});

/// \brief One home's extents, as this session holds them, and the pool that divides them.
class HomePool final : private alloc::ExtentSource {
 public:
  using CheckFn = std::function<arrow::Status()>;

  /// All outlive it. `check` is asked before the home is.
  HomePool(DaemonChannel* daemon, const region::Region* region, SegmentId segment,
           CheckFn check);

  alloc::RegionMemoryPool& pool() { return *pool_; }
  /// \brief The same, and other homes' where it is full.
  SpillPool& spill_pool() { return *spill_pool_; }
  void SetSpillPool(std::unique_ptr<SpillPool> pool) { spill_pool_ = std::move(pool); }
  /// \brief Grants that the session was told of and still uses. Only while the channel
  /// handles a reply, greets or is about to send, one at a time.
  std::vector<format::GrantKey> GrantKeys() const;

 private:
  arrow::Result<alloc::Extent> Acquire(uint64_t size_bytes, uint64_t wish_bytes) override;
  arrow::Status Return(const alloc::Extent& extent) override;
  arrow::Result<alloc::Extent> MakeWritable(const format::GrantReply& grant,
                                            uint64_t size_bytes);
  arrow::Status SendReturn(const format::GrantKey& key);
  region::Part& data() const;
  bool is_own() const;

  DaemonChannel* daemon_;
  const region::Region* region_;
  SegmentId segment_;
  CheckFn check_;
  std::set<std::pair<uint32_t, uint64_t>> grants_;  ///< Number, generation.
  std::unique_ptr<alloc::RegionMemoryPool> pool_;
  std::unique_ptr<SpillPool> spill_pool_;
};

/// \brief The pools of one session, made when they are first asked for. Thread-safe.
class HomePools {
 public:
  /// All outlive it.
  HomePools(DaemonChannel* daemon, region::Region* region, HomePool::CheckFn check);

  /// \brief The own node's.
  HomePool& own() { return *pools_[region_->node().value].load(); }
  /// \brief Invalid if there is no such node; reason node lost, saying what to do, if its
  /// memory is not there.
  arrow::Result<HomePool*> Of(NodeId node);

  /// \brief False if this session never had memory of that segment.
  bool Has(SegmentId segment) const {
    // pairs with the release in Make
    return pools_[segment.value].load(std::memory_order_acquire) != nullptr;
  }
  /// \brief As of RegionMemoryPool, of whichever pool the bytes are in.
  bool IsOpen(const void* address, uint64_t size_bytes) const;
  bool Owns(const void* address, uint64_t size_bytes) const;
  /// \brief Ranges of one segment.
  void MarkSealed(SegmentId segment, const std::vector<alloc::Range>& ranges);

  void ReturnUnused();
  void StopRetaining();
  bool is_empty() const;

 private:
  alloc::RegionMemoryPool* PoolAt(const void* address, uint64_t size_bytes) const;
  std::unique_ptr<HomePool> Make(SegmentId segment);
  std::vector<alloc::RegionMemoryPool*> OthersByFreeBytes(SegmentId home);
  template <typename Action>
  void ForEach(const Action& action) const;

  DaemonChannel* daemon_;
  region::Region* region_;
  HomePool::CheckFn check_;
  Mutex mutex_;
  std::vector<std::unique_ptr<HomePool>> owned_ SHEAF_GUARDED_BY(mutex_);
  /// [nodes]: null until made, then never changes.
  std::vector<std::atomic<HomePool*>> pools_;
};

}  // namespace sheaf::client
