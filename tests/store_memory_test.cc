// What puts take of the shared memory, and give back: on a real cluster, whatever the
// end.

#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <ios>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_binary.h>
#include <arrow/array/array_dict.h>
#include <arrow/buffer.h>
#include <arrow/builder.h>
#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "sheaf/cluster.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"

namespace sheaf::testing {
namespace {

using arrow::RecordBatch;
using arrow::Table;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;
constexpr const char* kSmall =
    "segment_size = \"64MiB\"\nslots_max = 4096\nlease_pages_max = 16\nrecords_size = "
    "\"16MiB\"\n";

std::shared_ptr<Table> MakeTable(int64_t rows,
                                 arrow::MemoryPool* pool = arrow::default_memory_pool()) {
  arrow::Int64Builder ids(pool);
  arrow::StringBuilder names(pool);
  for (int64_t i = 0; i < rows; ++i) {
    SHEAF_CHECK(ids.Append(i).ok());
    SHEAF_CHECK(names.Append("name " + std::to_string(i)).ok());
  }
  return Table::Make(arrow::schema({arrow::field("id", arrow::int64()),
                                    arrow::field("name", arrow::utf8())}),
                     {ids.Finish().ValueOrDie(), names.Finish().ValueOrDie()}, rows);
}

std::shared_ptr<RecordBatch> MakeBatch(int64_t rows) {
  return MakeTable(rows)->CombineChunksToBatch().ValueOrDie();
}

// The batches, then `end`.
class ListReader : public arrow::RecordBatchReader {
 public:
  ListReader(std::vector<std::shared_ptr<RecordBatch>> batches, arrow::Status end)
      : batches_(std::move(batches)), end_(std::move(end)) {}
  std::shared_ptr<arrow::Schema> schema() const override { return batches_[0]->schema(); }
  arrow::Status ReadNext(std::shared_ptr<RecordBatch>* batch) override {
    *batch = nullptr;
    if (next_ == batches_.size()) return end_;
    *batch = batches_[next_++];
    return arrow::Status::OK();
  }

 private:
  std::vector<std::shared_ptr<RecordBatch>> batches_;
  arrow::Status end_;
  size_t next_ = 0;
};

class StoreMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TestClusterOptions options;
    options.config_toml = kSmall;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(store_, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(other_, cluster_->Connect(1));
  }
  NodeInfo Home() { return other_->Nodes().ValueOrDie()[0]; }

  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> store_;
  std::shared_ptr<Store> other_;  // Of another node: it holds nothing of node 0.
};

// Bytes of the cluster's memory that this process may store to, by the name of the part.
std::map<std::string, uint64_t> WritableBytes(const std::string& cluster) {
  std::map<std::string, uint64_t> bytes;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("-" + cluster + "/node") == std::string::npos) continue;
    std::istringstream fields(line);
    uintptr_t begin = 0;
    uintptr_t end = 0;
    char dash = 0;
    std::string access;
    fields >> std::hex >> begin >> dash >> end >> access;
    if (access[1] == 'w') bytes[line.substr(line.rfind('/') + 1)] += end - begin;
  }
  return bytes;
}

TEST_F(StoreMemoryTest, AStrayStoreReachesNothingThatIsAnothers) {
  other_.reset();
  constexpr uint64_t kPageBytes = 4096;  // of 504 leases; a session begins with two
  std::map<std::string, uint64_t> own = {{"leases", 2 * kPageBytes}};
  EXPECT_EQ(WritableBytes(cluster_->name()), own);
  auto building = MakeTable(10, store_->memory_pool());
  own["data"] = 2 * kMiB;
  EXPECT_EQ(WritableBytes(cluster_->name()), own);
  building.reset();
  store_->memory_pool()->ReleaseUnused();
  own.erase("data");
  EXPECT_EQ(WritableBytes(cluster_->name()), own);
}

