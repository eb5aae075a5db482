// Every fault point × (kill, pause) × (shm, simulator with chaos), with real processes:
// whatever dies there, nothing is lost and nothing leaks; whatever pauses there stops
// nobody, and goes on as if nothing had been.
//
// SHEAF_KILL_MATRIX says how much of it runs: `all`, a tenth (0 to 9; by default that of
// the day), or the name of one point.

#include <signal.h>
#include <sys/wait.h>

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
#include "tests/daemon_cells.h"
#include "tests/holdings.h"
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
    {"Shm", true, ""},
    {"SimChaos", false, "backend = \"sim\"\n[sim]\nchaos = true\n"},
};

/// On coherent memory nothing is invalidated, and a fence is all that a put needs.
constexpr std::array<std::string_view, 4> kOnlyIncoherent = {
    "client.seal.after-flush", "client.read.before-invalidate",
    "client.read.after-invalidate", "client.read.after-note"};

// ---- The matrix.

struct Cell {
  FaultPointInfo point;
  uint64_t pass = 1;
  std::string action;  ///< As in SHEAF_FAULT.
  uint32_t node = 0;   ///< Of the victim.
};

/// How often a point is passed, by its name, when the victim is on a node and nothing is
/// armed.
using Passes = std::array<std::map<std::string, uint64_t>, kNodes>;

