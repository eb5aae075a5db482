// What puts tables by name, over nodes of one process. Not for other code than tests.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/catalog_client.h"
#include "daemon/home_client.h"
#include "daemon/leadership.h"
#include "daemon/membership.h"
#include "daemon/publisher.h"
#include "daemon/reclaimer.h"
#include "daemon/test_node.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

class TestCatalog;
/// Of a message; tests look more often.
constexpr std::chrono::milliseconds kLatency{20};

/// \brief One node's daemon, without sessions and sockets.
struct CatalogNode : Transport {
  CatalogNode(TestCatalog* all, FakeScheduler* fake, TestNode* test_node)
      : clock(fake),
        cluster(all),
        region(test_node->region.get()),
        home(test_node->home.get()),
        lines(&region->own_segment()),
        membership(region, &clock, home->incarnation(),
                   [this](uint64_t off) {
                     const uint64_t next = lines.NextIncarnation(off);
                     home->SetIncarnation(next);
                     return next;
                   }),
        catalog(
            region, [this] { return leadership.leader(); }, this),
        leadership({region, home, &membership, &clock},
                   {[] {}, [this](const auto& leader) { catalog.Believe(leader); },
                    [](const auto&) {}, [this] { return may_claim; },
                    [this] { has_given_way = true; }}),
        reclaimer(region, home, this, &clock),
        homes(region, home, &catalog, &reclaimer, this, &clock),
        publisher(region, home, &catalog, &homes, &clock) {
    session = home->OpenSession().ValueOrDie().id;
    grant = home->Grant(session, uint64_t{1} << 20).ValueOrDie();
  }

  void Beat() {
    lines.Beat();
    clock.After(std::chrono::milliseconds(100), [this] { Beat(); });
  }
  void Update() {
    membership.Update();
    leadership.Update();
    clock.After(std::chrono::milliseconds(50), [this] { Update(); });
  }

  void Request(NodeId node, std::vector<uint8_t> message, ReplyCallback done) override;
  void Serve(Handler) override {}
  using Result = std::optional<arrow::Result<Publisher::Published>>;
  /// \brief `*result` outlives the node, and holds the outcome. `expected` 0: any.
  void Put(const std::string& name, bool replace, Result* result, uint32_t expected = 0) {
    Publisher::Request request;
    request.session = session;
    request.input.request = ++last_request;
    request.replace = replace;
    request.expected_version = expected;
    request.input.name = name;
    request.input.descriptor =
        DescribeRanges(*region, {{{{region->node().value}, grant.extent.offset}, 4096}});
    publisher.Publish(request, [result](const auto& done) { *result = done; });
  }

  NodeClock clock;
  TestCatalog* cluster;
  region::Region* region;
  Home* home;
  NodeLines lines;
  Membership membership;
  CatalogClient catalog;
  Leadership leadership;
  Reclaimer reclaimer;
  HomeClient homes;
  Publisher publisher;
  uint64_t session = 0, last_request = 0;
  Granted grant;
  bool may_claim = true;  ///< For an arbiter.
  bool has_given_way = false;
};

/// \brief All of them. Node 0 leads at first.
class TestCatalog {
 public:
  explicit TestCatalog(uint32_t num_nodes) {
    region::ClusterConfig config = memory_.Config();
    config.nodes = num_nodes;
    config.nodes_max = num_nodes;
    test_nodes_ = MakeNodes(config, &clock_);
    for (TestNode& node : test_nodes_) {
      nodes_.push_back(std::make_unique<CatalogNode>(this, &clock_, &node));
    }
    for (auto& node : nodes_) {
      node->leadership.Start();
      node->Beat();
      node->Update();
    }
  }

  CatalogNode& operator[](uint32_t k) { return *nodes_[k]; }
  /// \brief The daemon of node `k`, which does not lead, dies; the next one finds what it
  /// left. What the former was about to do is not done.
  void Restart(uint32_t k) {
    nodes_[k]->clock.Pause();
    former_.push_back(std::move(nodes_[k]));
    test_nodes_[k].Begin(&clock_);
    nodes_[k] = std::make_unique<CatalogNode>(this, &clock_, &test_nodes_[k]);
    nodes_[k]->leadership.Start();
    nodes_[k]->Beat();
    nodes_[k]->Update();
    nodes_[k]->publisher.Recover();
  }
  void Pass(std::chrono::nanoseconds time) { clock_.Advance(time); }
  bool PassUntil(const std::function<bool()>& condition) {
    for (int i = 0; i < 10000 && !condition(); ++i) Pass(std::chrono::milliseconds(5));
    return condition();
  }

  /// \brief What `done` is told is what happens while nobody is paused.
  void Deliver(NodeId from, NodeId to, std::vector<uint8_t> message, ReplyCallback done) {
    CatalogNode& receiver = *nodes_[to.value];
    CatalogNode& sender = *nodes_[from.value];
    receiver.clock.After(
        kLatency, [from, &receiver, &sender, done, message = std::move(message)] {
          const format::Message& request = *format::GetMessage(message.data());
          const ReplyFn reply = [&sender, done](const std::vector<uint8_t>& bytes) {
            sender.clock.After(kLatency, [done, bytes] {
              const format::Message& answer = *format::GetMessage(bytes.data());
              const arrow::Status status = format::ToStatus(answer);
              if (!status.ok()) return done(status);
              done(&answer);
            });
          };
          if (receiver.catalog.Handle(from, request, reply)) return;
          if (receiver.reclaimer.Handle(request, reply)) return;
          if (!receiver.homes.Handle(request, reply)) {
            reply(format::MakeOutcomeReply(request.request_id(), arrow::Status::OK()));
          }
        });
  }

  /// \brief The node that leads, if just one thinks that it does.
  std::optional<uint32_t> Leader() const {
    std::optional<uint32_t> leader;
    for (uint32_t k = 0; k < nodes_.size(); ++k) {
      if (nodes_[k]->leadership.leader() == nullptr) continue;
      if (leader) return std::nullopt;
      leader = k;
    }
    return leader;
  }

 private:
  region::TestMemory memory_;
  FakeScheduler clock_;
  std::vector<TestNode> test_nodes_;
  std::vector<std::unique_ptr<CatalogNode>> nodes_;
  std::vector<std::unique_ptr<CatalogNode>> former_;  ///< Stand still.
};

inline void CatalogNode::Request(NodeId node, std::vector<uint8_t> message,
                                 ReplyCallback done) {
  cluster->Deliver(region->node(), node, std::move(message), std::move(done));
}

}  // namespace sheaf::daemon
