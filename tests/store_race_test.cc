// Puts, opens and removes that meet others half-way: what was removed, replaced, failed
// or came up in the meantime.

#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <arrow/array/array_primitive.h>
#include <arrow/buffer.h>
#include <arrow/memory_pool.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gtest/gtest.h>

#include "daemon/log.h"
#include "daemon/test_server.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/sheaf.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"

namespace sheaf::testing {
namespace {

using arrow::Table;

constexpr int64_t kRows = 8192;  // 64 KiB of int64

// One column `name` of kRows int64, all `value`.
std::shared_ptr<Table> Filled(int64_t value, const std::string& name = "x",
                              arrow::MemoryPool* pool = arrow::default_memory_pool()) {
  std::shared_ptr<arrow::Buffer> values =
      arrow::AllocateBuffer(kRows * 8, pool).ValueOrDie();
  auto* words = reinterpret_cast<int64_t*>(values->mutable_data());
  std::fill(words, words + kRows, value);
  return Table::Make(arrow::schema({arrow::field(name, arrow::int64())}),
                     {std::make_shared<arrow::Int64Array>(kRows, std::move(values))});
}

class StoreRaceTest : public ::testing::Test {
 protected:
  void Start(const std::string& config) {
    TestClusterOptions options;
    options.config_toml =
        "segment_size = \"32MiB\"\nslots_max = 4096\nlease_pages_max = 16\n"
        "records_size = \"16MiB\"\n" +
        config;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(node0_, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(node1_, cluster_->Connect(1));
  }

  uint32_t ObjectsOn(uint32_t node) { return node0_->Nodes().ValueOrDie()[node].objects; }

  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> node0_;
  std::shared_ptr<Store> node1_;
};

// O4: the home of a new object can keep bytes of another home's object that was removed,
// once that home has answered: no scan can miss its cell then.
TEST_F(StoreRaceTest, BytesOfAnotherNodeWhoseTableWasRemovedAreShared) {
  Start("");
  ASSERT_OK(node1_->Put("parent", *Filled(7)));
  ASSERT_OK_AND_ASSIGN(auto held, node0_->Get("parent"));
  ASSERT_OK_AND_ASSIGN(const PutReceipt shared, node0_->Put("shared", *held));
  EXPECT_EQ(shared.bytes_copied, 0);
  ASSERT_OK(node0_->Remove("shared"));
  ASSERT_TRUE(Eventually([&] { return ObjectsOn(0) == 0; }));

  ASSERT_OK(node1_->Remove("parent"));
  ASSERT_OK_AND_ASSIGN(const PutReceipt again, node0_->Put("again", *held));
  EXPECT_EQ(again.bytes_copied, 0);
  EXPECT_EQ(again.bytes_shared, kRows * 8);
  held.reset();
  {
    ASSERT_OK_AND_ASSIGN(auto opened, node1_->Get("again"));
    EXPECT_TRUE(opened->Equals(*Filled(7)));
  }
  EXPECT_EQ(ObjectsOn(1), 1);
  ASSERT_OK(node0_->Remove("again"));
  EXPECT_TRUE(Eventually([&] { return ObjectsOn(1) == 0; }));
}

// The new version is visible before all is done; when the rest fails, the writer must not
// build over what others may have opened.
TEST_F(StoreRaceTest, AReplaceThatFailsLateIsNotBuiltOver) {
  Start("");
  ASSERT_OK(node1_->Put("t", *Filled(1)));
  ASSERT_OK_AND_ASSIGN(const auto config, region::ClusterConfig::Load(
                                              region::ClusterFilePath(cluster_->name())));
  pid_t daemon = 0;
  std::ifstream(config.lock_path(NodeId{1})) >> daemon;
  ASSERT_GT(daemon, 0);
  ASSERT_EQ(::kill(daemon, SIGSTOP), 0);  // the home of the old version does not answer
  auto replaced = node0_->Put("t", *Filled(2, "x", node0_->memory_pool()),
                              {.replace = true, .expected_version = {}});
  auto opened = node0_->Get("t");
  const auto other = Filled(99, "x", node0_->memory_pool());
  ASSERT_EQ(::kill(daemon, SIGCONT), 0);
  EXPECT_FALSE(replaced.ok());
  ASSERT_OK(opened);
  EXPECT_TRUE((*opened)->Equals(*Filled(2)));
  EXPECT_TRUE(other->Equals(*Filled(99)));
}

// Objects of another node that touch are not flushed here: this node never wrote them.
TEST_F(StoreRaceTest, ColumnsOfNeighbouringTablesOfAnotherNodeAreJoined) {
  Start("backend = \"sim\"\n");
  const auto both = Table::Make(arrow::schema({arrow::field("a", arrow::int64()),
                                               arrow::field("b", arrow::int64())}),
                                {Filled(1, "a", node1_->memory_pool())->column(0),
                                 Filled(2, "b", node1_->memory_pool())->column(0)});
  ASSERT_OK(node1_->Put("a", *both->SelectColumns({0}).ValueOrDie()));
  ASSERT_OK(node1_->Put("b", *both->SelectColumns({1}).ValueOrDie()));
  ASSERT_OK_AND_ASSIGN(auto a, node0_->Get("a"));
  ASSERT_OK_AND_ASSIGN(auto b, node0_->Get("b"));
  const auto address = [](const Table& table) {
    return table.column(0)->chunk(0)->data()->buffers[1]->address();
  };
  ASSERT_EQ(address(*a) + kRows * 8, address(*b)) << "the test wants neighbours";
  ASSERT_OK_AND_ASSIGN(
      const PutReceipt receipt,
      node0_->Put("joined", *Table::Make(both->schema(), {a->column(0), b->column(0)})));
  EXPECT_EQ(receipt.bytes_shared, 2 * kRows * 8);
  EXPECT_EQ(receipt.bytes_flushed, 0);
  ASSERT_OK_AND_ASSIGN(auto joined, node1_->Get("joined"));
  EXPECT_TRUE(joined->Equals(*both));
}

TEST_F(StoreRaceTest, ADroppedTableIsGoneAlsoForWhoHoldsIt) {
  Start("");
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, node0_->Share(*Filled(3)));
  ASSERT_OK_AND_ASSIGN(auto held, node1_->Open(receipt.handle));
  ASSERT_OK(node1_->Open(receipt.handle));
  ASSERT_OK(node0_->Drop(receipt.handle));
  const arrow::Status gone = node1_->Open(receipt.handle).status();
  EXPECT_TRUE(IsStaleGeneration(gone)) << gone;
  EXPECT_TRUE(held->Equals(*Filled(3)));
}

// A client may be there before the other nodes are.
TEST(LateNodeTest, ANodeThatComesUpLaterIsSeen) {
  const region::TestMemory memory;
  region::ClusterConfig config = memory.Config();
  ::setenv("SHEAF_RUNTIME_DIR", memory.path().c_str(), 1);
  config.runtime_folder = region::RuntimeRoot() + "/" + config.name;
  config.segment_size_bytes = uint64_t{16} << 20;
  config.records_size_bytes = uint64_t{1} << 20;
  daemon::SetLogLevel(daemon::LogLevel::kOff);
  std::filesystem::create_directories(config.runtime_folder);
  std::filesystem::permissions(config.runtime_folder, std::filesystem::perms::owner_all);
  ASSERT_OK(region::PrepareMemoryFolder(config));
  std::ofstream(region::ClusterFilePath(config.name)) << config.ToToml();

  daemon::ServerThread second(config, 1);
  ASSERT_OK_AND_ASSIGN(auto early, Store::Connect({config.name, 1}));
  // Node 0 was never up: this one leads the catalog, after a while.
  EXPECT_RAISES(KeyError, early->Get("t"));
  EXPECT_TRUE(early->Nodes().ValueOrDie()[1].is_leader);
  arrow::Status waited;
  std::thread waiter([&] { waited = early->Wait("t", std::chrono::minutes(1)); });
  const daemon::ServerThread first(config, 0);
  ASSERT_OK_AND_ASSIGN(auto writer, Store::Connect({config.name, 0}));
  ASSERT_OK(writer->Put("t", *Filled(5)));
  waiter.join();
  EXPECT_OK(waited);
  EXPECT_OK(early->Get("t"));
  EXPECT_OK(early->Put("u", *Filled(6)));

  ASSERT_OK_AND_ASSIGN(const PutReceipt shared, writer->Share(*Filled(7)));
  EXPECT_OK(early->Open(shared.handle));
}

}  // namespace
}  // namespace sheaf::testing