arrow::Status CountClient(const Survivors& survivors, Passes* passes) {
  for (uint32_t node = 0; node < kNodes; ++node) {
    const Victim victim = Victim::Start(survivors.name(), node, "", survivors.log());
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
  const Victim victim = Victim::Start(
      survivors.name(), cell.node,
      fmt::format("{}={}@{}", cell.point.name, cell.action, cell.pass), survivors.log());
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

/// What no daemon of a cluster that works passes: start_stop_faults_test tries the first
/// two. Of the others an operator asks; a node that is forgotten ends all its sessions,
/// and a session that looks would not survive that (restart_test). group_test tries what
/// is for readers of another user.
constexpr std::string_view kNotAtWork[] = {"daemon.format.", "daemon.stop.",
                                           "daemon.forget-request.", "daemon.certify.",
                                           "daemon.reader-lease."};
/// Steps between nodes whose caches differ.
constexpr std::string_view kDaemonOnlyIncoherent[] = {"daemon.flush-pages-request."};

bool StartsWithAny(std::string_view point, std::span<const std::string_view> prefixes) {
  return std::ranges::any_of(
      prefixes, [&](std::string_view prefix) { return point.starts_with(prefix); });
}

/// Daemons that start under a sanitizer take long: of a tenth they try a fourth.
constexpr bool kIsSlow = SHEAF_ADDRESS_SANITIZER != 0;

/// Which daemon meets a fault, and where the session is.
constexpr std::pair<uint32_t, uint32_t> kDaemonAndNode[] = {{0, 0}, {1, 1}, {0, 1}};

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
std::vector<Cell> CellsOf(size_t index, const Passes& passes) {
  const FaultPointInfo& point = kFaultPoints[index];
  std::set<std::pair<uint64_t, uint32_t>> seen;
  std::vector<Cell> cells;
  for (uint32_t k = 0; k < 3; ++k) {
    const auto node = static_cast<uint32_t>((index + k) % kNodes);
    const uint64_t count = passes[node].at(std::string(point.name));
    const uint64_t pass = std::array{uint64_t{1}, (count + 1) / 2, count}[k];
    if (count == 0 || !seen.emplace(pass, node).second) continue;
    for (const char* action : {"kill", "pause"}) {
      cells.push_back({point, pass, action, node});
    }
  }
  return cells;
}

class KillMatrix : public ::testing::TestWithParam<Setting> {
 protected:
  static void PrintHead() {
    fmt::print("{:8}  {:38}  {:16}  {}\n", "BACKEND", "POINT", "FAULT", "RESULT");
  }
  void Row(std::string_view point, const std::string& cell, const std::string& result) {
    fmt::print("{:8}  {:38}  {:16}  {}\n", GetParam().name, point, cell, result);
    std::fflush(stdout);
  }

  /// After a failure what is left belongs to nobody: the next cell gets a new cluster.
  void Try(const Cell& cell) {
    if (survivors_ == nullptr) {
      ASSERT_OK_AND_ASSIGN(survivors_, Survivors::Start(GetParam()));
    }
    const arrow::Status status = TryClient(*survivors_, cell);
    Row(cell.point.name, fmt::format("{} @{} node {}", cell.action, cell.pass, cell.node),
        status.ok() ? "ok" : "FAILED");
    EXPECT_OK(status) << cell.action << " at pass " << cell.pass << " of "
                      << cell.point.name << " on node " << cell.node;
    if (!status.ok()) survivors_.reset();
  }

  void StartDaemonCells(bool is_impatient) {
    Setting setting = GetParam();
    const std::string config = std::string(kImpatient) + setting.config;
    if (is_impatient) setting.config = config.c_str();
    ASSERT_OK_AND_ASSIGN(survivors_, Survivors::Start(setting));
  }

  arrow::Result<Reached> TryDaemonCell(const DaemonCell& cell) {
    if (!MembershipFault::IsOne(cell.point)) return DaemonFault::Try(*survivors_, cell);
    if (cell.action == "pause") return Reached::kNo;
    return MembershipFault::Try(*survivors_, cell.point, cell.daemon);
  }

  /// Each way to have a daemon killed or stopped there; one of them must reach it.
  void TryDaemon(std::string_view point, std::string_view action) {
    const bool is_membership = MembershipFault::IsOne(point);
    if (is_membership && action == "pause") return;  // as SIGSTOP does it to a node
    // Slots that have been used once are used again.
    const bool needs_new = is_membership || point.starts_with("daemon.slots.");
    if (needs_new) survivors_.reset();
    bool is_reached = false;
    for (const auto& [daemon, node] : kDaemonAndNode) {
      if (survivors_ == nullptr) StartDaemonCells(is_membership || action == "pause");
      ASSERT_NE(survivors_, nullptr);
      const auto reached = TryDaemonCell({point, action, daemon, node});
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
        (GetParam().coherent && StartsWithAny(point, kDaemonOnlyIncoherent));
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

  std::unique_ptr<Survivors> survivors_;
};

TEST_P(KillMatrix, OfTheClient) {
  const std::string chosen = Chosen();
  std::cout << "SHEAF_KILL_MATRIX=" << chosen << '\n';
  ASSERT_OK_AND_ASSIGN(survivors_, Survivors::Start(GetParam()));
  Passes passes;
  ASSERT_OK(CountClient(*survivors_, &passes));
  PrintHead();
  size_t number = 0;
  for (size_t i = 0; i < kFaultPoints.size(); ++i) {
    const FaultPointInfo& point = kFaultPoints[i];
    if (point.program() != "client") continue;
    if (IsNoStep(point, passes)) {
      Row(point.name, "", "no step on coherent memory");
      continue;
    }
    for (const Cell& cell : CellsOf(i, passes)) {
      if (IsChosen(chosen, number++, cell.point.name)) Try(cell);
    }
  }
}

TEST_P(KillMatrix, OfTheDaemon) {
  const std::string chosen = Chosen();
  std::cout << "SHEAF_KILL_MATRIX=" << chosen << '\n';
  PrintHead();
  for (const char* action : {"kill", "pause"}) {
    survivors_.reset();
    size_t number = 0;
    size_t tried = 0;
    for (const FaultPointInfo& point : kFaultPoints) {
      if (point.program() != "daemon") continue;
      if (!IsChosen(chosen, number++, point.name)) continue;
      if (!kIsSlow || chosen.size() > 1 || tried++ % 4 == 0) {
        TryDaemon(point.name, action);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, KillMatrix, ::testing::ValuesIn(kSettings),
                         [](const ::testing::TestParamInfo<Setting>& test) {
                           return test.param.name;
                         });

}  // namespace
}  // namespace sheaf::testing
