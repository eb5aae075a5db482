// Three nodes' memberships under a clock that only the test moves. Not for other code
// than tests.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <arrow/status.h>
#include <gtest/gtest.h>

#include "daemon/membership.h"
#include "daemon/node_lines.h"
#include "daemon/test_node.h"
#include "daemon/transport.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "platform/shared_word.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

constexpr std::chrono::milliseconds kLookPeriod{50};

class MembershipTest : public ::testing::Test {
 protected:
  void SetUp() override {
    region::ClusterConfig config = memory_.Config();
    config.nodes = 3;
    nodes_ = MakeNodes(config, &clock_);
    for (uint32_t k = 0; k < nodes_.size(); ++k) {
      lines_.push_back(std::make_unique<NodeLines>(&Segment(k)));
      members_.emplace_back();
      Begin(k);
    }
    Pass(2 * kLookPeriod, {0, 1});
  }

  void Begin(uint32_t k) {
    members_[k] = std::make_unique<Membership>(
        nodes_[k].region.get(), &clock_, nodes_[k]->incarnation(),
        [this, k](uint64_t off) {
          if (off != 0 && sessions_left_ > 0) return uint64_t{0};
          const uint64_t incarnation = lines_[k]->NextIncarnation(off);
          nodes_[k]->SetIncarnation(incarnation);
          return incarnation;
        });
  }

  region::Segment& Segment(uint32_t k) { return nodes_[k].region->own_segment(); }
  /// The `n`-th incarnation that node `k` begins, from 1 on.
  uint64_t NthOf(uint32_t k, uint64_t n) {
    return format::FirstGeneration(Segment(k).header().format_epoch) + n - 1;
  }
  region::AdmitLine Seen(uint32_t by, uint32_t node) {
    return region::LoadAdmitLine(Segment(by), {node});
  }
  bool Honours(uint32_t home, uint32_t node) {
    return region::IsHonoured(*nodes_[node].region->segment({home}), Segment(node));
  }

  // As a daemon leaves it that stops or dies after it began to write.
  void TearLine(uint32_t k) {
    uint64_t* line = Segment(k).NodeLine(format::NodeLine::kIncarnation);
    platform::SharedWord(line).StoreRelease(region::kBusyLine);
    Segment(k).control().cache()->Flush(line, sizeof(*line));
  }

  // The answer; nothing before D is over.
  arrow::Status Forget(uint32_t node) {
    std::optional<arrow::Status> answer;
    members_[0]->Forget({node}, [&](const arrow::Status& status) { answer = status; });
    if (!answer) clock_.Advance(Delay());
    return answer.value_or(arrow::Status::UnknownError("no answer"));
  }
  std::chrono::nanoseconds Delay() {
    return std::chrono::microseconds(nodes_[0].region->config().posted_delay_us);
  }

  // Daemons of `alive` beat and look every 50 ms.
  void Pass(std::chrono::milliseconds time, const std::vector<uint32_t>& alive) {
    for (std::chrono::milliseconds passed{0}; passed < time; passed += kLookPeriod) {
      clock_.Advance(kLookPeriod);
      for (const uint32_t k : alive) {
        lines_[k]->Beat();
        members_[k]->Update();
      }
    }
  }

  region::TestMemory memory_;
  FakeScheduler clock_;
  std::vector<TestNode> nodes_;
  std::vector<std::unique_ptr<NodeLines>> lines_;
  std::vector<std::unique_ptr<Membership>> members_;
  int sessions_left_ = 0;
  class Nobody : public Transport {
   public:
    void Request(NodeId /*node*/, std::vector<uint8_t> /*message*/,
                 ReplyCallback /*done*/) override {}
    void Serve(Handler /*handler*/) override {}
  };
  Nobody nobody_;
};

}  // namespace sheaf::daemon
