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
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "tests/seeded_table.h"
#include "tests/victim.h"
#include "tests/victim_session.h"

namespace sheaf::testing {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kNodes = 2;

TEST(Victim, Runs) {
  if (!IsVictim()) GTEST_SKIP() << "runs in the processes that other tests start";
  EXPECT_OK(RunAsVictim());
}

struct Setting {
  const char* name;
  bool coherent;
  const char* config;
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.name; }

constexpr const char* kSmall =
    "segment_size = \"16MiB\"\nslots_max = 4096\nlease_pages_max = 64\n"
    "records_size = \"16MiB\"\n";
constexpr Setting kSettings[] = {
    {"Shm", true, ""},
    {"SimChaos", false, "backend = \"sim\"\n[sim]\nchaos = true\n"},
};

/// On coherent memory nothing is invalidated, and a fence is all that a put needs.
constexpr std::array<std::string_view, 4> kOnlyIncoherent = {
    "client.seal.after-flush", "client.read.before-invalidate",
    "client.read.after-invalidate", "client.read.after-note"};

// ---- What there is, and whether all of it is right.

/// Everything that a session may hold.
struct Holdings {
  struct Node {
    uint64_t free_bytes = 0;
    uint64_t used_bytes = 0;
    uint64_t largest_free_bytes = 0;
    uint32_t sessions = 0;
    uint32_t objects = 0;
    bool operator==(const Node&) const = default;
  };
  std::vector<Node> nodes;
  uint64_t leases = 0;
  std::set<std::string> files;  ///< Sockets, locks, logs.
  bool operator==(const Holdings&) const = default;

  std::string ToString() const {
    std::string text = fmt::format("{} leases, {} files", leases, files.size());
    for (const Node& node : nodes) {
      text += fmt::format("; {} bytes free, {} used, {} largest, {} sessions, {} objects",
                          node.free_bytes, node.used_bytes, node.largest_free_bytes,
                          node.sessions, node.objects);
    }
    return text;
  }
};

/// A cluster with tables on it, and one session on each node that only looks.
class Survivors {
 public:
  static arrow::Result<std::unique_ptr<Survivors>> Start(const Setting& setting) {
    auto survivors = std::make_unique<Survivors>();
    TestClusterOptions options;
    options.nodes = kNodes;
    options.config_toml = std::string(kSmall) + setting.config;
    options.daemon_path = SHEAFD_BINARY;
    ARROW_ASSIGN_OR_RAISE(survivors->cluster_, TestCluster::Start(options));
    ARROW_RETURN_NOT_OK(survivors->PutTables());
    ARROW_ASSIGN_OR_RAISE(const auto config,
                          region::ClusterConfig::Load(
                              region::ClusterFilePath(survivors->cluster_->name())));
    for (uint32_t k = 0; k < kNodes; ++k) {
      ARROW_ASSIGN_OR_RAISE(survivors->stores_.emplace_back(),
                            survivors->cluster_->Connect(k));
      ARROW_ASSIGN_OR_RAISE(
          survivors->regions_.emplace_back(),
          region::Region::Attach(
              config, {.node = {k}, .role = region::Role::kClient, .relocate = true}));
    }
    const auto is_quiet = [&] {
      const auto now = survivors->Look();
      return now.ok() && std::ranges::all_of(now->nodes, [](const auto& node) {
               return node.sessions == 1;
             });
    };
    if (!Eventually(is_quiet)) return arrow::Status::Invalid("sessions do not end");
    ARROW_RETURN_NOT_OK(survivors->CheckTables());
    ARROW_ASSIGN_OR_RAISE(survivors->before_, survivors->Look());
    return survivors;
  }

  const std::string& name() const { return cluster_->name(); }
  std::string log() const { return cluster_->folder() + "/victim.log"; }

  /// OK if every table, from each node, holds what it should: in memory, not only in a
  /// cache.
  arrow::Status CheckTables() const {
    for (uint32_t k = 0; k < kNodes; ++k) {
      ARROW_RETURN_NOT_OK(Refresh(*regions_[k]));
      ARROW_ASSIGN_OR_RAISE(const auto infos, stores_[k]->List());
      for (const TableInfo& info : infos) {
        ARROW_ASSIGN_OR_RAISE(const Handle handle, HandleOf(info));
        const auto table = stores_[k]->Open(handle);
        // Who paused may be removing it.
        if (IsStaleGeneration(table.status())) continue;
        ARROW_RETURN_NOT_OK(table.status());
        ARROW_RETURN_NOT_OK(CheckSeededTable(**table));
      }
    }
    return arrow::Status::OK();
  }

  /// OK if others put, open and remove as if nobody had stopped.
  arrow::Status UseAll() const {
    for (uint32_t k = 0; k < kNodes; ++k) {
      ARROW_ASSIGN_OR_RAISE(const auto store, cluster_->Connect(k));
      ARROW_RETURN_NOT_OK(store->Put("other", *SeededTable(20 + k, 400)).status());
      ARROW_ASSIGN_OR_RAISE(const auto opened, stores_[1 - k]->Get("other"));
      ARROW_RETURN_NOT_OK(CheckSeededTable(*opened));
      ARROW_RETURN_NOT_OK(stores_[1 - k]->Remove("other"));
    }
    return CheckTables();
  }

