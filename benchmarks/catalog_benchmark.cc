// Question: does a name cost more to find among a million than among ten, on memory that
// is not coherent? And how long is a claim of the catalog over a million names, and its
// longest step, during which a daemon does nothing else?
// Bounding resource: cache misses, one after the other: each line is invalidated before
// it is read, however few there are. Two epoch lines twice, the header twice, one or two
// entries, the slot, some lines of the record: about 12 misses of 100 to 150 ns, 1.5 us;
// among a million some TLB misses besides. A claim reads a slot and a record for each
// name and writes its entry: 2 to 4 us, a few seconds for a million. Required: a look-up
// among 10^6 within 2x of one among 10.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/check.h"
#include "base/math.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/test_records.h"
#include "format/layout.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"

namespace sheaf::directory {
namespace {

constexpr int64_t kFew = 10;
constexpr int64_t kMillion = 1'000'000;
constexpr uint32_t kSlice = 1024;  // As a daemon claims (daemon/leadership.cc).

/// Names of tables on node 0 of two nodes, with software coherence; node 1 reads.
class Names {
 public:
  explicit Names(int64_t count) : count_(count) {
    region::ClusterConfig config = memory_.Config();
    config.coherence = region::Coherence::kSoftware;
    config.slots_max = static_cast<uint32_t>(std::max<int64_t>(count, 256));
    config.records_size_bytes =
        (uint64_t{16} << 20) + static_cast<uint64_t>(count) * 1024;
    config.records_size_bytes = RoundUp(config.records_size_bytes, uint64_t{1} << 20);
    SHEAF_CHECK(region::PrepareMemoryFolder(config).ok());
    for (uint32_t k : {0U, 1U}) SHEAF_CHECK(region::FormatSegment(config, {k}).ok());
    for (uint32_t k : {0U, 1U}) {
      regions_.push_back(
          region::Region::Attach(config, {{k}, region::Role::kDaemon, true})
              .ValueOrDie());
    }
    home_ = std::make_unique<HomeDirectory>(&regions_[0]->own_segment());
    for (int64_t i = 0; i < count; ++i) {
      const ObjectId id =
          home_->Seal(MakeRecord(NameOf(i)), format::kSlotNamed).ValueOrDie();
      SHEAF_CHECK(home_->SetVersion(id, 2, 1).ok() && home_->Bind(id).ok());
    }
    Claim([](auto) {});
  }

  /// \brief `on_step` is told how long each step took, in seconds.
  template <typename OnStep>
  void Claim(OnStep on_step) {
    using Clock = std::chrono::steady_clock;
    leader_.reset();
    const uint32_t epoch =
        NextEpoch(region::SegmentsOf(*regions_[0]), NodeId{0}).ValueOrDie();
    auto begin = Clock::now();
    const auto end_step = [&] {
      const auto now = Clock::now();
      on_step(std::chrono::duration<double>(now - std::exchange(begin, now)).count());
    };
    leader_ = CatalogLeader::Begin([this] { return region::SegmentsOf(*regions_[0]); },
                                   home_.get(), epoch)
                  .ValueOrDie();
    // A daemon's heart beats then: the step ends for the others.
    leader_->OnProgress(end_step);
    for (bool leads = false; !leads; end_step()) {
      leads = leader_->GoOn(kSlice).ValueOrDie();
    }
    SHEAF_CHECK(leader_->num_names() == static_cast<size_t>(count_));
  }

  static std::string NameOf(int64_t i) { return "table/" + std::to_string(i); }
  int64_t count() const { return count_; }
  const region::Region& reader() const { return *regions_[1]; }

 private:
  int64_t count_;
  region::TestMemory memory_;
  std::vector<std::shared_ptr<region::Region>> regions_;
  std::unique_ptr<HomeDirectory> home_;
  std::unique_ptr<CatalogLeader> leader_;
};

int64_t CountOf(const benchmark::State& state) {
  const bool is_smoke = std::getenv("SHEAF_BENCH_SMOKE") != nullptr;
  return is_smoke ? std::min<int64_t>(state.range(0), 1000) : state.range(0);
}

/// One of each size, for all repetitions: it takes long to make.
Names& NamesOf(const benchmark::State& state) {
  static std::unique_ptr<Names> names;
  if (names == nullptr || names->count() != CountOf(state)) {
    names.reset();
    names = std::make_unique<Names>(CountOf(state));
  }
  return *names;
}

void FindName(benchmark::State& state) {
  const Names& names = NamesOf(state);
  sheaf::directory::Numbers random(7);
  for (auto _ : state) {
    const auto found =
        Lookup(names.reader(), Names::NameOf(static_cast<int64_t>(
                                   random.Below(static_cast<uint64_t>(names.count())))));
    SHEAF_CHECK(found.ok() && found->has_value());
  }
}
BENCHMARK(FindName)->Arg(kFew)->Arg(kMillion);

void ClaimCatalog(benchmark::State& state) {
  Names& names = NamesOf(state);
  double longest = 0;
  for (auto _ : state) {
    double sum = 0;
    names.Claim([&](double seconds) {
      sum += seconds;
      longest = std::max(longest, seconds);
    });
    state.SetIterationTime(sum);
  }
  state.counters["longest_step_ms"] = longest * 1e3;
  state.SetItemsProcessed(state.iterations() * names.count());
}
BENCHMARK(ClaimCatalog)->Arg(kMillion)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sheaf::directory
