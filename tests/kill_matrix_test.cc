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
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/fault_info.h"
#include "base/fault_point.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "tests/survivors.h"
#include "tests/victim.h"
#include "tests/victim_session.h"

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

std::string Tail(const std::string& path) {
  constexpr size_t kMax = 2000;
  std::ifstream file(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  return text.size() > kMax ? text.substr(text.size() - kMax) : text;
}

bool EndedWell(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }

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

/// What a session and its daemons do not pass once they are up: what the next daemon
/// passes when the last one ended well, or other nodes are silent (restart_test), or all
/// memory is new; and what it does for readers of another user (group_test).
constexpr std::string_view kNotInASession[] = {
    "daemon.format.", "daemon.withdraw.",       "daemon.certify.",      "daemon.rejoin.",
    "daemon.stop.",   "daemon.forget-request.", "daemon.keep-request.",
    "daemon.reader-lease.",
};

enum class Reached : uint8_t { kNo, kYes };

/// A daemon that is killed while it starts, or while a session works through it; and the
/// next one, who finds what is left. The session does not see more than a pause.
arrow::Result<Reached> KillDaemonAt(const Survivors& survivors,
                                    const FaultPointInfo& point, uint32_t daemon,
                                    uint32_t node) {
  const TestCluster& cluster = survivors.cluster();
  ARROW_RETURN_NOT_OK(cluster.KillDaemon(daemon));
  if (!cluster.StartMissing(fmt::format("{}=kill", point.name)).ok()) {
    ARROW_RETURN_NOT_OK(cluster.StartMissing());
    ARROW_RETURN_NOT_OK(survivors.UseAll());
    ARROW_RETURN_NOT_OK(survivors.AwaitAllBack());
    return Reached::kYes;
  }
  const auto pidfd = cluster.OpenDaemon(daemon);
  std::atomic<bool> is_over = false;
  std::atomic<bool> is_killed = !pidfd.ok();  // so soon
  arrow::Status restarted;
  std::thread watch([&] {
    while (!is_over && !is_killed) {
      is_killed = platform::HasExited(*pidfd);
      platform::SleepFor(std::chrono::milliseconds(1));
    }
    if (is_killed) restarted = cluster.StartMissing();
  });
  const Victim victim = Victim::Start(survivors.name(), node, "", survivors.log());
  const int end = victim.Await();
  is_over = true;
  watch.join();
  if (!is_killed) {  // it is armed still
    ARROW_RETURN_NOT_OK(cluster.KillDaemon(daemon));
    restarted = cluster.StartMissing();
  }
  ARROW_RETURN_NOT_OK(restarted);
  if (!EndedWell(end)) {
    return arrow::Status::Invalid("a session ended badly: ", Tail(survivors.log()));
  }
  ARROW_RETURN_NOT_OK(survivors.AwaitAllBack());
  return is_killed ? Reached::kYes : Reached::kNo;
}

/// Whose points are tried, and how.
struct Program {
  std::string_view name;
  arrow::Status (*count)(const Survivors& survivors, Passes* passes);
  arrow::Status (*try_cell)(const Survivors& survivors, const Cell& cell);
};
constexpr Program kPrograms[] = {{"client", CountClient, TryClient}};

/// Which daemon dies, and where the session is.
struct DaemonCell {
  uint32_t daemon;
  uint32_t node;
};
constexpr DaemonCell kDaemonCells[] = {{0, 0}, {1, 1}, {0, 1}};

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

/// Nobody said what is to run. TODO(#4): then a tenth of the daemon's points, too.
bool IsOfTheDay() {
  const char* text = std::getenv("SHEAF_KILL_MATRIX");
  return text == nullptr || *text == '\0';
}

/// Is the cell with this number in what is to run?
bool IsChosen(const std::string& chosen, size_t number, const Cell& cell) {
  if (chosen == "all" || chosen == cell.point.name) return true;
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
  void Row(const FaultPointInfo& point, const std::string& cell,
           const std::string& result) {
    fmt::print("{:8}  {:38}  {:16}  {}\n", GetParam().name, point.name, cell, result);
    std::fflush(stdout);
  }

  /// After a failure what is left belongs to nobody: the next cell gets a new cluster.
  void Try(const Program& program, const Cell& cell) {
    if (survivors_ == nullptr) {
      ASSERT_OK_AND_ASSIGN(survivors_, Survivors::Start(GetParam()));
    }
    const arrow::Status status = program.try_cell(*survivors_, cell);
    Row(cell.point, fmt::format("{} @{} node {}", cell.action, cell.pass, cell.node),
        status.ok() ? "ok" : "FAILED");
    EXPECT_OK(status) << cell.action << " at pass " << cell.pass << " of "
                      << cell.point.name << " on node " << cell.node;
    if (!status.ok()) survivors_.reset();
  }

  /// Each way to kill a daemon there; the point must be reached by one of them.
  void TryDaemon(const FaultPointInfo& point) {
    bool is_reached = false;
    for (const auto& [daemon, node] : kDaemonCells) {
      if (survivors_ == nullptr) {
        ASSERT_OK_AND_ASSIGN(survivors_, Survivors::Start(GetParam()));
      }
      const auto reached = KillDaemonAt(*survivors_, point, daemon, node);
      std::string result = "FAILED";
      if (reached.ok()) result = *reached == Reached::kYes ? "ok" : "not reached";
      is_reached |= !reached.ok() || *reached == Reached::kYes;
      Row(point, fmt::format("kill node {}, from {}", daemon, node), result);
      EXPECT_OK(reached) << point.name << ", daemon " << daemon << ", session on "
                         << node;
      if (!reached.ok()) survivors_.reset();
    }
    const bool is_excused = std::ranges::any_of(
        kNotInASession,
        [&](std::string_view prefix) { return point.name.starts_with(prefix); });
    EXPECT_TRUE(is_reached || is_excused) << point.name << " was never reached";
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

TEST_P(KillMatrix, NothingIsLostAndNothingLeaks) {
  const std::string chosen = Chosen();
  std::cout << "SHEAF_KILL_MATRIX=" << chosen << '\n';
  ASSERT_OK_AND_ASSIGN(survivors_, Survivors::Start(GetParam()));
  Passes passes;
  for (const Program& program : kPrograms) ASSERT_OK(program.count(*survivors_, &passes));
  fmt::print("{:8}  {:38}  {:16}  {}\n", "BACKEND", "POINT", "FAULT", "RESULT");
  size_t number = 0;
  for (size_t i = 0; i < kFaultPoints.size(); ++i) {
    const FaultPointInfo& point = kFaultPoints[i];
    const auto program = std::ranges::find(kPrograms, point.program(), &Program::name);
    if (program == std::end(kPrograms)) {
      const Cell as_cell{point, 1, "kill", 0};
      if (!IsOfTheDay() && IsChosen(chosen, number++, as_cell)) TryDaemon(point);
    } else if (IsNoStep(point, passes)) {
      Row(point, "", "no step on coherent memory");
    } else {
      for (const Cell& cell : CellsOf(i, passes)) {
        if (IsChosen(chosen, number++, cell)) Try(*program, cell);
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
