#include "client/home_pools.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/extent_source.h"
#include "alloc/range.h"
#include "alloc/region_memory_pool.h"
#include "base/fault_point.h"
#include "base/mutex.h"
#include "client/daemon_channel.h"
#include "client/node_info.h"
#include "client/spill_pool.h"
#include "format/lease_cell.h"
#include "format/message.h"
#include "platform/cache.h"
#include "region/region.h"
#include "sheaf/info.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

// A session keeps at most this part of a segment free for its own reuse.
constexpr uint64_t kRetainedDivisor = 16;
/// An extent of another node takes two round trips: what is built there grows by doubling
/// up to this part of its segment.
constexpr uint64_t kRemoteGrowthDivisor = 8;
/// Of the request inside another one: its daemon gives it the number of that.
constexpr uint64_t kInnerRequestId = 1;

std::string NodeText(SegmentId segment) {
  return "node " + std::to_string(segment.value);
}

}  // namespace

arrow::Result<Reply> CallHome(DaemonChannel* daemon, const region::Region& region,
                              SegmentId segment, format::Body type,
                              const DaemonChannel::BuildBody& body,
                              const DaemonChannel::OnReply& on_reply,
                              const std::function<void()>& first) {
  if (segment == region.own_segment().id()) {
    return daemon->Call(type, body, {}, on_reply, first);
  }
  return daemon->Call(
      format::Body::HomeRequest,
      [&](flatbuffers::FlatBufferBuilder* builder) {
        flatbuffers::FlatBufferBuilder inner;
        const auto offset = body(&inner);
        const std::vector<uint8_t> message =
            format::FinishRequest(&inner, kInnerRequestId, type, offset);
        return format::CreateHomeRequestDirect(*builder, segment.value, &message).Union();
      },
      {}, on_reply, first);
}

HomePool::HomePool(DaemonChannel* daemon, const region::Region* region, SegmentId segment,
                   CheckFn check)
    : daemon_(daemon), region_(region), segment_(segment), check_(std::move(check)) {
  alloc::RegionMemoryPool::Options options;
  options.retained_bytes_max =
      std::min(options.retained_bytes_max, data().size_bytes() / kRetainedDivisor);
  if (!is_own()) {
    options.growth_bytes_max =
        std::max(options.growth_bytes_max, data().size_bytes() / kRemoteGrowthDivisor);
  }
  pool_ = std::make_unique<alloc::RegionMemoryPool>(
      static_cast<alloc::ExtentSource*>(this), options);
}

region::Part& HomePool::data() const { return region_->segment(segment_)->data(); }
bool HomePool::is_own() const { return segment_ == region_->own_segment().id(); }

std::vector<format::GrantKey> HomePool::GrantKeys() const {
  std::vector<format::GrantKey> keys;
  keys.reserve(grants_.size());
  for (const auto& [grant, generation] : grants_) keys.emplace_back(grant, 0, generation);
  return keys;
}

arrow::Result<alloc::Extent> HomePool::Acquire(uint64_t size_bytes, uint64_t wish_bytes) {
  ARROW_RETURN_NOT_OK(check_());
  auto reply = CallHome(
      daemon_, *region_, segment_, format::Body::GrantRequest,
      [&](flatbuffers::FlatBufferBuilder* builder) {
        const std::vector<format::GrantKey> known =
            is_own() ? std::vector<format::GrantKey>() : GrantKeys();
        return format::CreateGrantRequestDirect(*builder, size_bytes, wish_bytes,
                                                known.empty() ? nullptr : &known)
            .Union();
      },
      [this](const format::Message& message) {
        if (const auto* grant = message.body_as<format::GrantReply>()) {
          grants_.emplace(grant->grant(), grant->generation());
        }
      });
  // What says that the node is lost names it.
  if (!reply.ok() && !is_own() && !IsNodeLost(reply.status())) {
    return reply.status().WithMessage("memory of ", NodeText(segment_), ": ",
                                      reply.status().message());
  }
  ARROW_RETURN_NOT_OK(reply.status());
  ARROW_ASSIGN_OR_RAISE(const auto* grant,
                        format::BodyAs<format::GrantReply>(reply->message()));
  auto extent = MakeWritable(*grant, size_bytes);
  if (!extent.ok()) {
    const auto returned = SendReturn({grant->grant(), 0, grant->generation()});
    if (!returned.ok()) returned.Warn("a grant could not be returned");
  }
  return extent;
}

arrow::Result<alloc::Extent> HomePool::MakeWritable(const format::GrantReply& grant,
                                                    uint64_t size_bytes) {
  region::Part& part = data();
  const uint64_t epoch = region_->segment(segment_)->header().format_epoch;
  if (format::FormatEpochOf(grant.generation()) != epoch) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                      NodeText(segment_) +
                          " has given up the memory that this session mapped, and grants "
                          "other: connect again to build there");
  }
  if (grant.size_bytes() < size_bytes || grant.size_bytes() > part.size_bytes() ||
      grant.offset() > part.size_bytes() - grant.size_bytes()) {
    return arrow::Status::Invalid("grant of ", grant.offset(), "+", grant.size_bytes(),
                                  " bytes for a request of ", size_bytes);
  }
  alloc::Extent extent{grant.grant(), grant.generation(), grant.offset(),
                       grant.size_bytes(), part.data() + grant.offset()};
  ARROW_RETURN_NOT_OK(
      part.SetWritable(extent.offset, extent.size_bytes, /*writable=*/true));
  PassFaultPoint("client.grant.after-writable");
  part.cache()->Invalidate(extent.data, extent.size_bytes);  // P2
  PassFaultPoint("client.grant.after-invalidate");
  return extent;
}

