// Tables whose parts lie on four nodes (sheaf/parts.h).

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/acero/exec_plan.h>
#include <arrow/acero/options.h>
#include <arrow/array/builder_binary.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/chunked_array.h>
#include <arrow/compute/api_aggregate.h>
#include <arrow/compute/expression.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/store_session.h"
#include "region/region.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/peer.h"
#include "testing/test_cluster.h"
#include "tests/four_nodes.h"

namespace sheaf::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// TPC-H 1, in short: sums by flag of what was shipped until a day.
arrow::Result<TablePtr> PricingSummary(const TablePtr& table) {
  namespace ac = arrow::acero;
  namespace cp = arrow::compute;
  return ac::DeclarationToTable(ac::Declaration::Sequence(
      {{"table_source", ac::TableSourceNodeOptions(table)},
       {"filter", ac::FilterNodeOptions(cp::less_equal(
                      cp::field_ref("l_shipdate"),
                      cp::literal(std::make_shared<arrow::Date32Scalar>(10471))))},
       {"aggregate",
        ac::AggregateNodeOptions({{"hash_sum", nullptr, "l_quantity", "quantity"},
                                  {"hash_sum", nullptr, "l_extendedprice", "price"},
                                  {"hash_count", nullptr, "l_orderkey", "orders"}},
                                 {"l_flags"})},
       {"order_by", ac::OrderByNodeOptions(cp::Ordering({cp::SortKey("l_flags")}))}}));
}

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "started by other tests";
  ServePeer(AnswerAsWriter);
}

using PartsTest = FourNodes;
INSTANTIATE_TEST_SUITE_P(, PartsTest, FourNodesBackends(), BackendCaseName);

