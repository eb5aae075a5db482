#include "daemon/reclaimer.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "daemon/home.h"
#include "daemon/log.h"
#include "daemon/test_catalog.h"
#include "daemon/test_node.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using std::chrono::seconds;

constexpr uint64_t kPageBytes = 4096;

class ReclaimerTest : public ::testing::Test {
 protected:
  void SetUp() override { SetLogLevel(LogLevel::kOff); }

  GlobalRange Page(uint32_t node, uint64_t number) {
    return {{{node}, cluster_[node].grant.extent.offset + number * kPageBytes},
            kPageBytes};
  }
  /// Version `number` of a table that the nodes append to in turn: at one of them, over a
  /// page of its own and that of the version before, `base`, at another.
  ObjectId Append(uint64_t number, const std::optional<ObjectId>& base) {
    CatalogNode& node = cluster_[static_cast<uint32_t>(number % kNodes)];
    std::vector<GlobalRange> ranges = {Page(node.region->node().value, number)};
    SealInput input;
    if (base) {
      ranges.push_back(Page(base->segment.value, number - 1));
      input.parents = {*base};
    }
    input.descriptor = DescribeRanges(*node.region, ranges);
    return node.home->Seal(node.session, input).ValueOrDie();
  }
  void Retire(const ObjectId& object) {
    CatalogNode& node = cluster_[object.segment.value];
    ASSERT_OK(node.home->Retire(object, ""));
    node.reclaimer.Kick();
  }
  size_t num_retired() {
    size_t retired = 0;
    for (uint32_t k = 0; k < kNodes; ++k) retired += cluster_[k].home->num_retired();
    return retired;
  }

  static constexpr uint32_t kNodes = 3;
  TestCatalog cluster_{kNodes};
};

/// Each version is kept by the next one, at another home. All homes look rarely by the
/// time that the last one goes: it took up to a second for each.
TEST_F(ReclaimerTest, VersionsThatKeepEachOtherGoOneAfterTheOtherAtOnce) {
  constexpr uint64_t kVersions = 12;
  std::vector<ObjectId> versions;
  for (uint64_t i = 0; i < kVersions; ++i) {
    versions.push_back(
        Append(i, versions.empty() ? std::nullopt : std::optional(versions.back())));
  }
  for (uint64_t i = 0; i + 1 < kVersions; ++i) Retire(versions[i]);
  cluster_.Pass(seconds(20));
  ASSERT_EQ(num_retired(), kVersions - 1);
  Retire(versions.back());
  cluster_.Pass(kVersions * (kReclaimPeriodMin + kLatency));
  EXPECT_EQ(num_retired(), 0U);
}

}  // namespace
}  // namespace sheaf::daemon
