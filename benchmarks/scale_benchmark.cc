// Question: what do 1,024 nodes with a million tables cost, where does it grow, and what
// must change then? Real control parts of all nodes (shm, software coherence: every line
// that another node wrote is flushed from the cache and loaded), made by the code that
// daemons run; one process acts as node 0. Time is that of the processor (CPU), so that
// other load on the machine does not count. Not measured: messages (`simulate --scale`
// counts them), and the time that a slower fabric adds to a line (docs/scale.md
// multiplies by lines). Bounding resource: lines that must come from memory, 0.15 to 0.3
// us each here if one waits for the other.

#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <benchmark/benchmark.h>

#include "base/check.h"
#include "codec/codec.h"
#include "daemon/log.h"
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

double CpuSecondsOf(const std::function<void()>& work) {
  const auto now = [] {
    struct timespec time = {};
    SHEAF_CHECK(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double begin = now();
  work();
  return now() - begin;
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
    // One at a time: N processes that map N segments each would take minutes.
    for (uint32_t k = 0; k < nodes; ++k) {
      Must(region::FormatSegment(config_, {k}));
      Attach(k);
      epochs_.push_back(region_->own_segment().header().format_epoch);
      Move(k, config_.segment_folder({k}), ParkedFolder(k));
    }
    for (uint32_t k = 0; k < nodes; ++k) {
      Move(k, ParkedFolder(k), config_.segment_folder({k}));
      Attach(k);
      Populate(k);
      Move(k, config_.segment_folder({k}), ParkedFolder(k));
    }
    for (uint32_t k = 0; k < nodes; ++k) {
      Move(k, ParkedFolder(k), config_.segment_folder({k}));
    }
    Attach(0);
    Begin();
  }

  uint32_t nodes() const { return nodes_; }
  uint64_t tables() const { return tables_; }
  /// The first one, which each begins.
  uint64_t incarnation(NodeId node) const {
    return format::FirstGeneration(epochs_[node.value]);
  }
  region::Region& region() { return *region_; }
  daemon::NodeLines& lines() { return *lines_; }
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
  void Attach(uint32_t k) {
    cells_.reset();
    pages_.reset();
    home_.reset();
    lines_.reset();
    region_ =
        region::Region::Attach(config_, {{k}, region::Role::kDaemon, true}).ValueOrDie();
  }
  std::string ParkedFolder(uint32_t k) const {
    return memory_.path() + "/parked-" + std::to_string(k);
  }
  static void Move(uint32_t k, const std::string& from, const std::string& to) {
    std::error_code error;
    std::filesystem::rename(from, to, error);
    if (error) std::fprintf(stderr, "segment %u: %s\n", k, error.message().c_str());
    SHEAF_CHECK(!error);
  }

  // As a daemon that starts.
  void Begin() {
    region::Segment& own = region_->own_segment();
    lines_ = std::make_unique<daemon::NodeLines>(&own);
    lines_->BeginLife(/*boot=*/1);
    home_ = std::make_unique<directory::HomeDirectory>(&own);
    pages_ = std::make_unique<lease::PageTable>(&own);
    cells_ = std::make_unique<lease::CellTable>(
        &own, std::vector<uint32_t>{}, [this] { return pages_->Activate(kSession); },
        platform::SettleClass::kArrived);
  }

  void Populate(uint32_t k) {
    Begin();
    for (uint32_t node = 0; node < nodes_; ++node) {
      region::StoreAdmitted(&region_->own_segment(), {node}, incarnation({node}));
    }
    const auto descriptor = daemon::DescribeRanges(*region_, {{{{k}, 0}, 4096}});
    for (uint64_t table = k; table < tables_; table += nodes_) {
      directory::Record record = directory::MakeRecord(NameOf(table), k);
      record.references.clear();
      record.reference_extents.clear();
      record.descriptor = descriptor;
      const ObjectId id = home_->Seal(record, format::kSlotNamed).ValueOrDie();
      SHEAF_CHECK(home_->SetVersion(id, kEpochOfTables, 1).ok());
      SHEAF_CHECK(home_->Bind(id).ok());
    }
    for (uint32_t i = 0; i < kLeasesPerNode; ++i) {
      const NodeId home{(k + i) % nodes_};
      SHEAF_CHECK(cells_->Write({{home.value}, i, incarnation(home)}).ok());
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
  std::vector<uint64_t> epochs_;  ///< Of the formatting, by node.
  region::TestMemory memory_;
  region::ClusterConfig config_;
  std::shared_ptr<region::Region> region_;
  std::unique_ptr<daemon::NodeLines> lines_;
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

// What every look-up, publish and look at the leader begins with: N lines, one fence.
void ReadEpochs(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  cluster.Lead();
  const region::SegmentList segments = region::SegmentsOf(cluster.region());
  for (auto _ : state) {
    benchmark::DoNotOptimize(directory::FindLeader(segments));
  }
}

// The same as it was until lines were read together: each waits for the one before.
void ReadEpochsOneByOne(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  cluster.Lead();
  const region::SegmentList segments = region::SegmentsOf(cluster.region());
  for (auto _ : state) {
    uint64_t epoch = 0;
    for (const region::Segment* segment : segments) {
      const uint64_t* line = segment->NodeLine(format::NodeLine::kCatalogEpoch);
      epoch = std::max(epoch, region::LoadControlLine(*segment, line)[0]);
    }
    benchmark::DoNotOptimize(epoch);
  }
}

// Name, cell, whether the home honours this node, slot, record, and the table over its
// bytes (one column; sum of nothing: no byte of it is read).
void OpenByName(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  cluster.Lead();
  directory::Numbers numbers(7);
  const region::Region& region = cluster.region();
  const auto size_of = [&](SegmentId id) -> std::optional<uint64_t> {
    return region.segment(id)->data().size_bytes();
  };
  const auto make_buffer =
      [&](GlobalAddress address,
          int64_t size) -> arrow::Result<std::shared_ptr<arrow::Buffer>> {
    return std::make_shared<arrow::Buffer>(
        region.Resolve({address, static_cast<uint64_t>(size)}), size);
  };
  for (auto _ : state) {
    const std::string name = NameOf(numbers.Below(cluster.tables()));
    const auto found = directory::Lookup(region, name).ValueOrDie();
    const lease::Cell cell = cluster.cells().Write(found->object).ValueOrDie();
    const region::Segment& home = *region.segment(found->object.segment);
    SHEAF_CHECK(region::IsHonoured(home, region.own_segment()));
    const auto slot = directory::ReadSlot(home, found->object.slot).ValueOrDie();
    const auto record = directory::ReadRecord(home, slot).ValueOrDie();
    const auto descriptor =
        codec::Descriptor::Make(record.descriptor, size_of).ValueOrDie();
    benchmark::DoNotOptimize(descriptor->ToTable(make_buffer).ValueOrDie());
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
  daemon::Membership membership(&cluster.region(), &clock,
                                cluster.incarnation(cluster.region().node()),
                                [](bool /*was_off*/) { return uint64_t{0}; });
  int samples = 0;
  for (auto _ : state) {
    // Nobody beats: after a gap all are heard again (F1).
    const bool is_gap = ++samples % (kSuspectSamples / 2) == 0;
    clock.Advance(std::chrono::milliseconds(is_gap ? 1000 : 50));
    membership.Update();
  }
}

// What a daemon does 10 times a second for others to see.
void Heartbeat(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  for (auto _ : state) SHEAF_CHECK(cluster.lines().Beat());
}

// What each survivor pays when all others are found silent in one look (F1, F2): N - 1
// deaths, each two words settled, beside the look itself. It begins anew with all of them
// honoured, and looks on, untimed, until their time is over.
void NodeDeath(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  daemon::SetLogLevel(daemon::LogLevel::kOff);
  region::Segment& own = cluster.region().own_segment();
  for (auto _ : state) {
    for (uint32_t node = 1; node < cluster.nodes(); ++node) {
      region::StoreAdmitted(&own, {node}, cluster.incarnation({node}));
    }
    daemon::FakeScheduler clock;
    daemon::Membership membership(&cluster.region(), &clock,
                                  cluster.incarnation(cluster.region().node()),
                                  [](bool /*was_off*/) { return uint64_t{0}; });
    double seconds = 0;
    for (int i = 0; i <= kSuspectSamples; ++i) {
      clock.Advance(std::chrono::milliseconds(50));
      seconds = CpuSecondsOf([&] { membership.Update(); });
    }
    SHEAF_CHECK(cluster.nodes() == 1 || membership.admitted({1}) == 0);
    state.SetIterationTime(seconds);
  }
  state.counters["deaths"] = cluster.nodes() - 1;
}

// What one home's control area takes of the address space, and what of it grows with N.
void ControlArea(benchmark::State& state) {
  ScaleCluster& cluster = ClusterOf(state);
  for (auto _ : state) benchmark::DoNotOptimize(cluster.ControlBytes());
  const region::Segment& own = cluster.region().own_segment();
  const double nodes = own.header().nodes_max;
  state.counters["nodes_max"] = nodes;
  state.counters["rings_bytes"] = nodes * format::kRingBytes;
  state.counters["admit_bytes"] = nodes * format::kLineBytes;
  state.counters["ring_end_bytes"] = nodes * format::kLineBytes;
  state.counters["slots_bytes"] =
      static_cast<double>(own.header().slots_max) * format::kLineBytes;
  state.counters["resident_bytes"] = static_cast<double>(cluster.ControlBytes());
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
  // Names are listed last: what frees a million records leaves the allocator slow.
  const std::vector<std::pair<std::string, Function>> functions = {
      {"ControlArea", ControlArea},
      {"Heartbeat", Heartbeat},
      {"LookAtNodes", LookAtNodes},
      {"NodeDeath", NodeDeath},
      {"ReclaimScan", ReclaimScan},
      {"ReadEpochs", ReadEpochs},
      {"ReadEpochsOneByOne", ReadEpochsOneByOne},
      {"LeaderChange", LeaderChange},
      {"LookUp", LookUp},
      {"LookUpAbsent", LookUpAbsent},
      {"OpenByName", OpenByName},
      {"ListNames", ListNames},
  };
  const bool is_small = std::getenv("SHEAF_BENCH_SMOKE") != nullptr;
  const std::vector<std::pair<int64_t, int64_t>> small = {{3, 100}};
  const std::vector<std::pair<int64_t, int64_t>> all = {
      {1, 1'000'000}, {16, 1'000'000}, {256, 1'000'000}, {1024, 1'000'000},
      {1024, 10'000}, {256, 10'000},   {16, 10'000},     {1, 10'000}};
  for (const auto& [nodes, tables] : is_small ? small : all) {
    for (const auto& [name, function] : functions) {
      auto* registered =
          benchmark::RegisterBenchmark(("Scale/" + name).c_str(), function);
      registered->Args({nodes, tables})->Unit(benchmark::kMicrosecond);
      const bool is_long = function == LeaderChange || function == ListNames;
      if (function == NodeDeath) registered->UseManualTime();
      if (function == NodeDeath || is_long) registered->Iterations(1);
    }
  }
  return true;
}();

}  // namespace
}  // namespace sheaf