TEST_P(PartsTest, AQueryOverFourNodesGivesTheAnswerOfOneTable) {
  constexpr uint32_t kParts = 8;
  std::vector<std::unique_ptr<Peer>> writers;
  for (uint32_t node = 0; node < kNodes; ++node) {
    ASSERT_OK_AND_ASSIGN(auto writer, Peer::Start({}));
    ASSERT_OK_AND_ASSIGN(
        const std::string connected,
        writer->Ask(fmt::format("connect {} {}", cluster_->name(), node)));
    ASSERT_EQ(connected, "OK");
    writers.push_back(std::move(writer));
  }
  std::vector<std::thread> threads;
  for (uint32_t node = 0; node < kNodes; ++node) {
    threads.emplace_back([&, node] {
      for (uint32_t i = node; i < kParts; i += kNodes) {
        const auto put =
            writers[node]->Ask(fmt::format("part lineitem {} {}", i, kParts));
        EXPECT_EQ(put.ok() ? *put : put.status().ToString(), "OK");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  writers.clear();  // Their sessions end; the table stays.

  const TablePtr expected = Lineitem(0, kParts * kPartRows);
  ASSERT_OK_AND_ASSIGN(const TablePtr answer, PricingSummary(expected));
  for (const auto& store : stores_) {
    const int64_t private_before = arrow::default_memory_pool()->bytes_allocated();
    ASSERT_OK_AND_ASSIGN(const TablePtr table, store->Get("lineitem"));
    EXPECT_LE(arrow::default_memory_pool()->bytes_allocated(), private_before);
    EXPECT_OK(table->ValidateFull());
    EXPECT_TRUE(table->Equals(*expected));
    ASSERT_OK_AND_ASSIGN(const TablePtr summary, PricingSummary(table));
    EXPECT_TRUE(summary->Equals(*answer)) << summary->ToString();
    for (const auto& column : ChunkNodes(store, *table)) {
      EXPECT_THAT(column, ElementsAre(0U, 1U, 2U, 3U, 0U, 1U, 2U, 3U));
    }
  }
  ASSERT_OK(stores_[2]->Remove("lineitem"));
  ExpectNothingLeft();
}

TEST_P(PartsTest, NobodySeesATableBeforeItIsWholeNorItsParts) {
  ASSERT_OK_AND_ASSIGN(const auto first, PutPart(stores_[1], "t", *Part(0), 0, 3));
  EXPECT_EQ(first.version, 0U);
  EXPECT_THAT(first.missing, ElementsAre(1U, 2U));
  EXPECT_GT(first.part.bytes_copied, 0);
  const std::string missing = "parts 1, 2 of 3 are missing";
  for (const arrow::Status& absent :
       {stores_[0]->Get("t").status(), stores_[0]->Stat("t").status(),
        stores_[0]->Verify("t"), ListParts(stores_[0], "t").status(),
        GetPart(stores_[0], "t", 0).status(),
        AppendPart(stores_[0], "t", *Part(1)).status()}) {
    EXPECT_TRUE(absent.IsKeyError()) << absent.ToString();
    EXPECT_THAT(absent.message(), HasSubstr(missing));
  }
  EXPECT_THAT(stores_[0]->Wait("t", milliseconds(1)).message(), HasSubstr(missing));
  ASSERT_OK_AND_ASSIGN(const auto listed, stores_[0]->List());
  EXPECT_THAT(listed, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const auto staged, ListStagedParts(stores_[0]));
  ASSERT_EQ(staged.size(), 1U);
  EXPECT_EQ(staged[0].name, "t");
  EXPECT_EQ(staged[0].of, 3U);
  EXPECT_THAT(staged[0].present, ElementsAre(0U));

  ASSERT_OK(PutPart(stores_[2], "t", *Part(2), 2, 3));
  ASSERT_OK_AND_ASSIGN(const auto last, PutPart(stores_[3], "t", *Part(1), 1, 3));
  ASSERT_TRUE(last.table.has_value());
  EXPECT_EQ(last.table->bytes_copied, 0);
  EXPECT_EQ(last.table->bytes_shared, last.table->bytes);
  EXPECT_EQ(last.table->num_rows, 3 * kPartRows);
  ASSERT_OK_AND_ASSIGN(const TablePtr table, stores_[0]->Get("t"));
  EXPECT_TRUE(table->Equals(*Lineitem(0, 3 * kPartRows)));
  ASSERT_OK_AND_ASSIGN(const auto parts, ListParts(stores_[0], "t"));
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[1].node, 3U);
  EXPECT_EQ(parts[2].row_offset, 2 * kPartRows);
  EXPECT_EQ(parts[0].bytes + parts[1].bytes + parts[2].bytes, last.table->bytes);
  ASSERT_OK_AND_ASSIGN(const auto none, ListStagedParts(stores_[0]));
  EXPECT_THAT(none, IsEmpty());
}

TEST_P(PartsTest, APartOfAnotherSchemaIsRefusedByName) {
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
  const auto fewer = Part(1)->RemoveColumn(4).ValueOrDie();
  const arrow::Status missing = PutPart(stores_[1], "t", *fewer, 1, 2).status();
  EXPECT_TRUE(missing.IsInvalid());
  EXPECT_THAT(missing.message(), HasSubstr("part 1"));
  EXPECT_THAT(missing.message(), HasSubstr("'l_flags'"));
  const auto renamed = Part(1)->RenameColumns({"a", "b", "c", "d", "e"}).ValueOrDie();
  EXPECT_THAT(PutPart(stores_[1], "t", *renamed, 1, 2).status().message(),
              HasSubstr("field 0 is 'a' of type int64, not 'l_orderkey'"));
  ASSERT_OK(PutPart(stores_[1], "t", *Part(1), 1, 2));
  EXPECT_RAISES(Invalid, AppendPart(stores_[2], "t", *fewer));
}

TEST_P(PartsTest, TwoWritersOfOnePartAndOtherDisagreementsAreRefused) {
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 3));
  const arrow::Status twice = PutPart(stores_[1], "t", *Part(0), 0, 3).status();
  EXPECT_TRUE(twice.IsAlreadyExists()) << twice.ToString();
  EXPECT_THAT(twice.message(), HasSubstr("part 0 of table 't' is there already"));
  EXPECT_THAT(twice.message(), HasSubstr("put on node 0"));
  EXPECT_RAISES(Invalid, PutPart(stores_[1], "t", *Part(1), 1, 4));
  EXPECT_RAISES(Invalid, PutPart(stores_[1], "t", *Part(1), 3, 3));
  EXPECT_RAISES(Invalid, PutPart(stores_[1], "t", *Part(1), 0, 0));
  EXPECT_RAISES(Invalid,
                PutPart(stores_[1], "t", *Part(1), 1, 3, {.deadline = milliseconds(0)}));
  EXPECT_RAISES(Invalid, PutPart(stores_[1], "~sheaf/x", *Part(1), 0, 2));
  EXPECT_RAISES(Invalid, stores_[1]->Put("~sheaf/parts/t", *Part(1)));
  EXPECT_RAISES(Invalid, stores_[1]->Remove("~sheaf/parts/t"));
  EXPECT_RAISES(KeyError, AppendPart(stores_[1], "u", *Part(1)));
  ASSERT_OK(stores_[1]->Put("there", *Part(1)));
  EXPECT_RAISES(AlreadyExists, PutPart(stores_[1], "there", *Part(1), 0, 2));
}

TEST_P(PartsTest, ManyWritersOfTheSameParts) {
  constexpr uint32_t kParts = 6;
  std::atomic<int> accepted = 0;
  std::atomic<int> sealed = 0;
  std::vector<std::thread> threads;
  for (uint32_t writer = 0; writer < kNodes; ++writer) {
    threads.emplace_back([&, writer] {
      for (uint32_t i = 0; i < kParts; ++i) {
        const uint32_t part = (i + writer) % kParts;
        const auto put = PutPart(stores_[writer], "t", *Part(part), part, kParts);
        EXPECT_TRUE(put.ok() || put.status().IsAlreadyExists())
            << put.status().ToString();
        accepted += put.ok();
        sealed += put.ok() && put->table.has_value();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(accepted, static_cast<int>(kParts));
  EXPECT_EQ(sealed, 1);
  {
    ASSERT_OK_AND_ASSIGN(const TablePtr table, stores_[0]->Get("t"));
    EXPECT_TRUE(table->Equals(*Lineitem(0, kParts * kPartRows)));
  }
  ASSERT_OK(stores_[0]->Remove("t"));
  ExpectNothingLeft();
}

TEST_P(PartsTest, APartThatNeverComesIsNamed) {
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 4));
  const arrow::Status waited =
      PutPart(stores_[1], "t", *Part(2), 2, 4, {.wait = milliseconds(1)}).status();
  EXPECT_TRUE(IsTimeout(waited)) << waited.ToString();
  EXPECT_THAT(waited.message(), HasSubstr("parts 1, 3 of 4 are missing"));
  // What waited is there still.
  ASSERT_OK(PutPart(stores_[2], "t", *Part(1), 1, 4));
  ASSERT_OK(PutPart(stores_[3], "t", *Part(3), 3, 4));
  ASSERT_OK_AND_ASSIGN(const TablePtr table, stores_[0]->Get("t"));
  EXPECT_EQ(table->num_rows(), 4 * kPartRows);
}

TEST_P(PartsTest, TheDeadlineEndsAPutThatIsNotWhole) {
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 3));
  const arrow::Status ended = PutPart(stores_[1], "t", *Part(1), 1, 3,
                                      {.deadline = milliseconds(1), .wait = kLong})
                                  .status();
  EXPECT_TRUE(IsTimeout(ended)) << ended.ToString();
  EXPECT_THAT(ended.message(), HasSubstr("aborted"));
  EXPECT_RAISES(KeyError, AbortParts(stores_[0], "t"));
  ExpectNothingLeft();
}

TEST_P(PartsTest, AbortAndRemoveTakeWhatIsThere) {
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 3));
  ASSERT_OK(PutPart(stores_[1], "t", *Part(1), 1, 3));
  ASSERT_OK(AbortParts(stores_[3], "t"));
  EXPECT_RAISES(KeyError, AbortParts(stores_[3], "t"));
  ASSERT_OK(PutPart(stores_[1], "t", *Part(1), 1, 2));
  ASSERT_OK(stores_[2]->Remove("t"));
  EXPECT_RAISES(KeyError, stores_[2]->Remove("t"));
  ASSERT_OK(stores_[0]->Put("u", *Part(0)));
  ASSERT_OK(PutPart(stores_[1], "u", *Part(1), 1, 2, {.append = true}));
  ASSERT_OK(stores_[2]->Remove("u"));
  EXPECT_RAISES(KeyError, AbortParts(stores_[3], "u"));
  ExpectNothingLeft();
}

