#include "daemon/quotas.h"

#include <cstdint>
#include <utility>
#include <vector>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "alloc/range.h"
#include "daemon/home.h"
#include "daemon/space.h"
#include "daemon/test_node.h"
#include "region/cluster_config.h"
#include "region/test_cluster.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint32_t kUser = 17;
constexpr uint32_t kOther = 18;

Quotas MakeQuotas(uint64_t session_bytes, uint64_t user_bytes) {
  region::ClusterConfig config;
  config.session_quota_bytes = session_bytes;
  config.user_quota_bytes = user_bytes;
  return {config, 64 * kMiB};
}

TEST(Quotas, SayWhichOneItIsWhatIsUsedAndWhatToDo) {
  Quotas quotas = MakeQuotas(4 * kMiB, 0);
  quotas.Add({5, kUser}, {{0, 3 * kMiB}});
  ASSERT_OK(quotas.CheckGrant({5, kUser}, kMiB));
  ASSERT_OK(quotas.CheckGrant({6, kUser}, 4 * kMiB));
  const arrow::Status status = quotas.CheckGrant({5, kUser}, 2 * kMiB);
  EXPECT_TRUE(IsOverQuota(status) && status.IsOutOfMemory());
  EXPECT_THAT(status.message(), HasSubstr("session quota of this node is 4MiB"));
  EXPECT_THAT(status.message(), HasSubstr("session 5 holds 3MiB and needs 2MiB more"));
  EXPECT_THAT(status.message(), HasSubstr("sheaf up --session-quota"));
  EXPECT_TRUE(IsOverQuota(quotas.CheckGrant({6, kUser}, ~uint64_t{0})));
}

TEST(Quotas, CountEachByteOnceForEachWhoKeepsIt) {
  Quotas quotas = MakeQuotas(0, 4 * kMiB);
  const std::vector<alloc::Range> grant = {{0, 3 * kMiB}};
  const std::vector<alloc::Range> table = {{kMiB, kMiB}};
  quotas.Add({5, kUser}, grant);
  quotas.Add({5, kUser}, table);  // lies in it
  ASSERT_OK(quotas.CheckGrant({6, kUser}, kMiB));
  ASSERT_OK(quotas.CheckRanges({6, kOther}, table));
  quotas.Add({6, kOther}, table);
  quotas.EndSession(5);
  quotas.Drop({5, kUser}, grant);
  ASSERT_OK(quotas.CheckGrant({7, kUser}, 3 * kMiB));
  EXPECT_TRUE(IsOverQuota(quotas.CheckGrant({7, kUser}, 4 * kMiB)));
  EXPECT_TRUE(IsOverQuota(quotas.CheckGrant({7, kOther}, 4 * kMiB)));
  quotas.Drop({5, kUser}, table);
  ASSERT_OK(quotas.CheckGrant({7, kUser}, 4 * kMiB));
}

class HomeQuotaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    region::ClusterConfig config = memory_.Config();
    config.segment_size_bytes = 32 * kMiB;
    config.user_quota_bytes = 8 * kMiB;
    config.session_quota_bytes = 6 * kMiB;
    node_ = std::move(MakeNodes(config, &clock_)[0]);
    session_ = node_->OpenSession(kUser).ValueOrDie().id;
  }

  ObjectId Seal(const Granted& grant) {
    SealInput input;
    input.descriptor = DescribeRanges(
        *node_.region, {{{{0}, grant.extent.offset}, grant.extent.size_bytes}});
    input.keep = true;
    return node_->Seal(session_, input).ValueOrDie();
  }

  region::TestMemory memory_;
  FakeScheduler clock_;
  TestNode node_;
  uint64_t session_ = 0;
};

TEST_F(HomeQuotaTest, TablesOfASessionThatEndedAreTheirUsers) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, node_->Grant(session_, 6 * kMiB));
  EXPECT_TRUE(IsOverQuota(node_->Grant(session_, kMiB).status()));
  const ObjectId table = Seal(grant);
  ASSERT_OK(node_->Return(session_, grant.id));
  EXPECT_TRUE(IsOverQuota(node_->Grant(session_, kMiB).status()));
  ASSERT_OK(node_->EndSession(session_));
  ASSERT_OK_AND_ASSIGN(const auto next, node_->OpenSession(kUser));
  ASSERT_OK(node_->Grant(next.id, 2 * kMiB));
  const auto refused = node_->Grant(next.id, 2 * kMiB);
  EXPECT_THAT(refused.status().message(), HasSubstr("user 17 holds 8MiB"));
  ASSERT_OK_AND_ASSIGN(const auto other, node_->OpenSession(kOther));
  ASSERT_OK(node_->Grant(other.id, 4 * kMiB));
  ASSERT_OK(node_->Retire(table, ""));
  ASSERT_EQ(node_->Reclaim().ValueOrDie(), 1U);
  ASSERT_OK(node_->Grant(next.id, 2 * kMiB));
}

TEST_F(HomeQuotaTest, TheNextDaemonKnowsWhatIsHeld) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, node_->Grant(session_, 4 * kMiB));
  const ObjectId table = Seal(grant);
  ASSERT_OK(node_->Return(session_, grant.id));
  ASSERT_OK_AND_ASSIGN(const Granted second, node_->Grant(session_, 2 * kMiB));
  node_.Begin(&clock_);
  node_->AdoptUser(session_, kUser);
  EXPECT_THAT(node_->Grant(session_, 2 * kMiB).status().message(),
              HasSubstr("session quota"));
  ASSERT_OK_AND_ASSIGN(const auto next, node_->OpenSession(kUser));
  ASSERT_OK(node_->Grant(next.id, 2 * kMiB));
  EXPECT_THAT(node_->Grant(next.id, 2 * kMiB).status().message(),
              HasSubstr("user 17 holds 8MiB"));
  ASSERT_OK(node_->Return(session_, second.id));
  ASSERT_OK(node_->Grant(next.id, 2 * kMiB));
  ASSERT_OK(node_->Retire(table, ""));
  ASSERT_EQ(node_->Reclaim().ValueOrDie(), 1U);
  ASSERT_OK(node_->Grant(session_, 4 * kMiB));
}

TEST_F(HomeQuotaTest, WhoSharesATableHoldsItToo) {
  ASSERT_OK_AND_ASSIGN(const auto other, node_->OpenSession(kOther));
  ASSERT_OK_AND_ASSIGN(const Granted grant, node_->Grant(session_, 6 * kMiB));
  const ObjectId table = Seal(grant);
  SealInput input;
  input.descriptor = DescribeRanges(
      *node_.region, {{{{0}, grant.extent.offset}, grant.extent.size_bytes}});
  input.keep = true;
  input.parents = {table};
  ASSERT_OK_AND_ASSIGN(const Granted own, node_->Grant(other.id, 2 * kMiB));
  EXPECT_TRUE(IsOverQuota(node_->Seal(other.id, input).status()));
  ASSERT_OK(node_->Return(other.id, own.id));
  ASSERT_OK(node_->Seal(other.id, input));
  EXPECT_TRUE(IsOverQuota(node_->Grant(other.id, 2 * kMiB).status()));
}

}  // namespace
}  // namespace sheaf::daemon
