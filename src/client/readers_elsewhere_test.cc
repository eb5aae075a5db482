// What `sheaf down` asks of memory that another host may use: a device here, and a node
// whose lines say that another host wrote them.

#include "client/readers_elsewhere.h"

#include <cstdint>
#include <memory>
#include <string>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/checksum.h"
#include "format/layout.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "platform/process.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "testing/arrow_test.h"

namespace sheaf::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class UsedElsewhere : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.node_tables[0].host = platform::HostName();
    config_.node_tables[1].host = "elsewhere";
    config_.node_tables[0].address = config_.node_tables[1].address = "127.0.0.1:7000";
    config_.settle_class = platform::SettleClass::kPosted;
    config_.posted_delay_us = 1000;
    config_.coherence = region::Coherence::kSoftware;
    config_.ApplyDefaults();
    for (uint32_t k = 0; k < 2; ++k) ASSERT_OK(region::FormatSegment(config_, {k}));
    for (uint32_t k = 0; k < 2; ++k) {
      ASSERT_OK_AND_ASSIGN(regions_[k], region::Region::Attach(
                                            config_, {{k}, region::Role::kDaemon, true}));
    }
    Say(0, platform::BootNumber(), format::NodeState::kDown);
    Say(1, platform::BootNumber() + 1, format::NodeState::kUp);
    region::StoreAdmitted(Own(0), {1}, kLife);
  }

  region::Segment* Own(uint32_t k) { return &regions_[k]->own_segment(); }
  void Say(uint32_t k, uint64_t boot, format::NodeState state) {
    region::UpdateIncarnation(Own(k), [&](format::IncarnationLine* line) {
      line->incarnation = kLife;
      line->boot = boot;
      line->state = static_cast<uint32_t>(state);
    });
  }
  void Lease() {
    lease::PageTable pages(Own(1));
    lease::CellTable cells(Own(1), {}, [&] { return pages.Activate(5); });
    ASSERT_OK(cells.Write({{0}, 3, (uint64_t{7} << 32) + 1}));
  }
  std::string ErrorOf(bool force = false) {
    const arrow::Status status = CheckNotUsedElsewhere(config_, force);
    EXPECT_TRUE(status.IsIOError()) << status;
    return status.message();
  }

  static constexpr uint64_t kLife = 9;
  const region::TestMemory memory_;
  region::ClusterConfig config_ = memory_.ConfigOnDevice();
  std::shared_ptr<region::Region> regions_[2];
};

/// Who reads from now on is not honoured, and sees that it is not.
TEST_F(UsedElsewhere, NobodyIsHonouredFromThenOn) {
  EXPECT_OK(CheckNotUsedElsewhere(config_, false));
  const region::AdmitLine line = region::LoadAdmitLine(*Own(0), {1});
  EXPECT_EQ(line.incarnation, 0);
  EXPECT_EQ(line.withdrawn, kLife);
}

TEST_F(UsedElsewhere, ReadersOfAnotherHostAreNamedUnlessItIsOff) {
  Lease();
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("sessions of node 1, on another host, still "
                                         "read tables of node 0"),
                               HasSubstr("are kept")));
  EXPECT_EQ(region::LoadAdmitLine(*Own(0), {1}).incarnation, 0);
  EXPECT_OK(CheckNotUsedElsewhere(config_, true));
  region::StoreCertifiedOff(Own(0), {1}, kLife);
  EXPECT_OK(CheckNotUsedElsewhere(config_, false));
}

TEST_F(UsedElsewhere, SessionsThatBuildThereAreNamedUnlessTheirNodeIsOff) {
  format::Grant grant{};
  grant.state = static_cast<uint8_t>(format::LineState::kOwned);
  grant.owner_node = 1;
  grant.owner_incarnation = kLife;
  grant.generation = format::FirstGeneration(Own(0)->header().format_epoch);
  region::StoreControlLine(Own(0), Own(0)->GrantLine(5), grant, format::kBusyWord,
                           region::Arrival::kSettled);
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("sessions of node 1, on another host, build in "
                                         "the memory of node 0"),
                               HasSubstr("are kept")));
  EXPECT_OK(CheckNotUsedElsewhere(config_, true));
  region::StoreCertifiedOff(Own(0), {1}, kLife);
  EXPECT_OK(CheckNotUsedElsewhere(config_, false));
}

TEST_F(UsedElsewhere, WhatCannotBeReadIsNotTakenForNothing) {
  uint64_t* line = Own(1)->NodeLine(format::NodeLine::kIncarnation);
  line[3] ^= 1;
  EXPECT_THAT(ErrorOf(),
              AllOf(HasSubstr("cannot be told: node 1: "), HasSubstr("down --force")));
  line[3] ^= 1;
  auto* words = reinterpret_cast<uint64_t*>(Own(1)->control().data());
  words[8] ^= 1;
  EXPECT_THAT(ErrorOf(),
              AllOf(HasSubstr("the memory of node 0 cannot be told: segment 1 at"),
                    HasSubstr("down --force")));
  EXPECT_OK(CheckNotUsedElsewhere(config_, true));
  region::StoreCertifiedOff(Own(0), {1}, kLife);
  EXPECT_OK(CheckNotUsedElsewhere(config_, false));
  reinterpret_cast<uint64_t*>(Own(0)->control().data())[8] ^= 1;
  EXPECT_THAT(ErrorOf(), AllOf(HasSubstr("segment 0 at"), HasSubstr("down --force")));
}

}  // namespace
}  // namespace sheaf::client
