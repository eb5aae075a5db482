// The public API on a real cluster of two nodes: names, versions, handles, leases,
// memory.

#include "sheaf/store.h"

#include <time.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arrow/builder.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "sheaf/status.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/peer.h"
#include "testing/test_cluster.h"

namespace sheaf::testing {
namespace {

using arrow::Table;
using std::chrono::milliseconds;

constexpr const char* kSmall =
    "segment_size = \"64MiB\"\nslots_max = 4096\nlease_pages_max = 16\nrecords_size = "
    "\"16MiB\"\n";

// `rows` int64 values from `first` on, and as many strings.
std::shared_ptr<Table> MakeTable(int64_t rows, int64_t first = 0,
                                 arrow::MemoryPool* pool = arrow::default_memory_pool()) {
  arrow::Int64Builder ids(pool);
  arrow::StringBuilder names(pool);
  for (int64_t i = 0; i < rows; ++i) {
    SHEAF_CHECK(ids.Append(first + i).ok());
    SHEAF_CHECK(names.Append("name " + std::to_string(first + i)).ok());
  }
  return Table::Make(arrow::schema({arrow::field("id", arrow::int64()),
                                    arrow::field("name", arrow::utf8())}),
                     {ids.Finish().ValueOrDie(), names.Finish().ValueOrDie()}, rows);
}

// A second process that opens names and holds what it opened.
std::string AnswerAsHolder(const std::string& request) {
  static auto* store = new std::shared_ptr<Store>();
  static auto* tables = new std::vector<std::shared_ptr<Table>>();
  const size_t space = request.find(' ');
  const std::string verb = request.substr(0, space);
  const std::string rest = space == std::string::npos ? "" : request.substr(space + 1);
  if (verb == "connect") {
    auto connected = Store::Connect({rest, 1});
    if (!connected.ok()) return connected.status().ToString();
    *store = *connected;
    return "ok";
  }
  if (verb == "build") {  // hold memory of the pool that is never published
    tables->push_back(MakeTable(100'000, 0, (*store)->memory_pool()));
    auto shared = (*store)->Share(*MakeTable(1000, 0, (*store)->memory_pool()));
    return shared.ok() ? "ok" : shared.status().ToString();
  }
  if (verb == "get") {
    auto opened = (*store)->Get(rest);
    if (!opened.ok()) return opened.status().ToString();
    tables->push_back(*opened);
    return std::to_string((*opened)->num_rows());
  }
  return "unknown request";
}

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "runs in the processes that other tests start";
  ServePeer(AnswerAsHolder);
}

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TestClusterOptions options;
    options.config_toml = kSmall;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(node0_, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(node1_, cluster_->Connect(1));
  }

  // What sessions hold only for speed is given back when they end.
  void Reconnect() {
    node0_.reset();
    node1_.reset();
    ASSERT_OK_AND_ASSIGN(node0_, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(node1_, cluster_->Connect(1));
  }

  bool AllFree() {
    return Eventually([&] {
      const auto nodes = node0_->Nodes().ValueOrDie();
      return nodes[0].used_bytes == 0 && nodes[1].used_bytes == 0 &&
             nodes[0].objects == 0 && nodes[1].objects == 0;
    });
  }
  std::unique_ptr<Peer> StartHolder() {
    auto peer = Peer::Start({}).ValueOrDie();
    EXPECT_EQ(peer->Ask("connect " + cluster_->name()).ValueOrDie(), "ok");
    return peer;
  }

  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> node0_;
  std::shared_ptr<Store> node1_;
};

TEST_F(StoreTest, ATablePutOnOneNodeIsOpenedOnAnother) {
  const auto table = MakeTable(1000);
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, node0_->Put("people", *table));
  EXPECT_EQ(receipt.version, 1U);
  EXPECT_EQ(receipt.num_rows, 1000);
  EXPECT_EQ(receipt.bytes_copied, receipt.bytes);
  ASSERT_OK_AND_ASSIGN(auto opened, node1_->Get("people"));
  EXPECT_TRUE(opened->Equals(*table, /*check_metadata=*/true));
}

TEST_F(StoreTest, ATableBuiltInThePoolIsNotCopied) {
  const auto table = MakeTable(10'000, 0, node0_->memory_pool());
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, node0_->Put("people", *table));
  EXPECT_EQ(receipt.bytes_copied, 0);
  EXPECT_EQ(receipt.bytes_shared, receipt.bytes);
  EXPECT_GT(receipt.bytes, 80'000);
}

TEST_F(StoreTest, ANameIsTakenUntilItIsRemovedOrReplaced) {
  ASSERT_OK(node0_->Put("t", *MakeTable(10)));
  EXPECT_RAISES(AlreadyExists, node0_->Put("t", *MakeTable(20)));
  EXPECT_RAISES(AlreadyExists, node1_->Put("t", *MakeTable(20)));
  ASSERT_OK_AND_ASSIGN(
      const PutReceipt receipt,
      node1_->Put("t", *MakeTable(20), {.replace = true, .expected_version = {}}));
  EXPECT_EQ(receipt.version, 2U);
  ASSERT_OK_AND_ASSIGN(auto opened, node0_->Get("t"));
  EXPECT_EQ(opened->num_rows(), 20);
  ASSERT_OK(node0_->Remove("t"));
  EXPECT_RAISES(KeyError, node1_->Get("t"));
  EXPECT_RAISES(KeyError, node1_->Remove("t"));
  ASSERT_OK(node1_->Put("t", *MakeTable(30)));
}

TEST_F(StoreTest, ReadersKeepTheVersionTheyOpened) {
  ASSERT_OK(node0_->Put("t", *MakeTable(1000, 0)));
  ASSERT_OK_AND_ASSIGN(auto first, node1_->Get("t"));
  for (int64_t i = 1; i <= 20; ++i) {
    ASSERT_OK(
        node0_->Put("t", *MakeTable(1000, i), {.replace = true, .expected_version = {}}));
  }
  EXPECT_TRUE(first->Equals(*MakeTable(1000, 0)));
  ASSERT_OK_AND_ASSIGN(auto last, node1_->Get("t"));
  EXPECT_TRUE(last->Equals(*MakeTable(1000, 20)));
}

TEST_F(StoreTest, ReplaceCanInsistOnAVersion) {
  ASSERT_OK(node0_->Put("t", *MakeTable(1)));
  ASSERT_OK(node0_->Put("t", *MakeTable(2), {.replace = true, .expected_version = 1}));
  const auto lost =
      node1_->Put("t", *MakeTable(3), {.replace = true, .expected_version = 1});
  EXPECT_TRUE(IsVersionMismatch(lost.status())) << lost.status();
  GetOptions old_version;
  old_version.version = 1;
  EXPECT_TRUE(IsVersionMismatch(node0_->Get("t", old_version).status()));
  GetOptions this_version;
  this_version.version = 2;
  ASSERT_OK_AND_ASSIGN(auto opened, node0_->Get("t", this_version));
  EXPECT_EQ(opened->num_rows(), 2);
}

TEST_F(StoreTest, AProjectionHasTheColumnsInTheOrderAskedFor) {
  ASSERT_OK(node0_->Put("t", *MakeTable(100)));
  GetOptions options;
  options.columns = {"name", "id"};
  ASSERT_OK_AND_ASSIGN(auto opened, node1_->Get("t", options));
  EXPECT_EQ(opened->ColumnNames(), (std::vector<std::string>{"name", "id"}));
  EXPECT_TRUE(opened->column(1)->Equals(MakeTable(100)->column(0)));
  options.columns = {"nobody"};
  const auto missing = node1_->Get("t", options).status();
  EXPECT_TRUE(missing.IsKeyError());
  EXPECT_NE(missing.message().find("id, name"), std::string::npos) << missing;
}

TEST_F(StoreTest, ListAndStatDescribeTables) {
  ASSERT_OK(node0_->Put("b", *MakeTable(10)));
  ASSERT_OK(node1_->Put("a", *MakeTable(20)));
  ASSERT_OK(node0_->Share(*MakeTable(5)));  // unnamed: not listed
  ASSERT_OK_AND_ASSIGN(auto infos, node1_->List());
  ASSERT_EQ(infos.size(), 2U);
  EXPECT_EQ(infos[0].name, "a");
  EXPECT_EQ(infos[0].home_node, 1U);
  EXPECT_EQ(infos[1].num_rows, 10);
  ASSERT_OK_AND_ASSIGN(auto unread, node0_->Stat("b"));
  EXPECT_EQ(unread.leases, 0U);
  EXPECT_EQ(unread.num_columns, 2);
  ASSERT_OK_AND_ASSIGN(auto one, node0_->Get("b"));
  ASSERT_OK_AND_ASSIGN(auto other, node1_->Get("b"));
  ASSERT_OK_AND_ASSIGN(auto read, node0_->Stat("b"));
  EXPECT_EQ(read.leases, 2U);
  ASSERT_OK_AND_ASSIGN(infos, node0_->List());
  ASSERT_EQ(infos.size(), 2U);
  EXPECT_EQ(infos[0].leases, 0U);
  EXPECT_EQ(infos[1].leases, 2U);
}

TEST_F(StoreTest, WaitEndsWhenTheNameAppearsOrTheTimeIsUp) {
  const auto late = node1_->Wait("t", milliseconds(1));
  EXPECT_TRUE(IsTimeout(late)) << late;
  std::thread writer([&] { EXPECT_OK(node0_->Put("t", *MakeTable(10))); });
  EXPECT_OK(node1_->Wait("t", milliseconds(60'000)));
  writer.join();
}

TEST_F(StoreTest, AHandleOpensSlicesAndColumnsAnywhere) {
  const auto table = MakeTable(1000);
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, node0_->Share(*table));
  EXPECT_EQ(receipt.version, 0U);
  ASSERT_OK_AND_ASSIGN(const Handle some, receipt.handle.Slice(100, 50).Select({1}));
  const std::string bytes = some.Serialize();
  EXPECT_LE(bytes.size(), 64U);
  ASSERT_OK_AND_ASSIGN(const Handle received, Handle::Deserialize(bytes));
  ASSERT_OK_AND_ASSIGN(auto opened, node1_->Open(received));
  ASSERT_OK_AND_ASSIGN(auto expected, table->SelectColumns({1}));
  EXPECT_TRUE(opened->Equals(*expected->Slice(100, 50)));
  EXPECT_RAISES(Invalid, node1_->Open(receipt.handle.Slice(990, 11)));
  EXPECT_RAISES(Invalid, node1_->Open(receipt.handle.Slice(-1, 1)));
  EXPECT_RAISES(Invalid, node1_->Open(receipt.handle.Slice(1001)));
  const Handle ten = receipt.handle.Slice(0, 10);
  ASSERT_OK_AND_ASSIGN(auto rest, node1_->Open(ten.Slice(2)));
  EXPECT_EQ(rest->num_rows(), 8);
  EXPECT_RAISES(Invalid, node1_->Open(ten.Slice(11)));
  EXPECT_RAISES(Invalid, node1_->Open(ten.Slice(5, 6)));
  EXPECT_RAISES(Invalid, node1_->Open(ten.Slice(5, 6).Slice(0, 1)));
  Handle forged = receipt.handle;
  forged.num_rows = -2;
  EXPECT_RAISES(Invalid, node1_->Open(forged));
  ASSERT_OK_AND_ASSIGN(const Handle wild, receipt.handle.Select({2}));
  EXPECT_RAISES(Invalid, node1_->Open(wild));
}

TEST_F(StoreTest, AnUnnamedObjectEndsWithItsSessionUnlessKept) {
  ASSERT_OK_AND_ASSIGN(auto session, cluster_->Connect(0));
  ASSERT_OK_AND_ASSIGN(const PutReceipt dropped, session->Share(*MakeTable(10)));
  ASSERT_OK_AND_ASSIGN(const PutReceipt ended, session->Share(*MakeTable(20)));
  ASSERT_OK_AND_ASSIGN(const PutReceipt kept,
                       session->Share(*MakeTable(30), {.keep = true}));
  ASSERT_OK_AND_ASSIGN(const PutReceipt kept_later, session->Share(*MakeTable(40)));
  ASSERT_OK(session->Keep(kept_later.handle));
  ASSERT_OK_AND_ASSIGN(auto held, node1_->Open(ended.handle));
  ASSERT_OK(session->Drop(dropped.handle));
  ASSERT_OK(session->Drop(dropped.handle));  // idempotent
  EXPECT_TRUE(IsStaleGeneration(node1_->Open(dropped.handle).status()));
  session.reset();
  ASSERT_OK_AND_ASSIGN(auto other, cluster_->Connect(1));
  EXPECT_TRUE(
      Eventually([&] { return IsStaleGeneration(other->Open(ended.handle).status()); }));
  EXPECT_TRUE(held->Equals(*MakeTable(20)));
  EXPECT_OK(node1_->Open(kept.handle));
  EXPECT_OK(node1_->Open(kept_later.handle));
}

TEST_F(StoreTest, ASliceHeldForLongKeepsItsBytes) {
  ASSERT_OK(node0_->Put("t", *MakeTable(100'000)));
  ASSERT_OK_AND_ASSIGN(auto whole, node1_->Get("t"));
  auto slice = whole->Slice(500, 3);
  whole.reset();
  ASSERT_OK(node0_->Remove("t"));
  for (int64_t i = 0; i < 30;
       ++i) {  // many times the segment's size: everything free is used again
    ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, node0_->Share(*MakeTable(100'000, 7)));
    ASSERT_OK(node0_->Drop(receipt.handle));
  }
  EXPECT_TRUE(slice->Equals(*MakeTable(100'000)->Slice(500, 3)));
}

TEST_F(StoreTest, AWriterKeepsReadingWhatItBuiltAfterTheTableIsGone) {
  const auto table = MakeTable(100'000, 0, node0_->memory_pool());
  ASSERT_OK(node0_->Put("t", *table));
  ASSERT_OK(node0_->Remove("t"));
  ASSERT_OK_AND_ASSIGN(auto other, cluster_->Connect(0));
  for (int i = 0; i < 30; ++i) {
    ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, other->Share(*MakeTable(100'000, 7)));
    ASSERT_OK(other->Drop(receipt.handle));
  }
  EXPECT_TRUE(table->Equals(*MakeTable(100'000)));
}

TEST_F(StoreTest, ASliceOfAnOpenedTableIsPutWithoutACopy) {
  ASSERT_OK(node0_->Put("t", *MakeTable(10'000)));
  ASSERT_OK_AND_ASSIGN(auto opened, node0_->Get("t"));
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt,
                       node0_->Put("slice", *opened->Slice(1000, 10)));
  EXPECT_EQ(receipt.bytes_copied, 0);
  opened.reset();
  ASSERT_OK(node0_->Remove("t"));
  ASSERT_OK_AND_ASSIGN(auto slice, node1_->Get("slice"));
  EXPECT_TRUE(slice->Equals(*MakeTable(10'000)->Slice(1000, 10)));
}

TEST_F(StoreTest, AnObjectMayReferToBytesOfAnotherNode) {
  ASSERT_OK(node0_->Put("t", *MakeTable(10'000)));
  ASSERT_OK_AND_ASSIGN(auto opened, node1_->Get("t"));
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt,
                       node1_->Put("slice", *opened->Slice(1000, 10)));
  EXPECT_EQ(receipt.bytes_copied, 0);
  EXPECT_EQ(receipt.handle.object.segment.value, 1U);
  opened.reset();
  ASSERT_OK(node0_->Remove("t"));
  // Also of a slice of that slice: references are flattened.
  ASSERT_OK_AND_ASSIGN(auto slice, node0_->Get("slice"));
  ASSERT_OK(node0_->Put("again", *slice->Slice(2, 3)));
  slice.reset();
  ASSERT_OK(node1_->Remove("slice"));
  for (int i = 0; i < 30; ++i) {
    ASSERT_OK_AND_ASSIGN(const PutReceipt filler, node0_->Share(*MakeTable(100'000, 7)));
    ASSERT_OK(node0_->Drop(filler.handle));
  }
  ASSERT_OK_AND_ASSIGN(auto again, node1_->Get("again"));
  EXPECT_TRUE(again->Equals(*MakeTable(10'000)->Slice(1002, 3)));
  again.reset();
  ASSERT_OK(node1_->Remove("again"));
  Reconnect();
  EXPECT_TRUE(AllFree());
}

TEST_F(StoreTest, APutOfASliceDoesNotShipItsParent) {
  const auto table = MakeTable(1'000'000);
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt,
                       node0_->Put("t", *table->Slice(500'000, 10)));
  EXPECT_LT(receipt.bytes_copied, 16'384);
  ASSERT_OK_AND_ASSIGN(auto opened, node1_->Get("t"));
  EXPECT_TRUE(opened->Equals(*table->Slice(500'000, 10)));
}

TEST_F(StoreTest, BuffersThatColumnsShareAreStoredOnce) {
  const auto table = MakeTable(10'000);
  ASSERT_OK_AND_ASSIGN(auto twice, table->AddColumn(2, table->field(0)->WithName("id2"),
                                                    table->column(0)));
  ASSERT_OK_AND_ASSIGN(const PutReceipt once, node0_->Put("once", *table));
  ASSERT_OK_AND_ASSIGN(const PutReceipt shared, node0_->Put("twice", *twice));
  EXPECT_EQ(shared.bytes, once.bytes);
  ASSERT_OK_AND_ASSIGN(auto opened, node1_->Get("twice"));
  EXPECT_EQ(opened->column(0)->chunk(0)->data()->buffers[1]->data(),
            opened->column(2)->chunk(0)->data()->buffers[1]->data());
}

TEST_F(StoreTest, AWriterAppendsAndSeals) {
  const auto table = MakeTable(1000);
  ASSERT_OK_AND_ASSIGN(auto writer, node0_->NewWriter("t", table->schema()));
  arrow::TableBatchReader batches(*table);
  batches.set_chunksize(300);
  std::shared_ptr<arrow::RecordBatch> batch;
  while (batches.ReadNext(&batch).ok() && batch != nullptr)
    ASSERT_OK(writer->Append(*batch));
  EXPECT_RAISES(KeyError, node1_->Get("t"));
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, writer->Seal());
  EXPECT_EQ(receipt.num_rows, 1000);
  EXPECT_RAISES(Invalid, writer->Seal());
  ASSERT_OK_AND_ASSIGN(auto opened, node1_->Get("t"));
  EXPECT_EQ(opened->column(0)->num_chunks(), 4);
  EXPECT_TRUE(opened->Equals(*table));
}

TEST_F(StoreTest, ABatchOfAnotherSchemaIsRefused) {
  ASSERT_OK_AND_ASSIGN(
      auto writer,
      node0_->NewWriter("t", arrow::schema({arrow::field("x", arrow::int8())})));
  ASSERT_OK_AND_ASSIGN(auto batch, MakeTable(10)->CombineChunksToBatch());
  EXPECT_RAISES(Invalid, writer->Append(*batch));
}

TEST_F(StoreTest, MemoryIsFreeAgainAfterEverythingIsGone) {
  for (int round = 0; round < 3; ++round) {
    ASSERT_OK(node0_->Put("a", *MakeTable(10'000)));
    ASSERT_OK(node0_->Put("b", *MakeTable(10'000, 0, node0_->memory_pool())));
    ASSERT_OK_AND_ASSIGN(auto opened, node1_->Get("a"));
    ASSERT_OK(node1_->Put("c", *opened->Slice(5, 5)));
    ASSERT_OK(
        node0_->Put("a", *MakeTable(5000), {.replace = true, .expected_version = {}}));
    for (const char* name : {"a", "b", "c"}) ASSERT_OK(node0_->Remove(name));
  }
  Reconnect();
  EXPECT_TRUE(AllFree());
}

TEST_F(StoreTest, AKilledClientGivesBackWhatItHeld) {
  ASSERT_OK(node0_->Put("t", *MakeTable(1000)));
  auto holder = StartHolder();
  ASSERT_OK_AND_ASSIGN(const std::string rows, holder->Ask("get t"));
  EXPECT_EQ(rows, "1000");
  ASSERT_OK_AND_ASSIGN(const std::string built, holder->Ask("build"));
  EXPECT_EQ(built, "ok");
  ASSERT_OK_AND_ASSIGN(auto info, node0_->Stat("t"));
  EXPECT_EQ(info.leases, 1U);
  ASSERT_OK(node0_->Remove("t"));
  holder->Kill();
  Reconnect();
  EXPECT_TRUE(AllFree());
}

TEST_F(StoreTest, ATableOutlivesTheStoreItCameFrom) {
  ASSERT_OK(node0_->Put("t", *MakeTable(1000)));
  ASSERT_OK_AND_ASSIGN(auto session, cluster_->Connect(1));
  ASSERT_OK_AND_ASSIGN(auto opened, session->Get("t"));
  const auto built = MakeTable(1000, 5, session->memory_pool());
  session.reset();
  EXPECT_TRUE(opened->Equals(*MakeTable(1000)));
  EXPECT_TRUE(built->Equals(*MakeTable(1000, 5)));
  ASSERT_OK_AND_ASSIGN(auto info, node0_->Stat("t"));
  EXPECT_EQ(info.leases, 1U);
}

TEST_F(StoreTest, StatTellsOfOneVersionWhileTheNameIsReplaced) {
  constexpr int64_t kVersions = 300;
  ASSERT_OK(node0_->Put("t", *MakeTable(1)));
  std::vector<Handle> handles;  // of version i + 2, which has i + 2 rows
  std::atomic<bool> done = false;
  std::thread replacing([&] {
    for (int64_t rows = 2; rows <= kVersions; ++rows) {
      const auto put =
          node0_->Put("t", *MakeTable(rows), {.replace = true, .expected_version = {}});
      EXPECT_OK(put);
      if (put.ok()) handles.push_back(put->handle);
    }
    done = true;
  });
  std::vector<TableInfo> seen;
  do {
    const auto info = node1_->Stat("t");
    EXPECT_OK(info);
    if (info.ok()) seen.push_back(*info);
  } while (!done);
  replacing.join();
  ASSERT_EQ(handles.size(), static_cast<size_t>(kVersions - 1));
  for (const TableInfo& info : seen) {
    EXPECT_EQ(info.num_rows, info.version);
    if (info.version < 2) continue;
    EXPECT_EQ(info.handle.object, handles[info.version - 2].object) << info.version;
  }
}

TEST_F(StoreTest, BadNamesAreRefused) {
  const auto table = MakeTable(1);
  for (const std::string& name :
       {std::string(), std::string(256, 'x'), std::string("a\nb"), std::string("a\0b", 3),
        std::string("\xff\xfe"), std::string("\x7f")}) {
    EXPECT_RAISES(Invalid, node0_->Put(name, *table)) << name;
    EXPECT_RAISES(Invalid, node0_->Get(name)) << name;
  }
  EXPECT_OK(node0_->Put(std::string(255, 'x'), *table));
  EXPECT_OK(node0_->Put("grüße/東京 1", *table));
  EXPECT_OK(node1_->Get("grüße/東京 1"));
}

TEST_F(StoreTest, ManyThreadsShareOneStore) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::string name = "t" + std::to_string(t);
      for (int64_t i = 0; i < 20; ++i) {
        const auto table = MakeTable(1000, i, node0_->memory_pool());
        ASSERT_OK(node0_->Put(name, *table, {.replace = true, .expected_version = {}}));
        ASSERT_OK_AND_ASSIGN(auto opened, node1_->Get(name));
        ASSERT_TRUE(opened->Equals(*table));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace sheaf::testing
