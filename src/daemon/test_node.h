// Homes of a small cluster in one process, under a clock that only the test moves. Not
// for other code than tests.

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "base/check.h"
#include "codec/codec.h"
#include "daemon/home.h"
#include "daemon/node_lines.h"
#include "daemon/scheduler.h"
#include "region/admit_line.h"
#include "region/region.h"
#include "region/test_cluster.h"

namespace sheaf::daemon {

class FakeScheduler : public Scheduler {
 public:
  std::chrono::nanoseconds Now() const override { return now_; }
  void After(std::chrono::nanoseconds delay, std::function<void()> action) override {
    actions_.emplace(now_ + delay, std::move(action));
  }

  /// \brief Let `time` pass; what falls due runs at its time, in order.
  void Advance(std::chrono::nanoseconds time) {
    const auto end = now_ + time;
    while (!actions_.empty() && actions_.begin()->first <= end) {
      auto first = actions_.extract(actions_.begin());
      now_ = std::max(now_, first.key());
      first.mapped()();
    }
    now_ = end;
  }
  size_t num_waiting() const { return actions_.size(); }

 private:
  std::chrono::nanoseconds now_{1};
  std::multimap<std::chrono::nanoseconds, std::function<void()>> actions_;
};

/// \brief The clock of one node, which stands still for what it put off while it is
/// paused.
class NodeClock : public Scheduler {
 public:
  explicit NodeClock(FakeScheduler* clock) : clock_(clock) {}
  std::chrono::nanoseconds Now() const override { return clock_->Now(); }
  void After(std::chrono::nanoseconds delay, std::function<void()> action) override {
    clock_->After(delay, [this, action = std::move(action)]() mutable {
      if (!is_paused_) return action();
      late_.push_back(std::move(action));
    });
  }
  void Pause() { is_paused_ = true; }
  void Continue() {
    is_paused_ = false;
    for (auto& action : std::exchange(late_, {})) After({}, std::move(action));
  }

 private:
  FakeScheduler* clock_;
  bool is_paused_ = false;
  std::vector<std::function<void()>> late_;
};

/// \brief One node: its segment, freshly formatted, and the home of it.
struct TestNode {
  std::shared_ptr<region::Region> region;
  std::unique_ptr<Home> home;

  Home* operator->() const { return home.get(); }

  /// \brief Begin a life of the home; with a former one whose daemon died, the next.
  void Begin(const Scheduler* clock, uint64_t boot = 1) {
    home.reset();
    const HomeLife life = NodeLines(&region->own_segment()).BeginLife(boot);
    home = Home::Make(region.get(), clock, life).ValueOrDie();
  }
};

/// \brief All nodes of `config`, each with its own view of the region, each honoured by
/// all.
inline std::vector<TestNode> MakeNodes(const region::ClusterConfig& config,
                                       const Scheduler* clock) {
  SHEAF_CHECK(region::PrepareMemoryFolder(config).ok());
  std::vector<TestNode> nodes(config.nodes);
  for (uint32_t k = 0; k < config.nodes; ++k) {
    SHEAF_CHECK(region::FormatSegment(config, {k}).ok());
  }
  for (uint32_t k = 0; k < config.nodes; ++k) {
    nodes[k].region =
        region::Region::Attach(config, {{k}, region::Role::kDaemon, true}).ValueOrDie();
    nodes[k].Begin(clock);
  }
  for (TestNode& home : nodes) {
    for (TestNode& node : nodes) {
      region::StoreAdmitted(&home.region->own_segment(), node.region->node(),
                            node->incarnation());
    }
  }
  return nodes;
}

/// \brief A descriptor of one int64 column whose chunks are exactly `ranges` (multiples
/// of 8 bytes).
inline std::shared_ptr<arrow::Buffer> DescribeRanges(
    const region::Region& region, const std::vector<GlobalRange>& ranges) {
  arrow::ArrayVector chunks;
  for (const GlobalRange& range : ranges) {
    const uint8_t* address =
        region.segment(range.begin.segment)->data().data() + range.begin.offset;
    auto buffer =
        std::make_shared<arrow::Buffer>(address, static_cast<int64_t>(range.size_bytes));
    chunks.push_back(arrow::MakeArray(
        arrow::ArrayData::Make(arrow::int64(), static_cast<int64_t>(range.size_bytes / 8),
                               {nullptr, buffer}, 0)));
  }
  const auto table =
      arrow::Table::Make(arrow::schema({arrow::field("x", arrow::int64())}),
                         {std::make_shared<arrow::ChunkedArray>(chunks, arrow::int64())});
  return codec::Encode(
             *table,
             [&](const uint8_t* address, int64_t size) -> arrow::Result<GlobalAddress> {
               const auto found = region.Locate(address, static_cast<uint64_t>(size));
               if (!found) return arrow::Status::Invalid("outside of the region");
               return *found;
             })
      .ValueOrDie();
}

}  // namespace sheaf::daemon
