// Question: what do 1,024 nodes with a million tables cost, where does it grow, and what
// must change then? Real control parts of all nodes (shm, software coherence: every line
// that another node wrote is flushed from the cache and loaded), made by the code that
// daemons run; one process acts as node 0. Not measured: messages, and the time that a
// slower fabric adds to a line (docs/scale.md multiplies by lines). Bounding resource:
// lines that must come from memory, 0.15 to 0.3 us each here.

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <benchmark/benchmark.h>

#include "base/check.h"
#include "daemon/membership.h"
#include "daemon/node_lines.h"
#include "daemon/test_node.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/test_records.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"

namespace sheaf {
namespace {

constexpr int kSuspectSamples = 1000;
constexpr int kLeasesPerNode = 500;
constexpr uint64_t kSession = 5;
constexpr uint32_t kEpochOfTables = 1;

void Must(const arrow::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  SHEAF_CHECK(false);
}

std::string NameOf(uint64_t table) { return "table-" + std::to_string(table); }

/// Control and leases parts of a whole cluster, as its daemons left them: tables bound,
/// spread over all nodes, each node leasing some.
class ScaleCluster {
 public:
  ScaleCluster(uint32_t nodes, uint64_t tables) : nodes_(nodes), tables_(tables) {
    config_ = memory_.Config();
    config_.coherence = region::Coherence::kSoftware;
    config_.huge_pages = false;
    config_.nodes = nodes;
    config_.nodes_max = std::max(64U, nodes);
    config_.segment_size_bytes = uint64_t{2} << 20;
    config_.slots_max = 1U << 20;
    config_.records_size_bytes = uint64_t{1} << 30;
    config_.suspect_after_ms = kSuspectSamples * 50;  // each look is a sample
    config_.suspect_samples = kSuspectSamples;
    config_.heartbeat_ms = 10;
    Must(region::PrepareMemoryFolder(config_));
    for (uint32_t k = 0; k < nodes; ++k) {
      Must(region::FormatSegment(config_, {k}));
    }
    for (uint32_t k = nodes; k-- > 0;) Populate(k);
  }

  uint32_t nodes() const { return nodes_; }
  uint64_t tables() const { return tables_; }
  region::Region& region() { return *region_; }
  directory::HomeDirectory& home() { return *home_; }
  lease::CellTable& cells() { return *cells_; }

  /// The catalog of node 0, for those that look names up.
  void Lead() {
    if (leader_ == nullptr) Claim();
  }
  void Claim() {
    leader_.reset();
    const uint32_t epoch =
        directory::NextEpoch(region::SegmentsOf(*region_), {0}).ValueOrDie();
    leader_ =
        directory::CatalogLeader::Claim(region_.get(), home_.get(), epoch).ValueOrDie();
  }

  /// Memory that the control part of the busiest node really has.
  uint64_t ControlBytes() const {
    uint64_t most = 0;
    for (uint32_t k = 1; k < nodes_; ++k) most = std::max(most, BytesOf(k));
    return nodes_ == 1 ? BytesOf(0) : most;
  }
  uint64_t LeaderBytes() const { return BytesOf(0); }

 private:
  // The last one is node 0, whose view stays.
  void Populate(uint32_t k) {
    home_.reset();
    region_ =
        region::Region::Attach(config_, {{k}, region::Role::kDaemon, true}).ValueOrDie();
    region::Segment& own = region_->own_segment();
    daemon::NodeLines(&own).BeginLife(/*boot=*/1);
    for (uint32_t node = 0; node < nodes_; ++node) region::StoreAdmitted(&own, {node}, 1);
    home_ = std::make_unique<directory::HomeDirectory>(&own);
    for (uint64_t table = k; table < tables_; table += nodes_) {
      directory::Record record = directory::MakeRecord(NameOf(table), k);
      record.references.clear();
      record.reference_extents.clear();
      const ObjectId id = home_->Seal(record, format::kSlotNamed).ValueOrDie();
      SHEAF_CHECK(home_->SetVersion(id, kEpochOfTables, 1).ok());
      SHEAF_CHECK(home_->Bind(id).ok());
    }
    pages_ = std::make_unique<lease::PageTable>(&own);
    cells_ = std::make_unique<lease::CellTable>(
        &own, std::vector<uint32_t>{}, [this] { return pages_->Activate(kSession); },
        platform::SettleClass::kArrived);
    for (uint32_t i = 0; i < kLeasesPerNode; ++i) {
      const NodeId home{(k + i) % nodes_};
      const uint64_t epoch = region_->segment({home.value})->header().format_epoch;
      SHEAF_CHECK(cells_->Write({{home.value}, i, format::FirstGeneration(epoch)}).ok());
    }
  }

  uint64_t BytesOf(uint32_t k) const {
    uint64_t bytes = 0;
    for (const char* part : {"control", "leases"}) {
      struct stat file = {};
      const std::string path = config_.segment_folder({k}) + "/" + part;
      SHEAF_CHECK(::stat(path.c_str(), &file) == 0);
      bytes += static_cast<uint64_t>(file.st_blocks) * 512;
    }
    return bytes;
  }

