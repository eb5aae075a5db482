// The cells of a kill matrix in which the catalog's leader dies or stops, or the node
// that claims after it.

#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>

#include "sheaf/sheaf.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "tests/armed_daemon.h"
#include "tests/seeded_table.h"
#include "tests/survivors.h"
#include "tests/victim_session.h"

namespace sheaf::testing {

/// Where a leader dies or stops while another node's put by name is under way.
constexpr std::array<std::string_view, 4> kLeaderPoints = {
    "daemon.bind-reply.before-send", "daemon.bind-reply.after-send",
    "daemon.commit-reply.before-send", "daemon.commit-reply.after-send"};
/// Where a node dies or stops that claims because the leader is gone.
constexpr std::array<std::string_view, 6> kClaimPoints = {
    "daemon.claim.before-epoch",  "daemon.claim.after-epoch",
    "daemon.claim.after-scan",    "daemon.claim.after-confirm",
    "daemon.index.before-header", "daemon.index.after-header"};

/// \brief One change of leader that is disturbed. Nobody starts the leader's daemon
/// again, or lets it go on, before the put of the other node is done; one that claims is
/// followed by the leader of before. Afterwards all nodes put, open and remove, and all
/// is as it was.
class LeaderFault {
 public:
  static arrow::Status Try(const Survivors& survivors, std::string_view point,
                           std::string_view action) {
    LeaderFault fault(survivors, point, action);
    const bool is_claim =
        point.starts_with("daemon.claim.") || point.starts_with("daemon.index.");
    ARROW_ASSIGN_OR_RAISE(fault.leader_, fault.AwaitLeader());
    ARROW_RETURN_NOT_OK(is_claim ? fault.DisturbClaim() : fault.DisturbLeader());
    ARROW_RETURN_NOT_OK(survivors.cluster().StartMissing());
    ARROW_RETURN_NOT_OK(fault.AwaitAllUp());
    ARROW_RETURN_NOT_OK(fault.AwaitLeader().status());
    ARROW_RETURN_NOT_OK(survivors.UseAll());
    return survivors.AwaitAllBack();
  }

 private:
  using State = ArmedDaemon::State;

  LeaderFault(const Survivors& survivors, std::string_view point, std::string_view action)
      : survivors_(survivors),
        fault_(fmt::format("{}={}", point, action)),
        is_killed_(action == "kill") {}

  /// Node 0 and node 1 agree.
  arrow::Result<uint32_t> AwaitLeader() const {
    uint32_t leader = 0;
    const bool is_there = Eventually([&] {
      const auto nodes = survivors_.store(0).Nodes();
      if (!nodes.ok()) return false;
      for (const NodeInfo& node : *nodes) {
        if (!node.is_leader || node.state != "up") continue;
        leader = node.id;
        return true;
      }
      return false;
    });
    if (is_there) return leader;
    return arrow::Status::Invalid("nobody leads the catalog");
  }

  arrow::Status AwaitAllUp() const {
    const auto are_up = [&] {
      for (const uint32_t k : {0U, 1U}) {
        const auto nodes = survivors_.store(k).Nodes();
        if (!nodes.ok() || (*nodes)[0].state != "up" || (*nodes)[1].state != "up") {
          return false;
        }
      }
      return true;
    };
    return Eventually(are_up) ? arrow::Status::OK()
                              : arrow::Status::Invalid("a node does not come back");
  }

  arrow::Status StartArmed(uint32_t node, std::unique_ptr<ArmedDaemon>* armed) const {
    ARROW_RETURN_NOT_OK(survivors_.cluster().KillDaemon(node));
    *armed = std::make_unique<ArmedDaemon>(survivors_.name(), node, fault_,
                                           survivors_.log() + ".daemon");
    const bool is_up = Eventually([&] {
      return survivors_.cluster().OpenDaemon(node).ok() ||
             (*armed)->Look() != State::kRuns;
    });
    if (is_up && (*armed)->Look() == State::kRuns) return arrow::Status::OK();
    return arrow::Status::Invalid("the armed daemon does not start");
  }