/// Who puts the next part is told, and the parts that wait for it go.
TEST_P(PartsTest, APlainPutMayTakeTheName) {
  for (const bool is_last : {false, true}) {
    ASSERT_OK(PutPart(stores_[1], "t", *Part(0), 0, is_last ? 2 : 3));
    ASSERT_OK(stores_[0]->Put("t", *Part(5)));
    const arrow::Status refused =
        PutPart(stores_[2], "t", *Part(1), 1, is_last ? 2 : 3).status();
    EXPECT_TRUE(refused.IsAlreadyExists()) << refused.ToString();
    EXPECT_THAT(refused.message(), HasSubstr("the parts that waited are dropped"));
    EXPECT_RAISES(KeyError, AbortParts(stores_[3], "t"));
    ASSERT_OK_AND_ASSIGN(const TablePtr table, stores_[3]->Get("t"));
    EXPECT_TRUE(table->Equals(*Part(5)));
    ASSERT_OK(stores_[0]->Remove("t"));
  }
  ExpectNothingLeft();
}

/// Who forgot to say that it appends does not take the name from those who do.
TEST_P(PartsTest, APutInPartsLeavesAnAppendOfTheNameAlone) {
  ASSERT_OK(stores_[0]->Put("t", *Part(0)));
  ASSERT_OK(PutPart(stores_[1], "t", *Part(1), 0, 2, {.append = true}));
  const arrow::Status refused = PutPart(stores_[2], "t", *Part(2), 0, 2).status();
  EXPECT_TRUE(refused.IsInvalid()) << refused.ToString();
  EXPECT_THAT(refused.message(), HasSubstr("is being appended to in 2 parts"));
  ASSERT_OK_AND_ASSIGN(const auto last,
                       PutPart(stores_[3], "t", *Part(2), 1, 2, {.append = true}));
  EXPECT_EQ(last.version, 2U);
  ASSERT_OK(stores_[0]->Remove("t"));
  ExpectNothingLeft();
}