arrow::Status HomePool::Return(const alloc::Extent& extent) {
  ARROW_RETURN_NOT_OK(check_());
  region::Part& part = data();
  PassFaultPoint("client.return.before-settle");
  part.cache()->Settle(extent.data, extent.size_bytes);  // L10: before it can be free
  PassFaultPoint("client.return.after-settle");
  ARROW_RETURN_NOT_OK(
      part.SetWritable(extent.offset, extent.size_bytes, /*writable=*/false));
  return SendReturn({extent.grant, 0, extent.generation});
}

// If no daemon hears of it, what is said next says it all: this session knows of the
// grant no more.
arrow::Status HomePool::SendReturn(const format::GrantKey& key) {
  const arrow::Status sent =
      CallHome(
          daemon_, *region_, segment_, format::Body::ReturnRequest,
          [&](flatbuffers::FlatBufferBuilder* builder) {
            const auto grants = builder->CreateVectorOfStructs(&key, 1);
            return format::CreateReturnRequest(*builder, grants).Union();
          },
          {}, [&] { grants_.erase({key.grant(), key.generation()}); })
          .status();
  const bool is_unheard = IsDisconnected(sent) || (!is_own() && IsNodeLost(sent));
  return is_unheard ? arrow::Status::OK() : sent;
}

HomePools::HomePools(DaemonChannel* daemon, region::Region* region,
                     HomePool::CheckFn check)
    : daemon_(daemon),
      region_(region),
      check_(std::move(check)),
      pools_(region->num_segments()) {
  owned_.push_back(Make(region_->own_segment().id()));
  pools_[region_->node().value].store(owned_.back().get());
}

std::unique_ptr<HomePool> HomePools::Make(SegmentId segment) {
  auto made = std::make_unique<HomePool>(daemon_, region_, segment, check_);
  made->SetSpillPool(std::make_unique<SpillPool>(
      &made->pool(), [this, segment] { return OthersByFreeBytes(segment); },
      [this](const void* address) { return PoolAt(address, 0); }));
  return made;
}

std::vector<alloc::RegionMemoryPool*> HomePools::OthersByFreeBytes(SegmentId home) {
  std::vector<std::pair<uint64_t, uint32_t>> free;
  for (uint32_t k = 0; k < pools_.size(); ++k) {
    if (SegmentId{k} == home) continue;
    const NodeInfo node = LoadNodeInfo(*region_, k);
    if (node.state == "up") free.emplace_back(node.free_bytes, k);
  }
  std::sort(free.rbegin(), free.rend());
  std::vector<alloc::RegionMemoryPool*> others;
  for (const auto& [bytes, node] : free) {
    const auto made = Of({node});
    if (made.ok()) others.push_back(&(*made)->pool());
  }
  return others;
}

arrow::Result<HomePool*> HomePools::Of(NodeId node) {
  if (node.value >= pools_.size()) {
    return arrow::Status::Invalid("there is no node ", node.value,
                                  ": the cluster has nodes 0 to ", pools_.size() - 1);
  }
  // pairs with the release below
  if (HomePool* made = pools_[node.value].load(std::memory_order_acquire)) {
    return made;
  }
  ARROW_RETURN_NOT_OK(check_());
  const arrow::Status attached = region_->AttachMissing();
  const SegmentId segment{node.value};
  if (region_->segment(segment) == nullptr) {
    ARROW_RETURN_NOT_OK(attached);
    return MakeStatus(
        arrow::StatusCode::IOError, ErrorReason::kNodeLost,
        NodeText(segment) + " was never up, and has no memory: start it with: sheaf up");
  }
  const MutexLock lock(&mutex_);
  if (HomePool* made = pools_[node.value].load(std::memory_order_acquire)) {
    return made;
  }
  owned_.push_back(Make(segment));
  pools_[node.value].store(owned_.back().get(), std::memory_order_release);
  return owned_.back().get();
}

template <typename Action>
void HomePools::ForEach(const Action& action) const {
  for (const auto& entry : pools_) {
    if (HomePool* made = entry.load(std::memory_order_acquire)) action(*made);
  }
}

alloc::RegionMemoryPool* HomePools::PoolAt(const void* address,
                                           uint64_t size_bytes) const {
  const auto found = region_->Locate(address, size_bytes);
  if (!found) return nullptr;
  HomePool* made = pools_[found->segment.value].load(std::memory_order_acquire);
  return made == nullptr ? nullptr : &made->pool();
}

bool HomePools::IsOpen(const void* address, uint64_t size_bytes) const {
  const auto* pool = PoolAt(address, size_bytes);
  return pool != nullptr && pool->FindOpen(address, size_bytes).has_value();
}

bool HomePools::Owns(const void* address, uint64_t size_bytes) const {
  const auto* pool = PoolAt(address, size_bytes);
  return pool != nullptr && pool->Owns(address, size_bytes);
}

void HomePools::MarkSealed(SegmentId segment, const std::vector<alloc::Range>& ranges) {
  HomePool* made = pools_[segment.value].load(std::memory_order_acquire);
  if (made != nullptr && !ranges.empty()) made->pool().MarkSealed(ranges);
}

void HomePools::ReturnUnused() {
  ForEach([](HomePool& home) { home.pool().ReturnUnused(/*keep_retained=*/false); });
}

void HomePools::StopRetaining() {
  ForEach([](HomePool& home) { home.pool().StopRetaining(); });
}

bool HomePools::is_empty() const {
  bool all = true;
  ForEach([&](HomePool& home) { all = all && home.pool().is_empty(); });
  return all;
}

}  // namespace sheaf::client
