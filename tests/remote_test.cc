// Tables in the memory of other nodes: built there, put there, given back.

#include <cstdint>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/builder.h>
#include <arrow/chunked_array.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sheaf/status.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/peer.h"
#include "tests/remote_nodes.h"
#include "tests/two_nodes.h"

namespace sheaf::testing {
namespace {

using Remote = RemoteNodes;
using ::testing::HasSubstr;

constexpr int64_t kRows = 200'000;
constexpr int64_t kBytes = kRows * 8;
using BytesOn = std::map<uint32_t, int64_t>;

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "started by other tests";
  ServePeer(AnswerAsBuilder);
}

TEST_P(Remote, WhatIsBuiltInAnotherNodesMemoryIsPutThereWithoutACopy) {
  const auto expected = MakeTable(kRows, 7);
  {
    const auto writer = Connect(0);
    ASSERT_OK_AND_ASSIGN(arrow::MemoryPool* const pool, writer->memory_pool(1));
    const auto table = MakeTable(kRows, 7, pool);
    ASSERT_OK_AND_ASSIGN(const auto receipt, writer->Put("t", *table, {.on = 1}));
    EXPECT_EQ(receipt.bytes_copied, 0);
    EXPECT_EQ(receipt.bytes_shared, kBytes);
    EXPECT_EQ(receipt.bytes_on, (BytesOn{{1, kBytes}}));
    EXPECT_EQ(receipt.handle.object.segment.value, 1);
    ExpectEverywhere("t", *expected);
    // A later version, and one without a name.
    ASSERT_OK_AND_ASSIGN(const auto again,
                         writer->Put("t", *table, {.replace = true, .on = 1}));
    EXPECT_EQ(again.version, 2);
    EXPECT_EQ(again.bytes_copied, 0);
    ASSERT_OK_AND_ASSIGN(const auto unnamed, writer->Share(*table, {.on = 1}));
    ASSERT_OK(Connect(2)->Open(unnamed.handle));
    EXPECT_EQ(Free(0), free_at_start_[0]);
  }
  ExpectEverywhere("t", *expected);
  EXPECT_EQ(Connect(0)->Stat("t").ValueOrDie().home_node, 1);
  ASSERT_OK(Connect(2)->Remove("t"));
  ExpectAllBack();
}

/// Bytes that touch are joined in the descriptor: some of them are sealed before, others
/// end where an extent does. All that is new is flushed.
TEST_P(Remote, NeighboursAreAllFlushed) {
  constexpr int64_t kWholeRows = 1 << 17;  // 1 MiB: fills granules and extents
  {
    const auto writer = Connect(0);
    ASSERT_OK_AND_ASSIGN(arrow::MemoryPool* const pool, writer->memory_pool(1));
    const auto build = [&](int64_t first) {
      std::shared_ptr<arrow::Buffer> bytes =
          arrow::AllocateBuffer(kWholeRows * 8, pool).ValueOrDie();
      auto* const ids = reinterpret_cast<int64_t*>(bytes->mutable_data());
      std::iota(ids, ids + kWholeRows, first);
      return std::make_shared<arrow::ChunkedArray>(arrow::MakeArray(
          arrow::ArrayData::Make(arrow::int64(), kWholeRows, {nullptr, bytes}, 0)));
    };
    const auto end_of = [](const arrow::ChunkedArray& column) {
      return column.chunk(0)->data()->buffers[1]->address() + kWholeRows * 8;
    };
    int neighbours = 0;
    uintptr_t last_end = 0;
    arrow::FieldVector fields;
    std::vector<std::shared_ptr<arrow::ChunkedArray>> columns;
    std::vector<std::shared_ptr<arrow::ChunkedArray>> expected;
    for (int i = 0; i < 6; ++i) {
      fields.push_back(arrow::field(std::to_string(i), arrow::int64()));
      columns.push_back(build(i));
      const uintptr_t end = end_of(*columns.back());
      neighbours += end == last_end + kWholeRows * 8;
      last_end = end;
      expected.push_back(MakeTable(kWholeRows, i)->column(0));
      const auto schema = arrow::schema(fields);
      ASSERT_OK_AND_ASSIGN(const auto receipt,
                           writer->Put("t", *arrow::Table::Make(schema, columns),
                                       {.replace = true, .on = 1}));
      EXPECT_EQ(receipt.bytes_copied, 0);
      if (*GetParam() != 0) {
        EXPECT_GE(receipt.bytes_flushed, kWholeRows * 8);
      }
      ExpectEverywhere("t", *arrow::Table::Make(schema, expected));
    }
    EXPECT_GT(neighbours, 0) << "the test wants neighbours";
  }
  ASSERT_OK(Connect(2)->Remove("t"));
  ExpectAllBack();
}

TEST_P(Remote, PrivateBytesAreCopiedToTheNodeThatIsNamed) {
  const auto table = MakeTable(kRows, 9);
  {
    const auto writer = Connect(0);
    ASSERT_OK_AND_ASSIGN(const auto receipt, writer->Put("t", *table, {.on = 2}));
    EXPECT_EQ(receipt.bytes_copied, kBytes);
    EXPECT_EQ(receipt.bytes_on, (BytesOn{{2, kBytes}}));
    ASSERT_OK_AND_ASSIGN(const auto rows,
                         writer->NewWriter("u", table->schema(), {.on = 1}));
    ASSERT_OK_AND_ASSIGN(const auto batch, table->CombineChunksToBatch());
    ASSERT_OK(rows->Append(*batch));
    ASSERT_OK_AND_ASSIGN(const auto sealed, rows->Seal());
    EXPECT_EQ(sealed.bytes_on, (BytesOn{{1, kBytes}}));
  }
  ExpectEverywhere("t", *table);
  ExpectEverywhere("u", *table);
  for (const char* name : {"t", "u"}) ASSERT_OK(Connect(1)->Remove(name));
  ExpectAllBack();
}

/// O4 with a holder: bytes that are open at one home, and a table at another.
TEST_P(Remote, ATableRefersToBytesThatLieAtOtherHomes) {
  const auto expected = MakeTable(kRows, 5);
  {
    const auto writer = Connect(0);
    ASSERT_OK_AND_ASSIGN(arrow::MemoryPool* const pool, writer->memory_pool(1));
    const auto there = MakeTable(kRows, 5, pool);
    const auto here = MakeTable(kRows, 6, writer->memory_pool());
    ASSERT_OK_AND_ASSIGN(const auto at_two, writer->Put("two", *there, {.on = 2}));
    EXPECT_EQ(at_two.bytes_copied, 0);
    EXPECT_EQ(at_two.bytes_on, (BytesOn{{1, kBytes}}));
    EXPECT_EQ(at_two.handle.object.segment.value, 2);
    ASSERT_OK_AND_ASSIGN(const auto own, writer->Put("own", *there));  // sealed before
    EXPECT_EQ(own.bytes_copied, 0);
    ASSERT_OK_AND_ASSIGN(const auto at_one, writer->Put("one", *here, {.on = 1}));
    EXPECT_EQ(at_one.bytes_copied, 0);
    EXPECT_EQ(at_one.bytes_on, (BytesOn{{0, kBytes}}));
    // What another session opens and puts: where the bytes or the table lie they are
    // shared; a third home cannot lease what the first holds for the table's home alone.
    const auto reader = Connect(2);
    ASSERT_OK_AND_ASSIGN(const auto opened, reader->Get("two"));
    for (const uint32_t node : {1U, 2U}) {
      ASSERT_OK_AND_ASSIGN(const auto shared,
                           reader->Share(*opened->Slice(100, 1000), {.on = node}));
      EXPECT_EQ(shared.bytes_copied, 0) << node;
    }
    ASSERT_OK_AND_ASSIGN(const auto slice,
                         reader->Put("slice", *opened->Slice(100, 1000), {.on = 0}));
    EXPECT_LT(slice.bytes_copied, 10'000);
  }
  ExpectEverywhere("two", *expected);
  ExpectEverywhere("own", *expected);
  ExpectEverywhere("one", *MakeTable(kRows, 6));
  for (const char* name : {"two", "own"}) ASSERT_OK(Connect(1)->Remove(name));
  ExpectEverywhere("slice", *expected->Slice(100, 1000));
  for (const char* name : {"slice", "one"}) ASSERT_OK(Connect(1)->Remove(name));
  ExpectAllBack();
}

TEST_P(Remote, WhatADeadWriterHeldElsewhereComesBack) {
  const auto peer = StartBuilder(0);
  for (const uint32_t node : {1U, 2U}) {
    const std::string on = std::to_string(node);
    Ask(*peer, "build " + on + " 200000 3");
    Ask(*peer, "put " + on + " t" + on);
    Ask(*peer, "share " + on);
    Ask(*peer, "build " + on + " 400000 4");
  }
  peer->Kill();
  ExpectEverywhere("t1", *MakeTable(kRows, 3));
  ExpectEverywhere("t2", *MakeTable(kRows, 3));
  for (const char* name : {"t1", "t2"}) ASSERT_OK(Connect(1)->Remove(name));
  ExpectAllBack();
}

TEST_P(Remote, MemoryThatIsFullOrNotThereHasANodeAndARemedy) {
  const auto writer = Connect(0);
  EXPECT_TRUE(writer->memory_pool(3).status().IsInvalid());
  const auto table = MakeTable(10, 1);
  EXPECT_TRUE(writer->Put("t", *table, {.on = 77}).status().IsInvalid());
  ASSERT_OK_AND_ASSIGN(arrow::MemoryPool* const pool, writer->memory_pool(1));
  const auto tall = arrow::AllocateBuffer(int64_t{80} << 20, pool);
  EXPECT_TRUE(tall.status().IsOutOfMemory()) << tall.status();
  EXPECT_THAT(tall.status().message(), HasSubstr("node 1"));
  const auto big = MakeTable(10'000'000, 1);
  const auto put = writer->Put("t", *big, {.on = 1});
  EXPECT_TRUE(put.status().IsOutOfMemory()) << put.status();
  EXPECT_THAT(put.status().message(), HasSubstr("node 1 has"));
  if (*GetParam() != '\0') return;  // The rest waits for long.
  ASSERT_OK(cluster_->KillDaemon(2));
  const auto lost = writer->Put("t", *table, {.on = 2});
  EXPECT_TRUE(IsNodeLost(lost.status())) << lost.status();
  EXPECT_THAT(lost.status().message(), HasSubstr("sheaf up"));
  ASSERT_OK(writer->Put("t", *table, {.on = 1}));
  ASSERT_OK(cluster_->StartMissing());
  ASSERT_OK(writer->Put("t", *table, {.replace = true, .on = 2}));
}

/// Memory of the own node for as long as there is any, then that of others.
TEST_P(Remote, WhatDoesNotFitSpillsToNodesThatHaveRoomAndTheReceiptSaysSo) {
  const bool has_chaos = std::string(GetParam()).find("chaos") != std::string::npos;
  if (has_chaos) GTEST_SKIP() << "100 MB take half a minute there";
  constexpr int64_t kColumnRows = 2'500'000;  // 20 MB
  std::vector<std::shared_ptr<arrow::ChunkedArray>> columns;
  arrow::FieldVector fields;
  for (int i = 0; i < 5; ++i) {
    columns.push_back(MakeTable(kColumnRows, i)->column(0));
    fields.push_back(arrow::field(std::to_string(i), arrow::int64()));
  }
  const auto table = arrow::Table::Make(arrow::schema(fields), columns);
  {
    const auto writer = Connect(0);
    EXPECT_TRUE(writer->Put("t", *table).status().IsOutOfMemory());
    ASSERT_OK_AND_ASSIGN(const auto receipt, writer->Put("t", *table, {.spill = true}));
    EXPECT_EQ(receipt.handle.object.segment.value, 0);
    EXPECT_GE(receipt.bytes_on.size(), 2U);
    EXPECT_GT(receipt.bytes_on.at(0), 0);
    int64_t sum = 0;
    for (const auto& [node, bytes] : receipt.bytes_on) sum += bytes;
    EXPECT_EQ(sum, receipt.bytes);
    EXPECT_EQ(receipt.bytes_copied, receipt.bytes);
    // Built where there is room.
    ASSERT_OK_AND_ASSIGN(arrow::MemoryPool* const pool, writer->memory_pool(0, true));
    const auto built = MakeTable(kColumnRows, 9, pool);
    ASSERT_OK_AND_ASSIGN(const auto put, writer->Put("u", *built, {.spill = true}));
    EXPECT_EQ(put.bytes_copied, 0);
  }
  ExpectEverywhere("t", *table);
  ExpectEverywhere("u", *MakeTable(kColumnRows, 9));
  for (const char* name : {"t", "u"}) ASSERT_OK(Connect(2)->Remove(name));
  ExpectAllBack();
}

INSTANTIATE_TEST_SUITE_P(Backends, Remote, EveryRemoteBackend(), RemoteBackendName);

}  // namespace
}  // namespace sheaf::testing