TEST_P(PartsTest, AppendSharesAllThatIsThere) {
  PutAll("t", 4);
  int64_t rows = 4 * kPartRows;
  for (uint32_t i = 4; i < 10; ++i) {  // in turn on each node, also where no version was
    ASSERT_OK_AND_ASSIGN(const auto receipt,
                         AppendPart(stores_[i % kNodes], "t", *Part(i)));
    EXPECT_EQ(receipt.version, i - 2);
    ASSERT_OK_AND_ASSIGN(const auto parts, ListParts(stores_[0], "t"));
    ASSERT_EQ(parts.size(), i + 1);
    EXPECT_EQ(receipt.bytes_copied, parts.back().bytes);
    rows += kPartRows;
    ASSERT_OK_AND_ASSIGN(const TablePtr table, stores_[(i + 1) % kNodes]->Get("t"));
    EXPECT_TRUE(table->Equals(*Lineitem(0, rows)));
  }
  ASSERT_OK(stores_[0]->Remove("t"));
  ExpectNothingLeft();
}

TEST_P(PartsTest, SeveralPartsAreAppendedAtOnceOrNotAtAll) {
  ASSERT_OK(stores_[0]->Put("t", *Part(0)));
  ASSERT_OK(PutPart(stores_[1], "t", *Part(1), 0, 2, {.append = true}));
  ASSERT_OK_AND_ASSIGN(TablePtr table, stores_[0]->Get("t"));
  EXPECT_EQ(table->num_rows(), kPartRows);
  ASSERT_OK_AND_ASSIGN(const auto last,
                       PutPart(stores_[2], "t", *Part(2), 1, 2, {.append = true}));
  EXPECT_EQ(last.version, 2U);
  ASSERT_OK_AND_ASSIGN(table, stores_[3]->Get("t"));
  EXPECT_TRUE(table->Equals(*Lineitem(0, 3 * kPartRows)));
}

