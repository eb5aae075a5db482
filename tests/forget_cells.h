// The cells of a kill matrix in which a daemon, or who asks, dies or stops while a node
// is forgotten.

#pragma once

#include <signal.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>

#include "sheaf/sheaf.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "tests/armed_daemon.h"
#include "tests/daemon_cell.h"
#include "tests/daemon_cells.h"
#include "tests/seeded_table.h"
#include "tests/survivors.h"
#include "tests/victim.h"

namespace sheaf::testing {

/// \brief One process that is killed or stopped while a node is forgotten (F8). A third
/// node dies with all its processes, which hold leases of the others' tables and an open
/// extent; a session on another node has it forgotten. The request is answered whatever
/// became of a daemon, and asked again when the session died; what only the dead leased
/// is free then. After that the node comes back, and a session that is new there looks.
class ForgetFault {
 public:
  /// The forgotten one is the last: no session of `Survivors` is there.
  static constexpr uint32_t kNodesOfCluster = kForgottenNode + 1;

  static bool IsOne(std::string_view point) {
    return point.starts_with("daemon.certify.") ||
           point.starts_with("daemon.forget-request.");
  }

  /// `survivors` are on that many nodes, and withdraw who is silent soon. `cell.node` is
  /// where a session asks.
  static arrow::Result<Reached> Try(const Survivors& survivors, const DaemonCell& cell) {
    return ForgetFault(survivors, cell).Run();
  }

  /// The session is killed or stopped at `cell.point`, one of the client.
  static arrow::Status TryWhoAsks(const Survivors& survivors, const DaemonCell& cell) {
    return ForgetFault(survivors, cell).RunWhoAsks();
  }

 private:
  ForgetFault(const Survivors& survivors, const DaemonCell& cell)
      : survivors_(survivors), cell_(cell), fault_(survivors, cell) {}

  arrow::Result<Reached> Run() {
    ARROW_RETURN_NOT_OK(fault_.AwaitHonoured());
    ARROW_ASSIGN_OR_RAISE(const auto before, Objects());
    ARROW_RETURN_NOT_OK(survivors_.cluster().KillDaemon(cell_.daemon));
    {
      std::optional<ArmedDaemon> next;
      const std::string log = survivors_.log() + ".daemon";
      // That daemon alone: the forgotten node is to stay away.
      fault_.StartNextBy([&] {
        next.emplace(survivors_.name(), cell_.daemon, "", log);
        return arrow::Status::OK();
      });
      ArmedDaemon armed(survivors_.name(), cell_.daemon,
                        fmt::format("{}={}", cell_.point, cell_.action), log);
      ARROW_ASSIGN_OR_RAISE(const bool is_up, fault_.AwaitUp(&armed));
      if (!is_up) return arrow::Status::Invalid("the daemon died while it started");
      ARROW_RETURN_NOT_OK(LeaveDead(before));
      // The next daemon dies with the thread that started it.
      const DaemonFault::Watch watch(&fault_, &armed);
      ARROW_RETURN_NOT_OK(Forget());
      ARROW_RETURN_NOT_OK(AwaitFreed(before));
      ARROW_RETURN_NOT_OK(fault_.AwaitHonoured(kNodes));
    }
    return fault_.Finish();
  }

  arrow::Status RunWhoAsks() {
    ARROW_RETURN_NOT_OK(fault_.AwaitHonoured());
    ARROW_ASSIGN_OR_RAISE(const auto before, Objects());
    ARROW_RETURN_NOT_OK(LeaveDead(before));
    const Victim asks = Victim::Start(survivors_.name(), cell_.node,
                                      fmt::format("{}={}", cell_.point, cell_.action),
                                      survivors_.log(), Victim::Kind::kOperator);
    const bool is_killed = cell_.action == "kill";
    const int status = asks.Await();
    if (is_killed ? !WIFSIGNALED(status) : !WIFSTOPPED(status)) {
      return arrow::Status::Invalid("not reached: ", Tail(survivors_.log()));
    }
    const arrow::Status looked = survivors_.CheckTables();
    if (is_killed) {
      ARROW_RETURN_NOT_OK(Forget());
    } else {
      asks.Continue();
      if (!EndedWell(asks.Await())) {
        return arrow::Status::Invalid("it ended badly: ", Tail(survivors_.log()));
      }
    }
    ARROW_RETURN_NOT_OK(looked);
    ARROW_RETURN_NOT_OK(AwaitFreed(before));
    return fault_.Finish().status();
  }

