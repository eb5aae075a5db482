// Two nodes over every backend: what one home seals, publishes and retires, the other
// node reads one-sided.

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gtest/gtest.h>

#include "base/plant.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/test_records.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::directory {
namespace {

struct Variant {
  const char* name;
  region::Backend backend;
  region::Coherence coherence;
  region::SimOptions sim;
  friend void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }
};

/// Each node attaches by itself, as its own processes would; node 0 leads.
class Backends : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    region::ClusterConfig config = memory_.Config();
    config.backend = GetParam().backend;
    config.coherence = GetParam().coherence;
    config.sim = GetParam().sim;
    if (config.sim.posted) config.settle_class = platform::SettleClass::kPosted;
    for (uint32_t k = 0; k < 2; ++k) ASSERT_OK(region::FormatSegment(config, NodeId{k}));
    for (uint32_t k = 0; k < 2; ++k) {
      ASSERT_OK_AND_ASSIGN(regions_[k], region::Region::Attach(
                                            config, {NodeId{k}, region::Role::kDaemon}));
      homes_[k] = std::make_unique<HomeDirectory>(&regions_[k]->own_segment());
      EXPECT_TRUE(homes_[k]->problems().empty());
    }
    ASSERT_OK_AND_ASSIGN(leader_,
                         CatalogLeader::Claim(regions_[0].get(), homes_[0].get(), 1));
  }

  arrow::Result<ObjectId> Publish(const std::string& name, uint32_t home) {
    ARROW_ASSIGN_OR_RAISE(const ObjectId id,
                          homes_[home]->Seal(MakeRecord(name, home), format::kSlotNamed));
    ARROW_ASSIGN_OR_RAISE(const Version version, leader_->Bind({name, id, true}));
    ARROW_RETURN_NOT_OK(homes_[home]->SetVersion(id, version.epoch, version.sequence));
    ARROW_RETURN_NOT_OK(homes_[home]->Bind(id));
    ARROW_ASSIGN_OR_RAISE(const auto superseded, leader_->Commit(name, id, version));
    for (const ObjectId& old : superseded) {
      HomeDirectory& old_home = *homes_[old.segment.value];
      ARROW_RETURN_NOT_OK(old_home.Retire(old));
      ARROW_RETURN_NOT_OK(old_home.Free(old));
    }
    return id;
  }

  /// What node `k` reads of an object: its record, or why not.
  arrow::Result<Record> Read(uint32_t k, const ObjectId& id) {
    const region::Segment& segment = *regions_[k]->segment(id.segment);
    ARROW_ASSIGN_OR_RAISE(const format::Slot slot, ReadSlot(segment, id.slot));
    if (slot.generation != id.generation)
      return arrow::Status::KeyError("other generation");
    return ReadRecord(segment, slot);
  }

  region::TestMemory memory_;
  std::shared_ptr<region::Region> regions_[2];
  std::unique_ptr<HomeDirectory> homes_[2];
  std::unique_ptr<CatalogLeader> leader_;  // Uses a home: goes first.
};

TEST_P(Backends, EveryVersionIsSeenByTheOtherNode) {
  for (int i = 0; i < 150;
       ++i) {  // Through three tables of the index; slots are used again.
    const uint32_t home = i % 2 == 0 ? 0 : 1;
    for (const std::string& name : {std::string("same"), std::to_string(i % 50)}) {
      ASSERT_OK_AND_ASSIGN(const ObjectId id, Publish(name, home));
      for (uint32_t k = 0; k < 2; ++k) {
        ASSERT_OK_AND_ASSIGN(const auto found, Lookup(*regions_[k], name));
        ASSERT_TRUE(found.has_value()) << name;
        EXPECT_EQ(found->object, id);
        ASSERT_OK_AND_ASSIGN(const Record record, Read(k, id));
        EXPECT_EQ(record.name, name);
      }
    }
    ASSERT_OK_AND_ASSIGN(const auto absent, Lookup(*regions_[1], "absent"));
    EXPECT_FALSE(absent.has_value());
  }
  ASSERT_OK_AND_ASSIGN(const auto listed, List(*regions_[1]));
  EXPECT_EQ(listed.size(), 51U);
}

TEST_P(Backends, ARestartedHomeFindsItsObjects) {
  std::vector<ObjectId> ids;
  for (int i = 0; i < 20; ++i) {
    ids.push_back(*homes_[1]->Seal(MakeRecord("", 1), format::kSlotKept));
  }
  homes_[1] = std::make_unique<HomeDirectory>(&regions_[1]->own_segment());
  EXPECT_TRUE(homes_[1]->problems().empty());
  for (const ObjectId& id : ids) {
    EXPECT_OK(homes_[1]->GetRecord(id));
    EXPECT_OK(Read(0, id));
  }
}

TEST_P(Backends, ARecordThatIsNotFlushedIsNotRead) {
  if (GetParam().backend != region::Backend::kSim || GetParam().sim.chaos) {
    GTEST_SKIP() << "memory may bring the record along by itself";
  }
  SetPlants("no-flush-record");
  const auto id = homes_[1]->Seal(MakeRecord("", 1), 0);
  SetPlants("");
  ASSERT_OK(id);
  EXPECT_RAISES(Invalid, Read(0, *id));  // An error, never other bytes.
}

constexpr region::SimOptions Sim(bool chaos, bool posted, uint32_t line_bytes) {
  region::SimOptions sim;
  sim.chaos = chaos;
  sim.posted = posted;
  sim.line_bytes = line_bytes;
  return sim;
}

INSTANTIATE_TEST_SUITE_P(
    All, Backends,
    ::testing::Values(
        Variant{"shm", region::Backend::kShm, region::Coherence::kCoherent, {}},
        Variant{"shm_software", region::Backend::kShm, region::Coherence::kSoftware, {}},
        Variant{"sim_stale", region::Backend::kSim, region::Coherence::kSoftware,
                Sim(false, false, 64)},
        Variant{"sim_stale_128", region::Backend::kSim, region::Coherence::kSoftware,
                Sim(false, false, 128)},
        Variant{"sim_chaos", region::Backend::kSim, region::Coherence::kSoftware,
                Sim(true, false, 64)},
        Variant{"sim_posted", region::Backend::kSim, region::Coherence::kSoftware,
                Sim(false, true, 64)}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace sheaf::directory