TEST_F(StoreMemoryTest, ATableThatDoesNotFitSaysSoAndLeavesNothingBehind) {
  ASSERT_OK(store_->Put("there", *MakeTable(100'000)));
  const uint64_t free_before = Home().free_bytes;
  const arrow::Status full = store_->Put("t", *MakeTable(4'000'000)).status();
  ASSERT_TRUE(full.IsOutOfMemory()) << full;
  const NodeInfo home = Home();
  EXPECT_GE(home.free_bytes, free_before);
  // 8 bytes of id, 4 of offset and 11 or 12 of name.
  const int64_t needed = 4'000'000 * 8 + 4'000'001 * 4;
  std::string text = full.message();
  EXPECT_THAT(text, HasSubstr("table 't'"));
  EXPECT_THAT(text, HasSubstr("has " + std::to_string(home.free_bytes) + " of " +
                              std::to_string(home.size_bytes) + " bytes free"));
  EXPECT_THAT(text, HasSubstr("largest free range has " +
                              std::to_string(home.largest_free_bytes) + " bytes"));
  EXPECT_THAT(text, HasSubstr("sheaf rm"));
  EXPECT_THAT(text, HasSubstr("--size"));
  const std::string before = "needs at least ";
  const size_t found = text.find(before);
  ASSERT_NE(found, std::string::npos) << text;
  EXPECT_GT(std::stoll(text.substr(found + before.size())), needed);
  EXPECT_LT(std::stoll(text.substr(found + before.size())), 3 * needed);
  EXPECT_RAISES(KeyError, store_->Get("t"));
  EXPECT_OK(store_->Put("t", *MakeTable(1000)));
}

TEST_F(StoreMemoryTest, AnUnnamedTableThatDoesNotFitSaysSo) {
  const arrow::Status full = store_->Share(*MakeTable(4'000'000)).status();
  ASSERT_TRUE(full.IsOutOfMemory()) << full;
  EXPECT_THAT(full.message(), HasSubstr("largest free range has 67108864 bytes"));
  EXPECT_EQ(Home().used_bytes, 0U);
}

TEST_F(StoreMemoryTest, ASessionKeepsLittleFreeForItself) {
  auto built = MakeTable(400'000, store_->memory_pool());
  EXPECT_GT(Home().used_bytes, 8 * kMiB);
  built.reset();
  EXPECT_LE(Home().used_bytes, Home().size_bytes / 16);
}

TEST_F(StoreMemoryTest, NothingIsKeptFreeWhenTheHomeHasLittle) {
  ASSERT_OK_AND_ASSIGN(const PutReceipt large,
                       store_->Put("large", *MakeTable(2'500'000)));
  const auto bytes_left = Home().size_bytes - static_cast<uint64_t>(large.bytes);
  ASSERT_LT(bytes_left, Home().size_bytes / 8);
  std::vector<std::unique_ptr<arrow::Buffer>> buffers;
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(buffers.emplace_back(),
                         arrow::AllocateBuffer(1 << 20, store_->memory_pool()));
  }
  buffers.clear();
  EXPECT_GT(Home().used_bytes, static_cast<uint64_t>(large.bytes) + kMiB);
  ASSERT_OK_AND_ASSIGN(const PutReceipt small, store_->Put("small", *MakeTable(10)));
  EXPECT_LT(Home().used_bytes, static_cast<uint64_t>(large.bytes + small.bytes) + kMiB);
}

TEST_F(StoreMemoryTest, AReaderIsPutBatchByBatch) {
  const auto batch = MakeBatch(1000);
  ListReader reader({batch, batch->Slice(10, 20), batch}, arrow::Status::OK());
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, store_->Put("t", &reader));
  EXPECT_EQ(receipt.num_rows, 2020);
  ASSERT_OK_AND_ASSIGN(auto opened, other_->Get("t"));
  ASSERT_OK_AND_ASSIGN(auto expected,
                       Table::FromRecordBatches({batch, batch->Slice(10, 20), batch}));
  EXPECT_TRUE(opened->Equals(*expected));
  EXPECT_EQ(opened->column(0)->num_chunks(), 3);
}

TEST_F(StoreMemoryTest, AReaderThatFailsMidwayLeavesNothing) {
  std::vector<std::shared_ptr<RecordBatch>> batches;
  for (int i = 0; i < 3; ++i) batches.push_back(MakeBatch(300'000));
  ListReader reader(batches, arrow::Status::IOError("the disk is gone"));
  const arrow::Status failed = store_->Put("t", &reader).status();
  EXPECT_TRUE(failed.IsIOError()) << failed;
  EXPECT_EQ(failed.message(), "the disk is gone");
  EXPECT_RAISES(KeyError, other_->Get("t"));
  EXPECT_LE(Home().used_bytes, Home().size_bytes / 16);
  EXPECT_EQ(Home().objects, 0U);
  store_.reset();
  EXPECT_TRUE(Eventually([&] { return Home().used_bytes == 0; }));
}

TEST_F(StoreMemoryTest, AReaderThatDoesNotFitSaysWhatAllOfItNeedsSoFar) {
  std::vector<std::shared_ptr<RecordBatch>> batches;
  for (int i = 0; i < 10; ++i) batches.push_back(MakeBatch(400'000));
  ListReader reader(batches, arrow::Status::OK());
  const arrow::Status full = store_->Put("t", &reader).status();
  ASSERT_TRUE(full.IsOutOfMemory()) << full;
  EXPECT_THAT(full.message(), HasSubstr("largest free range has 67108864 bytes"));
  EXPECT_EQ(Home().used_bytes, 0U);
}

TEST_F(StoreMemoryTest, AWriterThatIsDroppedLeavesNothing) {
  ASSERT_OK_AND_ASSIGN(auto writer, store_->NewWriter("t", MakeBatch(1)->schema()));
  ASSERT_OK(writer->Append(*MakeBatch(1'000'000)));
  EXPECT_GT(Home().used_bytes, 20 * kMiB);
  writer.reset();
  EXPECT_LE(Home().used_bytes, Home().size_bytes / 16);
  EXPECT_RAISES(KeyError, other_->Get("t"));
  store_.reset();
  EXPECT_TRUE(Eventually([&] { return Home().used_bytes == 0; }));
}

TEST_F(StoreMemoryTest, AWriterGoesOnAfterABatchThatDidNotFit) {
  const auto batch = MakeBatch(100'000);
  ASSERT_OK_AND_ASSIGN(auto writer, store_->NewWriter("t", batch->schema()));
  ASSERT_OK(writer->Append(*batch));
  const arrow::Status full = writer->Append(*MakeBatch(4'000'000));
  ASSERT_TRUE(full.IsOutOfMemory()) << full;
  EXPECT_THAT(full.message(), HasSubstr("largest free range"));
  ASSERT_OK(writer->Append(*batch));
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, writer->Seal());
  EXPECT_EQ(receipt.num_rows, 200'000);
  EXPECT_EQ(receipt.bytes_copied, receipt.bytes);
  ASSERT_OK_AND_ASSIGN(auto opened, other_->Get("t"));
  ASSERT_OK_AND_ASSIGN(auto expected, Table::FromRecordBatches({batch, batch}));
  EXPECT_TRUE(opened->Equals(*expected));
}

// Batches of one dictionary, which all of them share.
std::vector<std::shared_ptr<RecordBatch>> MakeDictionaryBatches(int num_batches) {
  const auto dictionary = MakeTable(10'000)->column(1)->chunk(0);
  std::vector<std::shared_ptr<RecordBatch>> batches;
  for (int i = 0; i < num_batches; ++i) {
    arrow::Int32Builder indices;
    for (int k = 0; k < 100; ++k) SHEAF_CHECK(indices.Append(i * 100 + k).ok());
    const auto array =
        arrow::DictionaryArray::FromArrays(indices.Finish().ValueOrDie(), dictionary)
            .ValueOrDie();
    batches.push_back(RecordBatch::Make(arrow::schema({arrow::field("d", array->type())}),
                                        100, {array}));
  }
  return batches;
}

TEST_F(StoreMemoryTest, ADictionaryThatBatchesShareIsStoredOnce) {
  const auto batches = MakeDictionaryBatches(100);
  ListReader one({batches[0]}, arrow::Status::OK());
  ASSERT_OK_AND_ASSIGN(const PutReceipt first, store_->Put("one", &one));
  ListReader all(batches, arrow::Status::OK());
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, store_->Put("all", &all));
  EXPECT_EQ(receipt.bytes, first.bytes + 99 * 400);
  EXPECT_EQ(receipt.bytes_copied, receipt.bytes);
  ASSERT_OK_AND_ASSIGN(auto opened, other_->Get("all"));
  ASSERT_OK_AND_ASSIGN(auto expected, Table::FromRecordBatches(batches));
  EXPECT_TRUE(opened->Equals(*expected));
}

TEST_F(StoreMemoryTest, TextThatStringViewsOfBatchesShareIsStoredOnce) {
  arrow::StringViewBuilder builder;
  for (int i = 0; i < 10'240; ++i) {
    ASSERT_OK(builder.Append("longer than a view holds " + std::to_string(i)));
  }
  ASSERT_OK_AND_ASSIGN(auto views, builder.Finish());
  const auto table =
      Table::Make(arrow::schema({arrow::field("v", arrow::utf8_view())}), {views});
  arrow::TableBatchReader reader(*table);
  reader.set_chunksize(512);  // Slices are cut at multiples of that.
  ASSERT_OK_AND_ASSIGN(const PutReceipt once, store_->Put("once", *table));
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, store_->Put("batches", &reader));
  EXPECT_EQ(receipt.bytes, once.bytes);
  EXPECT_EQ(receipt.bytes_copied, receipt.bytes);
  ASSERT_OK_AND_ASSIGN(auto opened, other_->Get("batches"));
  EXPECT_EQ(opened->column(0)->num_chunks(), 20);
  EXPECT_TRUE(opened->Equals(*table));
}

// A reader may free each batch before it makes the next, at the same address.
TEST_F(StoreMemoryTest, MemoryThatIsUsedAgainIsNotTakenForWhatWasThere) {
  constexpr int64_t kRows = 1000;
  std::vector<int64_t> memory(kRows);
  const auto schema = arrow::schema({arrow::field("x", arrow::int64())});
  ASSERT_OK_AND_ASSIGN(auto writer, store_->NewWriter("t", schema));
  for (int64_t round = 0; round < 20; ++round) {
    memory.assign(kRows, round);
    // Not make_shared: a weak_ptr would keep the address of the Buffer itself taken.
    const std::shared_ptr<arrow::Buffer> bytes(
        new arrow::Buffer(reinterpret_cast<const uint8_t*>(memory.data()), kRows * 8));
    ASSERT_OK(writer->Append(*RecordBatch::Make(
        schema, kRows, {std::make_shared<arrow::Int64Array>(kRows, bytes)})));
  }
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, writer->Seal());
  EXPECT_EQ(receipt.bytes_copied, 20 * kRows * 8);
  ASSERT_OK_AND_ASSIGN(auto opened, other_->Get("t"));
  for (int round = 0; round < 20; ++round) {
    const auto& chunk =
        static_cast<const arrow::Int64Array&>(*opened->column(0)->chunk(round));
    EXPECT_EQ(chunk.Value(kRows - 1), round);
  }
}

TEST_F(StoreMemoryTest, AWriterDoesNotKeepPrivateMemoryAlive) {
  auto batch = MakeBatch(1000);
  const std::weak_ptr<arrow::Buffer> watch = batch->column_data(0)->buffers[1];
  ASSERT_OK_AND_ASSIGN(auto writer, store_->NewWriter("t", batch->schema()));
  ASSERT_OK(writer->Append(*batch));
  batch.reset();
  EXPECT_TRUE(watch.expired());
}

TEST_F(StoreMemoryTest, ATableIsCopiedIntoAFragmentedSegment) {
  // Every second of many tables goes: no free range is large.
  for (int i = 0; i < 28; ++i) {
    ASSERT_OK(store_->Put("t" + std::to_string(i), *MakeTable(80'000)));  // 2 MiB
  }
  for (int i = 0; i < 28; i += 2) ASSERT_OK(store_->Remove("t" + std::to_string(i)));
  EXPECT_TRUE(Eventually([&] { return Home().objects == 14; }));
  ASSERT_LT(Home().largest_free_bytes, 14 * kMiB);
  std::vector<std::shared_ptr<arrow::ChunkedArray>> columns;
  arrow::FieldVector fields;
  for (int i = 0; i < 20; ++i) {
    const auto table = MakeTable(40'000);
    fields.push_back(arrow::field(std::to_string(i), arrow::int64()));
    fields.push_back(arrow::field("name " + std::to_string(i), arrow::utf8()));
    columns.push_back(table->column(0));
    columns.push_back(table->column(1));
  }
  const auto table = Table::Make(arrow::schema(fields), columns);
  ASSERT_OK(store_->Put("large", *table));
  ASSERT_OK_AND_ASSIGN(auto opened, other_->Get("large"));
  EXPECT_TRUE(opened->Equals(*table));
}

TEST_F(StoreMemoryTest, AnEmptyBufferOutlivesItsStore) {
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<arrow::Buffer> empty,
                       arrow::AllocateBuffer(0, store_->memory_pool()));
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<arrow::Buffer> full,
                       arrow::AllocateBuffer(100, store_->memory_pool()));
  full.reset();
  store_.reset();
  EXPECT_EQ(Home().sessions, 1U);  // Still there, for the buffer.
  EXPECT_GT(Home().used_bytes, 0U);
  empty.reset();
  EXPECT_EQ(Home().used_bytes, 0U);
  ASSERT_OK_AND_ASSIGN(store_, cluster_->Connect(0));  // Ends the session before.
  EXPECT_EQ(Home().sessions, 1U);
}

TEST_F(StoreMemoryTest, BuffersThatOutliveTheirStoreGiveMemoryBackAsTheyGo) {
  auto small = MakeTable(10, store_->memory_pool());
  auto large = MakeTable(500'000, store_->memory_pool());
  store_.reset();
  EXPECT_GT(Home().used_bytes, 10 * kMiB);
  large.reset();
  EXPECT_LE(Home().used_bytes, 4 * kMiB);  // The extents in which the small one lies.
  small.reset();
  EXPECT_EQ(Home().used_bytes, 0U);
}

TEST_F(StoreMemoryTest, AForkedChildTakesAndGivesNothingOfItsParents) {
  ASSERT_OK_AND_ASSIGN(auto retained,
                       arrow::AllocateBuffer(1 << 20, store_->memory_pool()));
  ASSERT_OK_AND_ASSIGN(auto live, arrow::AllocateBuffer(100, store_->memory_pool()));
  retained.reset();
  const uint64_t used_before = Home().used_bytes;
  EXPECT_GT(used_before, 0U);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto refused = arrow::AllocateBuffer(8 << 20, store_->memory_pool());
    live.reset();
    store_.reset();
    ::_exit(refused.status().IsInvalid() ? 0 : 1);
  }
  int code = -1;
  ASSERT_EQ(::waitpid(child, &code, 0), child);
  EXPECT_EQ(code, 0);
  EXPECT_EQ(Home().used_bytes, used_before);
  EXPECT_OK(store_->Put("t", *MakeTable(1000)));
}

/// The session named it as its own to the next daemon, and it never came back.
TEST(MemoryWithoutADaemon, WhatIsGivenBackMeanwhileComesBackWithTheNext) {
  TestClusterOptions options;
  options.nodes = 1;
  options.config_toml = kSmall;
  options.daemon_path = SHEAFD_BINARY;
  ASSERT_OK_AND_ASSIGN(const auto cluster, TestCluster::Start(options));
  ASSERT_OK_AND_ASSIGN(const auto store, cluster->Connect(0));
  constexpr int64_t kSize = 16 * kMiB;  // more than a session keeps for its own reuse
  uint8_t* buffer = nullptr;
  ASSERT_OK(store->memory_pool()->Allocate(kSize, &buffer));
  ASSERT_OK(StopCluster(cluster->name(), {.keep = true}));
  store->memory_pool()->Free(buffer, kSize);
  ASSERT_OK(cluster->StartMissing());
  EXPECT_TRUE(store->Remove("none").IsKeyError());  // the same session goes on
  ASSERT_OK(store->Put("t", *MakeTable(10)));       // with its daemon
  ASSERT_OK(store->Remove("t"));
  EXPECT_TRUE(Eventually([&] {
    return store->Nodes().ValueOrDie()[0].used_bytes < static_cast<uint64_t>(kSize);
  }));
}

}  // namespace
}  // namespace sheaf::testing