  // A node without a process, whose leases keep a removed table on each other node.
  arrow::Status LeaveDead(const std::vector<uint32_t>& before) {
    const TestCluster& cluster = survivors_.cluster();
    for (uint32_t k = 0; k < kNodes; ++k) {
      ARROW_ASSIGN_OR_RAISE(const auto store, cluster.Connect(k));
      ARROW_RETURN_NOT_OK(store->Put(Held(k), *SeededTable(30 + k, 200)).status());
    }
    // By then it leases all, and has copied what it is about to put.
    const Victim victim = Victim::Start(
        survivors_.name(), kGone, "client.seal.before-request=pause@6", survivors_.log());
    if (!WIFSTOPPED(victim.Await())) {
      return arrow::Status::Invalid("it does not stop: ", Tail(survivors_.log()));
    }
    // The clients first, as an operator must; the daemon does not see their end.
    ARROW_RETURN_NOT_OK(cluster.SignalDaemon(kGone, SIGSTOP));
    victim.Kill();
    victim.Await();
    ARROW_RETURN_NOT_OK(cluster.KillDaemon(kGone));
    for (uint32_t k = 0; k < kNodes; ++k) {
      ARROW_RETURN_NOT_OK(survivors_.store(k).Remove(Held(k)));
    }
    if (!AllSay("withdrawn")) {
      return arrow::Status::Invalid("a dead node is not withdrawn");
    }
    ARROW_ASSIGN_OR_RAISE(const auto now, Objects());
    for (uint32_t k = 0; k < kNodes; ++k) {
      if (now[k] > before[k]) continue;
      return arrow::Status::Invalid("what a withdrawn node leases on node ", k,
                                    " is freed");
    }
    return arrow::Status::OK();
  }

  // Of a daemon that paused others take nothing until it is back: who asks tries again.
  arrow::Status Forget() const {
    ARROW_ASSIGN_OR_RAISE(const auto store, survivors_.cluster().Connect(cell_.node));
    arrow::Status status;
    const auto is_answered = [&] {
      status = store->ForgetNode(kGone);
      return cell_.action == "kill" || !IsNodeLost(status);
    };
    return Eventually(is_answered) ? status
                                   : status.WithMessage("for ever: ", status.message());
  }

  // Each home counts the node's leases no more, whichever daemon it has by now.
  arrow::Status AwaitFreed(const std::vector<uint32_t>& before) const {
    if (!AllSay("off")) return arrow::Status::Invalid("a node does not count as off");
    const bool is_freed = Eventually([&] {
      const auto now = Objects();
      return now.ok() && (*now)[0] == before[0] && (*now)[1] == before[1];
    });
    return is_freed ? arrow::Status::OK()
                    : arrow::Status::Invalid("what a forgotten node leases stays");
  }

  bool AllSay(const std::string& state) const {
    return Eventually([&] {
      return fault_.StateOf(0, kGone) == state && fault_.StateOf(1, kGone) == state;
    });
  }

  arrow::Result<std::vector<uint32_t>> Objects() const {
    ARROW_ASSIGN_OR_RAISE(const auto nodes, survivors_.store(0).Nodes());
    std::vector<uint32_t> objects;
    for (const NodeInfo& node : nodes) objects.push_back(node.objects);
    return objects;
  }

  static std::string Held(uint32_t node) { return "held/" + std::to_string(node); }

  static constexpr uint32_t kGone = kForgottenNode;
  const Survivors& survivors_;
  const DaemonCell cell_;
  DaemonFault fault_;
};

}  // namespace sheaf::testing
