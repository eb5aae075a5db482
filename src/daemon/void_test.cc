// What a node prepared in a life that was declared off is never put (docs/protocol.md
// C9).

#include <chrono>
#include <cstdint>
#include <string>

#include <arrow/status.h>
#include <gtest/gtest.h>

#include "daemon/log.h"
#include "daemon/publisher.h"
#include "daemon/test_catalog.h"
#include "daemon/test_node.h"
#include "format/layout.h"
#include "region/admit_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

/// Node 0 leads; node 2 prepares, and is declared off by node 1.
class Void : public ::testing::Test {
 protected:
  void SetUp() override { SetLogLevel(LogLevel::kOff); }

  ObjectId Seal(const std::string& name, bool is_prepared) {
    CatalogNode& node = cluster_[2];
    Publisher::Request request;
    request.session = node.session;
    request.input.request = ++node.last_request;
    request.input.name = name;
    request.input.keep = true;
    request.input.is_prepared = is_prepared;
    request.input.descriptor = DescribeRanges(
        *node.region, {{{{node.region->node().value}, node.grant.extent.offset}, 4096}});
    ObjectId sealed;
    node.publisher.Publish(request,
                           [&](const auto& done) { sealed = done.ValueOrDie().object; });
    return sealed;
  }
  void PublishLater(const ObjectId& object, CatalogNode::Result* put) {
    Publisher::Request request;
    request.input.name = "a";
    cluster_[2].publisher.PublishPrepared(object, request,
                                          [put](const auto& done) { *put = done; });
  }
  arrow::Status Publish(const ObjectId& object) {
    CatalogNode::Result put;
    PublishLater(object, &put);
    EXPECT_TRUE(cluster_.PassUntil([&] { return put.has_value(); }));
    return put->status();
  }
  void SetOff() {
    region::Segment* own = &cluster_[1].region->own_segment();
    off_ = cluster_[2].home->incarnation();
    region::StoreWithdrawn(own, {2}, off_);
    region::StoreCertifiedOff(own, {2}, off_);
  }
  /// As the next life of its node.
  void AwaitBack() {
    EXPECT_TRUE(cluster_.PassUntil([&] {
      const uint64_t now = cluster_[2].home->incarnation();
      return now > off_ && cluster_[1].membership.admitted({2}) == now;
    }));
  }
  bool IsPrepared(const ObjectId& object) {
    const auto slot = cluster_[2].home->directory().GetSlot(object).ValueOrDie();
    return slot.state == static_cast<uint8_t>(format::LineState::kSealed) &&
           (slot.flags & format::kSlotPrepared) != 0;
  }

  TestCatalog cluster_{3};
  uint64_t off_ = 0;
};

TEST_F(Void, WhatWasPreparedBeforeIsRefusedAndStays) {
  const ObjectId object = Seal("a", /*is_prepared=*/true);
  SetOff();
  const arrow::Status refused = Publish(object);
  EXPECT_RAISES(Invalid, refused);
  EXPECT_FALSE(IsStaleGeneration(refused)) << "as if it had been put";
  EXPECT_TRUE(IsPrepared(object));
  // Also once it is back, in the next life: what is of that one is put.
  AwaitBack();
  EXPECT_RAISES(Invalid, Publish(object));
  ASSERT_OK(Publish(Seal("a", /*is_prepared=*/true)));
}

/// While the leader is asked.
TEST_F(Void, WhatIsAboutToBePutIsRefused) {
  for (int delay = 0; delay < 60; delay += 10) {
    const ObjectId object = Seal("a", /*is_prepared=*/true);
    CatalogNode::Result put;
    PublishLater(object, &put);
    cluster_.Pass(std::chrono::milliseconds(delay));
    const bool was_put = put.has_value() || !IsPrepared(object);
    SetOff();
    EXPECT_TRUE(cluster_.PassUntil([&] { return put.has_value(); }));
    EXPECT_EQ(put->ok(), was_put) << delay << ": " << put->status().ToString();
    EXPECT_EQ(IsPrepared(object), !was_put);
    AwaitBack();
    if (was_put) break;
  }
}

}  // namespace
}  // namespace sheaf::daemon
