#include "directory/life_off.h"

#include <cstdint>
#include <string>
#include <utility>

#include <arrow/status.h>
#include <gtest/gtest.h>

#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/test_cluster.h"
#include "directory/test_records.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "region/admit_line.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/fake_segments.h"

namespace sheaf::directory {
namespace {

constexpr testing::FakeOptions kThreeNodes = {.segments = 3, .slots_max = 4096};
constexpr NodeId kNode{2};

class LifeOff : public ::testing::Test {
 protected:
  uint64_t Life(uint64_t i) {
    const uint64_t epoch = cluster_.segments()[0]->header().format_epoch;
    return format::FirstGeneration(epoch) + i;
  }
  void SetOff(uint32_t says, uint64_t incarnation) {
    region::StoreCertifiedOff(cluster_.segments()[says], kNode, incarnation);
  }
  bool IsOff(uint64_t incarnation) {
    return IsLifeOff(cluster_.segments().list(), kNode, incarnation);
  }
  ObjectId Seal(const std::string& name, uint64_t incarnation, uint8_t flags) {
    Record record = MakeRecord(name, kNode.value);
    record.home_incarnation = incarnation;
    return *cluster_.home(kNode.value).Seal(record, flags);
  }

  TestCluster cluster_{kThreeNodes};
};

TEST_F(LifeOff, OneHomeThatSaysSoIsEnoughForThatLifeAndAllBefore) {
  EXPECT_FALSE(IsOff(Life(3)));
  SetOff(1, Life(3));
  EXPECT_TRUE(IsOff(Life(3)));
  EXPECT_TRUE(IsOff(Life(0)));
  EXPECT_FALSE(IsOff(Life(4)));
  EXPECT_FALSE(IsOff(0));  // not known
  SetOff(0, Life(5));
  EXPECT_TRUE(IsOff(Life(4)));
  EXPECT_FALSE(IsOff(Life(6)));
}

TEST_F(LifeOff, GarbageAndTheNodesOwnLineSayNothing) {
  SetOff(kNode.value, Life(3));
  SetOff(0, Life(3) + (uint64_t{1} << 40));  // of another formatting
  SetOff(1, Life(3) + (uint64_t{1} << 31));  // far ahead
  EXPECT_FALSE(IsOff(Life(3)));
}

/// Of what is sealed only: a name that another one has nobody gives away.
TEST_F(LifeOff, ANameIsFreeThatWasGrantedToALifeThatIsOff) {
  constexpr uint8_t kPrepared = format::kSlotNamed | format::kSlotPrepared;
  ASSERT_OK(cluster_.Claim(1));
  const ObjectId prepared = Seal("a", Life(3), kPrepared);
  const ObjectId sealed = Seal("b", Life(3), format::kSlotNamed);
  const ObjectId bound = Seal("c", Life(3), format::kSlotNamed);
  const ObjectId later = Seal("d", Life(4), kPrepared);
  for (const auto& [name, object] : {std::pair("a", prepared), std::pair("b", sealed),
                                     std::pair("c", bound), std::pair("d", later)}) {
    ASSERT_OK_AND_ASSIGN(const Version version, cluster_.leader().Bind({name, object}));
    EXPECT_RAISES(AlreadyExists, cluster_.Publish(name));
    if (object == bound) {
      ASSERT_OK(cluster_.MakeBound(object, version));
    }
  }
  const ObjectId not_asked = Seal("e", Life(3), kPrepared);
  SetOff(0, Life(3));  // for the leader
  for (const char* name : {"a", "b"}) {
    ASSERT_OK_AND_ASSIGN(const Found found, cluster_.Publish(name));
    EXPECT_EQ(found.version.sequence, 2U) << name;
  }
  EXPECT_RAISES(AlreadyExists, cluster_.Publish("c"));
  EXPECT_RAISES(AlreadyExists, cluster_.Publish("d"));
  // Nor is it given one; not "stale", as what was put and is gone would be.
  const arrow::Status refused = cluster_.leader().Bind({"e", not_asked}).status();
  EXPECT_RAISES(Invalid, refused);
  EXPECT_FALSE(IsStaleGeneration(refused));
}

/// Another leader finds what the one before granted.
TEST_F(LifeOff, AClaimHoldsNoNameForALifeThatIsOff) {
  ASSERT_OK(cluster_.Claim(1));
  const ObjectId sealed = Seal("a", Life(3), format::kSlotNamed | format::kSlotPrepared);
  ASSERT_OK_AND_ASSIGN(const Version version, cluster_.leader().Bind({"a", sealed}));
  ASSERT_OK(cluster_.home(sealed).SetVersion(sealed, version.epoch, version.sequence));
  SetOff(1, Life(3));
  ASSERT_OK(cluster_.Claim(2, 1));
  ASSERT_OK_AND_ASSIGN(const Found found, cluster_.Publish("a"));
  EXPECT_EQ(found.version, (Version{2, 2}));
}

}  // namespace
}  // namespace sheaf::directory