TEST_P(PartsTest, AllWhoAppendGetIn) {
  constexpr int kEach = 5;
  ASSERT_OK(stores_[0]->Put("t", *Part(0)));
  std::vector<std::thread> threads;
  for (uint32_t writer = 0; writer < kNodes; ++writer) {
    threads.emplace_back([&, writer] {
      for (int i = 0; i < kEach; ++i) {
        EXPECT_OK(AppendPart(stores_[writer], "t", *Part(1 + writer)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK_AND_ASSIGN(const auto parts, ListParts(stores_[0], "t"));
  std::vector<int> of_node(kNodes, 0);
  for (const PartInfo& part : parts) ++of_node[part.node];
  EXPECT_THAT(of_node, ElementsAre(kEach + 1, kEach, kEach, kEach));
  for (const PartInfo& part : parts) {
    ASSERT_OK_AND_ASSIGN(const TablePtr table, GetPart(stores_[0], "t", part.index));
    EXPECT_TRUE(table->Equals(*Part(part.index == 0 ? 0 : 1 + part.node)));
  }
}

TEST_P(PartsTest, OnlyWhatIsAskedForIsLeased) {
  PutAll("t", 8);
  const size_t before = LeasesOf(*stores_[3]);
  {
    ASSERT_OK_AND_ASSIGN(const TablePtr part, GetPart(stores_[3], "t", 1));
    EXPECT_TRUE(part->Equals(*Part(1)));
    EXPECT_EQ(LeasesOf(*stores_[3]), before + 2);  // the table, and the part's object
  }
  EXPECT_RAISES(KeyError, GetPart(stores_[3], "t", 8));
  {
    ASSERT_OK_AND_ASSIGN(const auto local,
                         LocalParts(stores_[2], "t", {{{"l_flags"}}, {}, {}}));
    ASSERT_EQ(local.size(), 2U);
    EXPECT_EQ(local[0].info.index, 2U);
    EXPECT_EQ(local[1].info.index, 6U);
    EXPECT_TRUE(local[1].table->Equals(*Part(6)->SelectColumns({4}).ValueOrDie()));
    EXPECT_LE(LeasesOf(*stores_[3]), before + 3);
  }
  {
    ASSERT_OK_AND_ASSIGN(const auto table, stores_[3]->Stat("t"));
    EXPECT_EQ(LeasesOf(*stores_[3]), before);
    Handle rows = table.handle.Slice(kPartRows, kPartRows);
    ASSERT_OK_AND_ASSIGN(const TablePtr slice, stores_[1]->Open(rows));
    EXPECT_EQ(LeasesOf(*stores_[3]), before + 2);
  }
}

// A home that forgets to lease what a table refers to is noticed.
TEST(PartsPlant, ATableWhosePartsNobodyLeasesIsLost) {
  TestClusterOptions options;
  options.config_toml = "segment_size = \"64MiB\"\n";
  options.daemon_plants = "no-parents";
  options.daemon_path = SHEAFD_BINARY;
  ASSERT_OK_AND_ASSIGN(const auto cluster, TestCluster::Start(options));
  ASSERT_OK_AND_ASSIGN(const auto zero, cluster->Connect(0));
  ASSERT_OK_AND_ASSIGN(const auto one, cluster->Connect(1, /*relocate=*/true));
  ASSERT_OK(PutPart(zero, "t", *Lineitem(0, kPartRows), 0, 2));
  ASSERT_OK(PutPart(one, "t", *Lineitem(kPartRows, kPartRows), 1, 2));
  EXPECT_TRUE(Eventually([&] {  // node 0 gives the first part's bytes to others
    EXPECT_OK(zero->Put("filler", *Lineitem(1'000'000, kPartRows), {true, {}, false}));
    const auto table = one->Get("t").ValueOrDie();
    return !table->Equals(*Lineitem(0, 2 * kPartRows));
  }));
}

// The table's home leases the parts: their bytes stay, and are not used again.
TEST_P(PartsTest, PartsStayAsLongAsTheTable) {
  const auto survives = [&] {
    PutAll("t", 4);
    for (int round = 0; round < 3; ++round) {  // what was free is used
      for (uint32_t node = 0; node < kNodes; ++node) {
        std::vector<std::string> fillers;
        for (int i = 0; i < 100; ++i) {
          fillers.push_back(fmt::format("filler {} {}", node, i));
          const auto table = Lineitem(1'000'000, 10 * kPartRows);
          if (!stores_[node]->Put(fillers.back(), *table).ok()) break;
        }
        fillers.pop_back();
        for (const auto& filler : fillers) EXPECT_OK(stores_[node]->Remove(filler));
      }
    }
    const auto table = stores_[0]->Get("t", {std::nullopt, {}, Validation::kFull});
    return table.ok() && (*table)->Equals(*Lineitem(0, 4 * kPartRows));
  };
  EXPECT_TRUE(survives());
}

TEST_P(PartsTest, ANodeWhoseMemoryIsGoneIsNamed) {
  PutAll("t", 4);  // part 3, sealed last, has the table at node 3
  ASSERT_OK(AppendPart(stores_[0], "t", *Part(4)));  // now node 0 has it
  stores_.clear();
  ASSERT_OK_AND_ASSIGN(const auto running, cluster_->Connect(0));
  const std::string memory = SessionOf(*running)->region().config().segment_folder({2});
  ASSERT_OK(cluster_->KillDaemon(2));
  ASSERT_TRUE(std::filesystem::exists(memory)) << memory;
  std::filesystem::rename(memory, memory + ".gone");
  {
    ASSERT_OK_AND_ASSIGN(const auto store, cluster_->Connect(1, /*relocate=*/true));
    const arrow::Status gone = store->Get("t").status();
    EXPECT_TRUE(IsNodeLost(gone)) << gone.ToString();
    EXPECT_THAT(gone.message(), HasSubstr("node 2"));
    ASSERT_OK_AND_ASSIGN(const TablePtr part, GetPart(store, "t", 1));
    EXPECT_TRUE(part->Equals(*Part(1)));
    EXPECT_TRUE(IsNodeLost(GetPart(store, "t", 2).status()));
  }
  std::filesystem::rename(memory + ".gone", memory);
}

}  // namespace
}  // namespace sheaf::testing