  /// OK if all that is left of a victim are tables that it put or was told to keep; and
  /// when those are removed, everything is as it was.
  arrow::Status AwaitAllBack() const {
    const auto sessions_end = [&] {
      const auto now = Look();
      return now.ok() &&
             std::ranges::equal(now->nodes, before_.nodes, {}, &Holdings::Node::sessions,
                                &Holdings::Node::sessions);
    };
    if (!Eventually(sessions_end)) return arrow::Status::Invalid("its session stays");
    ARROW_RETURN_NOT_OK(CheckTables());
    arrow::Status status;
    const bool all_back = Eventually([&] {
      status = RemoveRemains();  // A publish may be under way: it comes later.
      const auto now = Look();
      if (!status.ok() || !now.ok()) return false;
      if (*now == before_) return true;
      status = arrow::Status::Invalid("there is: ", now->ToString(),
                                      "; there was: ", before_.ToString());
      return false;
    });
    if (!all_back) return status;
    return CheckTables();
  }

 private:
  arrow::Status PutTables() const {
    std::vector<std::shared_ptr<Store>> stores;
    for (uint32_t k = 0; k < kNodes; ++k) {
      ARROW_ASSIGN_OR_RAISE(stores.emplace_back(), cluster_->Connect(k));
      const std::string name = "base/" + std::to_string(k);
      ARROW_RETURN_NOT_OK(stores[k]->Put(name, *SeededTable(10 + k, 1000)).status());
    }
    // All bytes of node 0's table, in an object of node 1.
    ARROW_ASSIGN_OR_RAISE(const auto foreign, stores[1]->Get("base/0"));
    ARROW_ASSIGN_OR_RAISE(const auto receipt, stores[1]->Put("base/foreign", *foreign));
    if (receipt.bytes_copied != 0) return arrow::Status::Invalid("bytes were copied");
    // Built side by side: each put of private memory would have an extent for itself.
    std::vector<std::shared_ptr<arrow::Table>> many;
    for (uint64_t i = 0; i < kMany; ++i) {
      const uint64_t seed = 1000 + i;
      many.push_back(SeededTable(seed, 1, stores[0]->memory_pool()));
      ARROW_RETURN_NOT_OK(
          stores[0]->Put(kManyNames + std::to_string(i), *many.back()).status());
    }
    return arrow::Status::OK();
  }

  /// Drops what the caches of this node hold of any named table.
  static arrow::Status Refresh(const region::Region& region) {
    ARROW_ASSIGN_OR_RAISE(const auto listed, directory::List(region));
    for (const auto& [found, record] : listed) {
      platform::CacheControl& cache =
          *region.segment(found.object.segment)->data().cache();
      for (const GlobalRange& range : record.own_ranges) {
        cache.Invalidate(region.Resolve(range), range.size_bytes);
      }
    }
    return arrow::Status::OK();
  }

  arrow::Result<Holdings> Look() const {
    Holdings now;
    ARROW_ASSIGN_OR_RAISE(const auto nodes, stores_[0]->Nodes());
    for (const NodeInfo& node : nodes) {
      now.nodes.push_back({node.free_bytes, node.used_bytes, node.largest_free_bytes,
                           node.sessions, node.objects});
    }
    ARROW_ASSIGN_OR_RAISE(const auto leases, lease::CountLeases(*regions_[0]));
    for (const auto& [cell, count] : leases) now.leases += count;
    for (const auto& entry :
         fs::recursive_directory_iterator(regions_[0]->config().runtime_folder)) {
      now.files.insert(entry.path().string());
    }
    return now;
  }

  arrow::Status RemoveRemains() const {
    ARROW_ASSIGN_OR_RAISE(const auto infos, stores_[0]->List());
    for (const TableInfo& info : infos) {
      if (!info.name.starts_with(kVictimNames)) continue;
      const arrow::Status removed = stores_[0]->Remove(info.name);
      if (!removed.IsKeyError()) ARROW_RETURN_NOT_OK(removed);
    }
    for (uint32_t k = 0; k < kNodes; ++k) {
      const region::Segment& segment = *regions_[0]->segment({k});
      for (uint32_t slot = 0; slot < directory::SlotsUsed(segment); ++slot) {
        ARROW_ASSIGN_OR_RAISE(const auto line, directory::ReadSlot(segment, slot));
        if ((line.flags & format::kSlotKept) == 0 || !directory::IsReadable(line))
          continue;
        ARROW_RETURN_NOT_OK(stores_[0]->Drop(
            Handle{stores_[0]->cluster_id(), ObjectId{{k}, slot, line.generation}}));
      }
    }
    return arrow::Status::OK();
  }

  std::unique_ptr<TestCluster> cluster_;
  std::vector<std::shared_ptr<region::Region>> regions_;  ///< As each node sees it.
  std::vector<std::shared_ptr<Store>> stores_;
  Holdings before_;
};

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

/// Whose points are tried, and how. TODO(#4): a daemon's, with its recovery.
struct Program {
  std::string_view name;
  arrow::Status (*count)(const Survivors& survivors, Passes* passes);
  arrow::Status (*try_cell)(const Survivors& survivors, const Cell& cell);
};
constexpr Program kPrograms[] = {{"client", CountClient, TryClient}};

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
      Row(point, "", "not yet");
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
