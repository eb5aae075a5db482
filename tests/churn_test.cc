// Tables of mixed sizes put and removed, over and over, by sessions that come and go:
// memory does not fray. SHEAF_CHURN_OPS says how many puts and removes (`make churn`).

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_primitive.h>
#include <arrow/buffer.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "platform/process.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "testing/test_seed.h"

namespace sheaf::testing {
namespace {

constexpr size_t kLive = 1500;  ///< Tables at a time, at most.
constexpr int64_t kRowsMax = int64_t{32} << 10;
constexpr int64_t kRowsOfALargeOne = int64_t{1} << 20;
constexpr uint64_t kOpsPerSession = 20'000;
constexpr int kQuiets = 10;  ///< How often all is removed, and counted.

uint64_t Ops() {
  const char* text = std::getenv("SHEAF_CHURN_OPS");
  return text == nullptr ? 20'000 : std::strtoull(text, nullptr, 10);
}

class Churn : public ::testing::Test {
 protected:
  void SetUp() override {
    TestClusterOptions options;
    options.nodes = 1;
    options.config_toml = "segment_size = \"256MiB\"\n";
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(store_, cluster_->Connect(0));
  }

  // Half of the tables have less than 180 rows of 8 bytes, some have 8 MiB. What is in
  // them does not matter here.
  arrow::Result<std::shared_ptr<arrow::Table>> MakeTable() {
    std::uniform_real_distribution<double> log_rows(
        0, std::log(static_cast<double>(kRowsMax)));
    auto rows = static_cast<int64_t>(std::exp(log_rows(random_)));
    if (random_() % 2000 == 0) rows = kRowsOfALargeOne;
    ARROW_ASSIGN_OR_RAISE(std::shared_ptr<arrow::Buffer> values,
                          arrow::AllocateBuffer(rows * 8, store_->memory_pool()));
    return arrow::Table::Make(arrow::schema({arrow::field("x", arrow::int64())}),
                              {std::make_shared<arrow::Int64Array>(rows, values)});
  }

  arrow::Status PutOne(size_t place) {
    ARROW_ASSIGN_OR_RAISE(const auto table, MakeTable());
    if (random_() % 2 == 0) {
      ARROW_ASSIGN_OR_RAISE(const PutReceipt receipt, store_->Share(*table));
      ARROW_RETURN_NOT_OK(store_->Keep(receipt.handle));
      live_[place].emplace().handle = receipt.handle;
    } else {
      const std::string name = "churn/" + std::to_string(place);
      ARROW_RETURN_NOT_OK(store_->Put(name, *table).status());
      live_[place].emplace().name = name;
    }
    return arrow::Status::OK();
  }

  arrow::Status RemoveOne(size_t place) {
    const Live live = std::move(*live_[place]);
    live_[place].reset();
    return live.name.empty() ? store_->Drop(live.handle) : store_->Remove(live.name);
  }

  arrow::Status RunOps(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      if (i % kOpsPerSession == kOpsPerSession - 1) {
        store_.reset();
        ARROW_ASSIGN_OR_RAISE(store_, cluster_->Connect(0));
      }
      const size_t place = random_() % kLive;
      ARROW_RETURN_NOT_OK(live_[place] ? RemoveOne(place) : PutOne(place));
    }
    return arrow::Status::OK();
  }

  // Nothing is left: what a look at the node says then.
  arrow::Result<NodeInfo> Quiesce() {
    for (size_t place = 0; place < kLive; ++place) {
      if (live_[place]) ARROW_RETURN_NOT_OK(RemoveOne(place));
    }
    store_.reset();
    ARROW_ASSIGN_OR_RAISE(store_, cluster_->Connect(0));
    NodeInfo node;
    arrow::Status status;
    const bool is_quiet = Eventually([&] {
      const auto nodes = store_->Nodes();
      status = nodes.status();
      if (nodes.ok()) node = nodes->front();
      return nodes.ok() && node.objects == 0 && node.used_bytes == 0;
    });
    ARROW_RETURN_NOT_OK(status);
    if (!is_quiet) return arrow::Status::Invalid(node.used_bytes, " bytes stay used");
    return node;
  }

  struct Live {
    Handle handle;
    std::string name;  ///< Empty: unnamed.
  };
  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> store_;
  std::vector<std::optional<Live>> live_ = std::vector<std::optional<Live>>(kLive);
  std::mt19937_64 random_{TestSeed()};
};

TEST_F(Churn, MemoryDoesNotFray) {
  ASSERT_OK_AND_ASSIGN(const NodeInfo before, Quiesce());
  const uint64_t ops = Ops();
  fmt::print("{:>12}  {:>14}  {:>14}  {:>14}  {:>10}\n", "OPS", "LARGEST, LIVE",
             "FREE, QUIET", "LARGEST, QUIET", "OPS/S");
  for (int quiet = 1; quiet <= kQuiets; ++quiet) {
    const auto start = platform::BootTime();
    ASSERT_OK(RunOps(ops / kQuiets));
    ASSERT_OK_AND_ASSIGN(const auto busy, store_->Nodes());
    const std::chrono::duration<double> took = platform::BootTime() - start;
    ASSERT_OK_AND_ASSIGN(const NodeInfo after, Quiesce());
    fmt::print("{:>12}  {:>14}  {:>14}  {:>14}  {:>10.0f}\n", ops / kQuiets * quiet,
               busy[0].largest_free_bytes, after.free_bytes, after.largest_free_bytes,
               static_cast<double>(ops) / kQuiets / took.count());
    std::fflush(stdout);
    EXPECT_EQ(after.free_bytes, before.free_bytes);
    EXPECT_EQ(after.largest_free_bytes, before.largest_free_bytes);
  }
}

}  // namespace
}  // namespace sheaf::testing
