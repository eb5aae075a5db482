// Quotas, as who puts tables meets them.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/array/util.h>
#include <arrow/result.h>
#include <arrow/scalar.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sheaf/status.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"

namespace sheaf::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;

std::shared_ptr<arrow::Table> TableOf(int64_t bytes) {
  const auto values =
      arrow::MakeArrayFromScalar(arrow::Int64Scalar(0), bytes / 8).ValueOrDie();
  return arrow::Table::Make(arrow::schema({arrow::field("x", arrow::int64())}),
                            std::vector{values});
}

class QuotaTest : public ::testing::Test {
 protected:
  void StartCluster(const std::string& keys) {
    TestClusterOptions options;
    options.nodes = 1;
    options.config_toml = "segment_size = \"64MiB\"\n" + keys;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(store_, cluster_->Connect(0));
  }

  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> store_;
};

TEST_F(QuotaTest, OfASession) {
  StartCluster("session_quota = \"16MiB\"\n");
  const arrow::Status refused = store_->Put("large", *TableOf(20 * kMiB)).status();
  EXPECT_TRUE(IsOverQuota(refused)) << refused.ToString();
  EXPECT_THAT(refused.message(), HasSubstr("session quota of this node is 16MiB"));
  ASSERT_OK(store_->Put("a", *TableOf(8 * kMiB)));
  EXPECT_TRUE(IsOverQuota(store_->Put("b", *TableOf(10 * kMiB)).status()));
  ASSERT_OK_AND_ASSIGN(const auto other, cluster_->Connect(0));
  ASSERT_OK(other->Put("b", *TableOf(10 * kMiB)));
  ASSERT_OK(store_->Remove("a"));
  EXPECT_TRUE(Eventually([&] { return store_->Put("c", *TableOf(12 * kMiB)).ok(); }));
}

TEST_F(QuotaTest, OfAUserAndTheNextDaemonKnows) {
  StartCluster("user_quota = \"16MiB\"\n");
  ASSERT_OK(store_->Put("a", *TableOf(8 * kMiB)));
  ASSERT_OK_AND_ASSIGN(const auto other, cluster_->Connect(0));
  const auto is_refused = [&] {
    const arrow::Status refused = other->Put("b", *TableOf(10 * kMiB)).status();
    EXPECT_THAT(refused.message(), HasSubstr("user quota of this node is 16MiB"));
    return IsOverQuota(refused);
  };
  EXPECT_TRUE(is_refused());
  ASSERT_OK(cluster_->KillDaemon(0));
  ASSERT_OK(cluster_->StartMissing());
  EXPECT_TRUE(is_refused());
  ASSERT_OK(store_->Remove("a"));
  store_.reset();
  EXPECT_TRUE(Eventually([&] { return other->Put("b", *TableOf(10 * kMiB)).ok(); }));
}

}  // namespace
}  // namespace sheaf::testing
