// Every fault point × (kill, pause) × (shm, simulator with chaos), with real processes:
// whatever dies there, nothing is lost and nothing leaks; whatever pauses there stops
// nobody, and goes on as if nothing had been.
//
// SHEAF_KILL_MATRIX says how much of it runs: `all`, a tenth (0 to 9; by default that of
// the day), or the name of one point.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/fault_info.h"
#include "base/fault_point.h"
#include "platform/sanitizer.h"
#include "testing/arrow_test.h"
#include "tests/daemon_cell.h"
#include "tests/daemon_cells.h"
#include "tests/forget_cells.h"
#include "tests/holdings.h"
#include "tests/leader_cells.h"
#include "tests/member.h"
#include "tests/membership_cells.h"
#include "tests/survivors.h"
#include "tests/victim.h"

namespace sheaf::testing {
namespace {

TEST(Victim, Runs) {
  if (!IsVictim()) GTEST_SKIP() << "runs in the processes that other tests start";
  EXPECT_OK(RunAsVictim());
}

constexpr Setting kSettings[] = {
    {.name = "Shm", .coherent = true, .config = ""},
    {.name = "SimChaos",
     .coherent = false,
     .config = "messages = \"rings\"\nbackend = \"sim\"\n[sim]\nchaos = true\n"},
};
/// Messages of the first go over sockets, of the second through rings.
bool HasRings(const Setting& setting) { return !setting.coherent; }

/// The simulator has no groups: its readers would write to its files (docs/security.md).
constexpr Setting kReaderSettings[] = {
    {.name = "Shm", .coherent = true, .config = "", .others_may_enter = true},
    {.name = "ShmSoftware",
     .coherent = false,
     .config = "coherence = \"software\"\n",
     .others_may_enter = true},
};

/// On coherent memory nothing is invalidated, and a fence is all that a put needs.
constexpr std::array<std::string_view, 4> kOnlyIncoherent = {
    "client.seal.after-flush", "client.read.before-invalidate",
    "client.read.after-invalidate", "client.read.after-note"};

/// Steps of readers of another user (L12), at either end.
constexpr std::array<std::string_view, 3> kOfReaders = {
    "client.reader-lease.", "client.reader-drop.", "daemon.reader-lease."};

bool StartsWithAny(std::string_view point, std::span<const std::string_view> prefixes) {
  return std::ranges::any_of(
      prefixes, [&](std::string_view prefix) { return point.starts_with(prefix); });
}

// ---- The matrix.

struct Cell {
  FaultPointInfo point;
  uint64_t pass = 1;
  std::string action;  ///< As in SHEAF_FAULT.
  uint32_t node = 0;   ///< Of the victim.
  Victim::Kind kind = Victim::Kind::kOwner;
};

/// How often a point is passed, by its name, when the victim is on a node and nothing is
/// armed.
using Passes = std::array<std::map<std::string, uint64_t>, kNodes>;

arrow::Status CountClient(const Survivors& survivors, Victim::Kind kind, Passes* passes) {
  for (uint32_t node = 0; node < kNodes; ++node) {
    const Victim victim =
        Victim::Start(survivors.name(), node, "", survivors.log(), kind);
    if (!EndedWell(victim.Await())) {
      return arrow::Status::Invalid("without a fault: ", Tail(survivors.log()));
    }
    passes->at(node).merge(ReadPasses(survivors.log()));
    ARROW_RETURN_NOT_OK(survivors.AwaitAllBack());
  }
  return arrow::Status::OK();
}

/// A session that is killed or paused.
arrow::Status TryClient(const Survivors& survivors, const Cell& cell) {
  const Victim victim =
      Victim::Start(survivors.name(), cell.node,
                    fmt::format("{}={}@{}", cell.point.name, cell.action, cell.pass),
                    survivors.log(), cell.kind);
  const int status = victim.Await();
  const bool kills = cell.action == "kill";
  const bool reached = kills ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                             : static_cast<bool>(WIFSTOPPED(status));
  const std::string said = fmt::format("at {}, pass {}", cell.point.name, cell.pass);
  const std::string tail = Tail(survivors.log());
  if (!reached || tail.find(said) == std::string::npos) {
    return arrow::Status::Invalid("not reached: ", tail);
  }
  if (kills) return survivors.AwaitAllBack();
  const arrow::Status used = survivors.UseAll();
  victim.Continue();
  const int end = victim.Await();
  ARROW_RETURN_NOT_OK(used);
  if (!EndedWell(end)) {
    return arrow::Status::Invalid("paused, it ended badly: ", Tail(survivors.log()));
  }
  return survivors.AwaitAllBack();
}

/// What no daemon of a cluster that works passes (start_stop_faults_test), or not for so
/// few messages (rings_test).
constexpr std::string_view kNotAtWork[] = {"daemon.format.", "daemon.stop.",
                                           "daemon.ring.before-position",
                                           "daemon.ring.after-position"};
/// Steps between nodes whose caches differ.
constexpr std::string_view kDaemonOnlyIncoherent[] = {"daemon.flush-pages-request."};
constexpr std::string_view kOnlySockets[] = {"daemon.node-hello."};
constexpr std::string_view kOnlyRings[] = {"daemon.ring."};

/// Daemons that start under a sanitizer take long: of a tenth they try a fourth.
constexpr bool kIsSlow = SHEAF_ADDRESS_SANITIZER != 0;

/// Which daemon meets a fault, and where the session is.
/// The last in case that node 1 leads the catalog by now.
constexpr std::pair<uint32_t, uint32_t> kDaemonAndNode[] = {
    {0, 0}, {1, 1}, {0, 1}, {1, 0}};

/// Who stops for so long is gone for the others. Too short a time for a busy machine to
/// say it of one that works, but for the few moments of a cell.
constexpr const char* kImpatient =
    "heartbeat_ms = 20\nsuspect_after_ms = 1000\nsuspect_samples = 5\n";

/// What SHEAF_KILL_MATRIX says; aborts on what it cannot say.
std::string Chosen() {
  const char* text = std::getenv("SHEAF_KILL_MATRIX");
  if (text != nullptr && *text != '\0') {
    const std::string chosen = text;
    const bool is_tenth = chosen.size() == 1 && chosen >= "0" && chosen <= "9";
    SHEAF_CHECK(chosen == "all" || is_tenth ||
                std::ranges::count(kFaultPoints, chosen, &FaultPointInfo::name) == 1);
    return chosen;
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::to_string(std::chrono::duration_cast<std::chrono::days>(now).count() % 10);
}

/// Is the cell with this number in what is to run?
bool IsChosen(const std::string& chosen, size_t number, std::string_view point) {
  if (chosen == "all" || chosen == point) return true;
  // A point's cells alternate between kill and pause: no tenth has only one of them.
  return chosen == std::to_string((number + number / 2) % 10);
}

/// The first, a middle and the last pass, on alternating nodes, each with every action.
std::vector<Cell> CellsOf(size_t index, const Passes& passes, Victim::Kind kind) {
  const FaultPointInfo& point = kFaultPoints[index];
  std::set<std::pair<uint64_t, uint32_t>> seen;
  std::vector<Cell> cells;
  for (uint32_t k = 0; k < 3; ++k) {
    const auto node = static_cast<uint32_t>((index + k) % kNodes);
    const uint64_t count = passes[node].at(std::string(point.name));
    const uint64_t pass = std::array{uint64_t{1}, (count + 1) / 2, count}[k];
    if (count == 0 || !seen.emplace(pass, node).second) continue;
    for (const char* action : {"kill", "pause"}) {
      cells.push_back({point, pass, action, node, kind});
    }
  }
  return cells;
}

class KillMatrix : public ::testing::TestWithParam<Setting> {
 protected:
  static void PrintHead() {
    fmt::print("{:11}  {:38}  {:22}  {}\n", "BACKEND", "POINT", "FAULT", "RESULT");
  }
  void Row(std::string_view point, const std::string& cell, const std::string& result) {
    fmt::print("{:11}  {:38}  {:22}  {}\n", GetParam().name, point, cell, result);
    std::fflush(stdout);
  }

  /// After a failure what is left belongs to nobody: the next cell gets a new cluster.
  void Try(const Cell& cell) {
    if (survivors_ == nullptr) StartFor(cell.kind);
    ASSERT_NE(survivors_, nullptr);
    const arrow::Status status = TryClient(*survivors_, cell);
    Row(cell.point.name, fmt::format("{} @{} node {}", cell.action, cell.pass, cell.node),
        status.ok() ? "ok" : "FAILED");
    EXPECT_OK(status) << cell.action << " at pass " << cell.pass << " of "
                      << cell.point.name << " on node " << cell.node;
    if (!status.ok()) survivors_.reset();
  }

  /// `keys` come before those of the setting, which may begin a table.
  void StartWith(const std::string& keys, Setting setting) {
    const std::string config = keys + setting.config;
    setting.config = config.c_str();
    ASSERT_OK_AND_ASSIGN(survivors_, Survivors::Start(setting));
  }
  /// A cluster for victims of a kind.
  void StartFor(Victim::Kind kind, const std::string& keys = "") {
    const bool reads = kind == Victim::Kind::kReader;
    StartWith(keys + (reads ? fmt::format("group = \"{}\"\n", kReaders) : ""),
              GetParam());
  }
  void StartToForget() {
    Setting setting = GetParam();
    setting.nodes = ForgetFault::kNodesOfCluster;
    StartWith(kImpatient, setting);
  }
  void StartFor(const DaemonCell& cell) {
    if (ForgetFault::IsOne(cell.point)) return StartToForget();
    const bool is_impatient =
        MembershipFault::IsOne(cell.point) || cell.action == "pause";
    StartFor(cell.kind, is_impatient ? kImpatient : "");
  }

  arrow::Result<Reached> TryDaemonCell(const DaemonCell& cell) {
    if (ForgetFault::IsOne(cell.point)) return ForgetFault::Try(*survivors_, cell);
    if (!MembershipFault::IsOne(cell.point)) return DaemonFault::Try(*survivors_, cell);
    return MembershipFault::Try(*survivors_, cell.point, cell.action, cell.daemon);
  }

  /// Each way to have a daemon killed or stopped there; one of them must reach it.
  void TryDaemon(std::string_view point, std::string_view action, Victim::Kind kind) {
    // Slots that have been used once are used again.
    const bool needs_new = MembershipFault::IsOne(point) || ForgetFault::IsOne(point) ||
                           point.starts_with("daemon.slots.");
    if (needs_new) survivors_.reset();
    bool is_reached = false;
    // Where no session works, or only its own daemon passes the point.
    const bool is_own_only =
        MembershipFault::IsOne(point) || point.starts_with("daemon.forget-request.");
    for (const auto& [daemon, node] : kDaemonAndNode) {
      if (is_own_only && daemon != node) continue;
      if (is_reached && daemon > node) continue;
      const DaemonCell cell = {point, action, daemon, node, kind};
      if (survivors_ == nullptr) StartFor(cell);
      ASSERT_NE(survivors_, nullptr);
      const auto reached = TryDaemonCell(cell);
      std::string result = "FAILED";
      if (reached.ok()) result = *reached == Reached::kYes ? "ok" : "not reached";
      is_reached |= !reached.ok() || *reached == Reached::kYes;
      Row(point, fmt::format("{} node {}, from {}", action, daemon, node), result);
      EXPECT_OK(reached) << action << " at " << point << ", daemon " << daemon
                         << ", session on " << node;
      if (!reached.ok()) survivors_.reset();
    }
    if (needs_new) survivors_.reset();
    const bool is_no_step =
        StartsWithAny(point, kNotAtWork) ||
        (GetParam().coherent && StartsWithAny(point, kDaemonOnlyIncoherent)) ||
        (HasRings(GetParam()) ? StartsWithAny(point, kOnlySockets)
                              : StartsWithAny(point, kOnlyRings));
    EXPECT_TRUE(is_reached || is_no_step) << point << " was never reached";
  }

  /// True if the point is no step on this memory; a failure if it is, and was not
  /// reached.
  bool IsNoStep(const FaultPointInfo& point, const Passes& passes) {
    const bool expected =
        GetParam().coherent && std::ranges::count(kOnlyIncoherent, point.name) != 0;
    for (const auto& of_node : passes) {
      EXPECT_EQ(of_node.at(std::string(point.name)) == 0, expected)
          << point.name << (expected ? " was reached" : " was never reached");
    }
    return expected;
  }

  /// All points of the client that a victim of that kind passes and others do not.
  void TryAllOfTheClient(Victim::Kind kind) {
    const std::string chosen = Chosen();
    std::cout << "SHEAF_KILL_MATRIX=" << chosen << '\n';
    StartFor(kind);
    ASSERT_NE(survivors_, nullptr);
    Passes passes;
    ASSERT_OK(CountClient(*survivors_, kind, &passes));
    PrintHead();
    size_t number = 0;
    for (size_t i = 0; i < kFaultPoints.size(); ++i) {
      const FaultPointInfo& point = kFaultPoints[i];
      if (point.program() != "client" || !IsOf(point, kind)) continue;
      if (IsNoStep(point, passes)) {
        Row(point.name, "", "no step on coherent memory");
        continue;
      }
      for (const Cell& cell : CellsOf(i, passes, kind)) {
        if (IsChosen(chosen, number++, cell.point.name)) Try(cell);
      }
    }
  }

  /// All points of the daemon that it passes for victims of that kind only.
  void TryAllOfTheDaemon(Victim::Kind kind) {
    const std::string chosen = Chosen();
    std::cout << "SHEAF_KILL_MATRIX=" << chosen << '\n';
    PrintHead();
    for (const char* action : {"kill", "pause"}) {
      survivors_.reset();
      size_t number = 0;
      size_t tried = 0;
      for (const FaultPointInfo& point : kFaultPoints) {
        if (point.program() != "daemon" || !IsOf(point, kind)) continue;
        if (!IsChosen(chosen, number++, point.name)) continue;
        if (!kIsSlow || chosen.size() > 1 || tried++ % 4 == 0) {
          TryDaemon(point.name, action, kind);
        }
      }
    }
  }

  static bool IsOf(const FaultPointInfo& point, Victim::Kind kind) {
    const bool of_readers = StartsWithAny(point.name, kOfReaders);
    const bool of_operator = ForgetFault::IsOne(point.name);
    switch (kind) {
      case Victim::Kind::kReader:
        return of_readers;
      case Victim::Kind::kOperator:
        return of_operator;
      default:
        return !of_readers && !of_operator;
    }
  }

  std::unique_ptr<Survivors> survivors_;
};

TEST_P(KillMatrix, OfTheClient) { TryAllOfTheClient(Victim::Kind::kOwner); }

TEST_P(KillMatrix, OfTheDaemon) { TryAllOfTheDaemon(Victim::Kind::kOwner); }

TEST_P(KillMatrix, OfForgettingANode) {
  const std::string chosen = Chosen();
  std::cout << "SHEAF_KILL_MATRIX=" << chosen << '\n';
  PrintHead();
  size_t number = 0;
  for (const FaultPointInfo& point : kFaultPoints) {
    if (!point.name.starts_with("client.forget.")) continue;
    for (const char* action : {"kill", "pause"}) {
      const auto node = static_cast<uint32_t>(number / 2 % kNodes);
      if (!IsChosen(chosen, number++, point.name)) continue;
      if (survivors_ == nullptr) StartToForget();
      ASSERT_NE(survivors_, nullptr);
      const arrow::Status tried =
          ForgetFault::TryWhoAsks(*survivors_, {point.name, action, 0, node});
      Row(point.name, fmt::format("{} node {}", action, node),
          tried.ok() ? "ok" : "FAILED");
      EXPECT_OK(tried) << action << " at " << point.name << " on node " << node;
      if (!tried.ok()) survivors_.reset();
    }
  }
  TryAllOfTheDaemon(Victim::Kind::kOperator);
}

TEST_P(KillMatrix, OfTheLeader) {
  const std::string chosen = Chosen();
  std::cout << "SHEAF_KILL_MATRIX=" << chosen << '\n';
  PrintHead();
  size_t number = 0;
  const auto try_all = [&](std::span<const std::string_view> points) {
    for (const std::string_view point : points) {
      for (const char* action : {"kill", "pause"}) {
        if (!IsChosen(chosen, number++, point)) continue;
        if (survivors_ == nullptr) StartFor(Victim::Kind::kOwner, kImpatient);
        ASSERT_NE(survivors_, nullptr);
        const arrow::Status tried = LeaderFault::Try(*survivors_, point, action);
        Row(point, fmt::format("{} who leads", action), tried.ok() ? "ok" : "FAILED");
        EXPECT_OK(tried) << action << " at " << point;
        if (!tried.ok()) survivors_.reset();
      }
    }
  };
  try_all(kLeaderPoints);
  try_all(kClaimPoints);
}

class KillMatrixOfReaders : public KillMatrix {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can start processes of other users";
  }
};

TEST_P(KillMatrixOfReaders, OfTheClient) { TryAllOfTheClient(Victim::Kind::kReader); }

TEST_P(KillMatrixOfReaders, OfTheDaemon) { TryAllOfTheDaemon(Victim::Kind::kReader); }

std::string NameOf(const ::testing::TestParamInfo<Setting>& test) {
  return test.param.name;
}
INSTANTIATE_TEST_SUITE_P(Backends, KillMatrix, ::testing::ValuesIn(kSettings), NameOf);
INSTANTIATE_TEST_SUITE_P(Backends, KillMatrixOfReaders,
                         ::testing::ValuesIn(kReaderSettings), NameOf);

}  // namespace
}  // namespace sheaf::testing