  uint32_t nodes_;
  uint64_t tables_;
  region::TestMemory memory_;
  region::ClusterConfig config_;
  std::shared_ptr<region::Region> region_;
  std::unique_ptr<directory::HomeDirectory> home_;
  std::unique_ptr<lease::PageTable> pages_;
  std::unique_ptr<lease::CellTable> cells_;
  std::unique_ptr<directory::CatalogLeader> leader_;
};

// One at a time: benchmarks are registered cluster by cluster.
ScaleCluster& ClusterOf(const benchmark::State& state) {
  static std::unique_ptr<ScaleCluster> cluster;
  const auto nodes = static_cast<uint32_t>(state.range(0));
  const auto tables = static_cast<uint64_t>(state.range(1));
  if (cluster == nullptr || cluster->nodes() != nodes || cluster->tables() != tables) {
    cluster.reset();
    cluster = std::make_unique<ScaleCluster>(nodes, tables);
  }
  return *cluster;
}

// C1, C2: epoch claimed, all slots of all segments scanned, an index made. On the leader
// all tables but its own are other nodes' lines.
void LeaderChange(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  for (auto _ : state) cluster.Claim();
  state.counters["leader_bytes"] = static_cast<double>(cluster.LeaderBytes());
}

void LookUp(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  cluster.Lead();
  directory::Numbers numbers(7);
  for (auto _ : state) {
    const std::string name = NameOf(numbers.Below(cluster.tables()));
    SHEAF_CHECK(directory::Lookup(cluster.region(), name).ValueOrDie().has_value());
  }
}

// Must see that nobody claimed a higher epoch (C7).
void LookUpAbsent(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  cluster.Lead();
  for (auto _ : state) {
    SHEAF_CHECK(!directory::Lookup(cluster.region(), "absent").ValueOrDie().has_value());
  }
}

// Name, cell, slot, record: all of an open but the table.
void OpenByName(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  cluster.Lead();
  directory::Numbers numbers(7);
  for (auto _ : state) {
    const std::string name = NameOf(numbers.Below(cluster.tables()));
    const auto found = directory::Lookup(cluster.region(), name).ValueOrDie();
    const lease::Cell cell = cluster.cells().Write(found->object).ValueOrDie();
    const region::Segment& home = *cluster.region().segment(found->object.segment);
    const auto slot = directory::ReadSlot(home, found->object.slot).ValueOrDie();
    benchmark::DoNotOptimize(directory::ReadRecord(home, slot).ValueOrDie());
    cluster.cells().Clear(cell);
  }
}

// G1: what a home reads before it frees anything; each node leases 500 objects.
void ReclaimScan(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(lease::ScanLeases(cluster.region(), {0}).ValueOrDie());
  }
  state.counters["control_bytes"] = static_cast<double>(cluster.ControlBytes());
}

// What each home does 20 times a second: incarnation, heartbeat and admit line of each.
void LookAtNodes(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  daemon::FakeScheduler clock;
  daemon::Membership membership(&cluster.region(), &clock, /*incarnation=*/1,
                                [](bool /*was_off*/) { return uint64_t{0}; });
  int samples = 0;
  for (auto _ : state) {
    // Nobody beats: after a gap all are heard again (F1).
    const bool is_gap = ++samples % (kSuspectSamples / 2) == 0;
    clock.Advance(std::chrono::milliseconds(is_gap ? 1000 : 50));
    membership.Update();
  }
}

// `sheaf ls`.
void ListNames(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  for (auto _ : state) {
    SHEAF_CHECK(directory::List(cluster.region()).ValueOrDie().size() ==
                cluster.tables());
  }
}

const bool kRegistered = [] {
  using Function = void (*)(benchmark::State&);
  const std::map<std::string, Function> functions = {
      {"LeaderChange", LeaderChange}, {"LookUp", LookUp},
      {"LookUpAbsent", LookUpAbsent}, {"OpenByName", OpenByName},
      {"ReclaimScan", ReclaimScan},   {"LookAtNodes", LookAtNodes},
      {"ListNames", ListNames},
  };
  const bool is_small = std::getenv("SHEAF_BENCH_SMOKE") != nullptr;
  const std::vector<std::pair<int64_t, int64_t>> small = {{3, 100}};
  const std::vector<std::pair<int64_t, int64_t>> all = {
      {1, 1'000'000}, {16, 1'000'000}, {256, 1'000'000}, {1024, 1'000'000},
      {1024, 10'000}, {256, 10'000},   {16, 10'000},     {1, 10'000}};
  for (const auto& [nodes, tables] : is_small ? small : all) {
    for (const auto& [name, function] : functions) {
      benchmark::RegisterBenchmark(("Scale/" + name).c_str(), function)
          ->Args({nodes, tables})
          ->Unit(benchmark::kMicrosecond);
    }
  }
  return true;
}();

}  // namespace
}  // namespace sheaf