  arrow::Status AwaitReached(ArmedDaemon* armed) const {
    const State end = is_killed_ ? State::kEnded : State::kStopped;
    if (Eventually([&] { return armed->Look() == end; })) return arrow::Status::OK();
    return arrow::Status::Invalid("the point is not reached");
  }

  arrow::Status DisturbLeader() const {
    const uint32_t other = 1 - leader_;
    std::unique_ptr<ArmedDaemon> armed;
    // It leads again, by a claim of its own: that it passes entries is no change of one.
    ARROW_RETURN_NOT_OK(StartArmed(leader_, &armed));
    ARROW_ASSIGN_OR_RAISE(const uint32_t leads, AwaitLeader());
    if (leads != leader_) return arrow::Status::Invalid("it came back too late to lead");
    const std::string name = std::string(kVictimNames) + "led";
    Store& store = survivors_.store(other);
    for (const bool replace : {false, true}) {
      ARROW_RETURN_NOT_OK(store
                              .Put(name, *SeededTable(replace ? 31 : 30, 300),
                                   {.replace = replace, .expected_version = {}})
                              .status());
    }
    ARROW_RETURN_NOT_OK(AwaitReached(armed.get()));
    ARROW_RETURN_NOT_OK(CheckLast(store, name));
    if (!is_killed_) armed->Continue();
    return Keep(std::move(armed));
  }

  /// Nothing is held when daemons are forked: its lease would last as long as the
  /// session.
  static arrow::Status CheckLast(Store& store, const std::string& name) {
    ARROW_ASSIGN_OR_RAISE(const auto opened, store.Get(name));
    ARROW_RETURN_NOT_OK(CheckSeededTable(*opened));
    if (opened->Equals(*SeededTable(31, 300))) return arrow::Status::OK();
    return arrow::Status::Invalid("the version before is found");
  }

  arrow::Status DisturbClaim() const {
    const uint32_t other = 1 - leader_;
    std::unique_ptr<ArmedDaemon> armed;
    ARROW_RETURN_NOT_OK(StartArmed(other, &armed));
    ARROW_RETURN_NOT_OK(survivors_.cluster().KillDaemon(leader_));
    ARROW_RETURN_NOT_OK(AwaitReached(armed.get()));
    if (is_killed_) armed.reset();
    if (is_killed_) return survivors_.cluster().StartMissing();
    ARROW_RETURN_NOT_OK(StartUnarmed(leader_));
    // Past the claim that stands still.
    ARROW_RETURN_NOT_OK(
        survivors_.store(leader_)
            .Put(std::string(kVictimNames) + "claim", *SeededTable(32, 300))
            .status());
    armed->Continue();
    return Keep(std::move(armed));
  }

  /// The other's daemon stands still: `sheaf up` would wait for it.
  arrow::Status StartUnarmed(uint32_t node) const {
    unarmed_ = std::make_unique<ArmedDaemon>(survivors_.name(), node, "",
                                             survivors_.log() + ".next");
    const bool is_up =
        Eventually([&] { return survivors_.cluster().OpenDaemon(node).ok(); });
    return is_up ? arrow::Status::OK()
                 : arrow::Status::Invalid("the leader's daemon does not start again");
  }

  /// Daemons that go on do so as children of this process until all is checked.
  arrow::Status Keep(std::unique_ptr<ArmedDaemon> armed) const {
    ARROW_RETURN_NOT_OK(survivors_.cluster().StartMissing());
    ARROW_RETURN_NOT_OK(AwaitAllUp());
    ARROW_RETURN_NOT_OK(AwaitLeader().status());
    ARROW_RETURN_NOT_OK(survivors_.UseAll());
    // They end as killed ones do: the next are nobody's children.
    armed.reset();
    unarmed_.reset();
    return arrow::Status::OK();
  }

  const Survivors& survivors_;
  std::string fault_;
  bool is_killed_;
  uint32_t leader_ = 0;
  mutable std::unique_ptr<ArmedDaemon> unarmed_;
};

}  // namespace sheaf::testing
