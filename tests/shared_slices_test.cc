// Tables made of slices of others, across homes.

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <ios>
#include <iterator>
#include <memory>
#include <string>

#include <arrow/array/array_primitive.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gtest/gtest.h>

#include "format/layout.h"
#include "region/cluster_config.h"
#include "region/part_set.h"
#include "region/region.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "testing/test_cluster.h"

namespace sheaf::testing {
namespace {

constexpr int64_t kRows = 1000;

int64_t ValueAt(int64_t row) {
  return static_cast<int64_t>((static_cast<uint64_t>(row) + 1) * 0x123456789ABCDEF);
}

arrow::Result<std::unique_ptr<TestCluster>> StartCluster(uint32_t nodes,
                                                         const std::string& config) {
  TestClusterOptions options;
  options.nodes = nodes;
  options.config_toml = config;
  options.daemon_path = SHEAFD_BINARY;
  return TestCluster::Start(options);
}

std::shared_ptr<arrow::Table> MakeTable(arrow::MemoryPool* pool) {
  arrow::Int64Builder builder(pool);
  EXPECT_OK(builder.Reserve(kRows));
  for (int64_t row = 0; row < kRows; ++row) builder.UnsafeAppend(ValueAt(row));
  return arrow::Table::Make(arrow::schema({arrow::field("x", arrow::int64())}),
                            {builder.Finish().ValueOrDie()});
}

/// Its bytes are our home's, but it is an object of another home that names them: found
/// by the simulation, seed 2 of its first day (#4).
TEST(SharedSlices, ATableThatWasRemovedAtAnotherHomeIsCopied) {
  ASSERT_OK_AND_ASSIGN(const auto cluster, StartCluster(2, ""));
  ASSERT_OK_AND_ASSIGN(const auto zero, cluster->Connect(0));
  ASSERT_OK_AND_ASSIGN(const auto one, cluster->Connect(1, /*relocate=*/true));
  ASSERT_OK_AND_ASSIGN(const auto reader, cluster->Connect(1, /*relocate=*/true));
  ASSERT_OK(one->Put("a", *MakeTable(arrow::default_memory_pool())));
  ASSERT_OK_AND_ASSIGN(const auto a, zero->Get("a"));
  ASSERT_OK_AND_ASSIGN(const auto receipt, zero->Put("b", *a->Slice(100, 500)));
  ASSERT_EQ(receipt.bytes_copied, 0);
  ASSERT_OK_AND_ASSIGN(const auto b, reader->Get("b"));
  ASSERT_OK(zero->Remove("b"));
  ASSERT_OK(reader->Put("c", *b->Slice(50, 10)));
  ASSERT_OK_AND_ASSIGN(const auto c, zero->Get("c"));
  EXPECT_TRUE(c->Equals(*a->Slice(150, 10)));
}

/// L10: what is sealed is flushed, in whole granules: its writer, who alone knew which
/// lines it had stored to, may be dead when it becomes free.
TEST(SharedSlices, NothingOfASealedGranuleStaysInTheCaches) {
  ASSERT_OK_AND_ASSIGN(const auto cluster,
                       StartCluster(1, "backend = \"sim\"\nsegment_size = \"4MiB\"\n"));
  ASSERT_OK_AND_ASSIGN(const auto store, cluster->Connect(0));
  const auto table = MakeTable(store->memory_pool());
  constexpr int64_t kPerGranule = format::kGranuleBytes / sizeof(int64_t);
  ASSERT_OK(store->Put("slice", *table->Slice(3, 2)));
  ASSERT_OK_AND_ASSIGN(const auto config, region::ClusterConfig::Load(
                                              region::ClusterFilePath(cluster->name())));
  std::ifstream file(region::PartPath(config, SegmentId{0}, region::PartKind::kData),
                     std::ios::binary);
  const std::string memory((std::istreambuf_iterator<char>(file)), {});
  const auto bytes_of = [](int64_t row) {
    const int64_t value = ValueAt(row);
    return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  const size_t at = memory.find(bytes_of(3));
  ASSERT_NE(at, std::string::npos);
  for (const int64_t row : {int64_t{0}, kPerGranule - 1}) {
    EXPECT_EQ(memory.find(bytes_of(row)),
              at + static_cast<size_t>((row - 3) * static_cast<int64_t>(sizeof(int64_t))))
        << row;
  }
}

}  // namespace
}  // namespace sheaf::testing
