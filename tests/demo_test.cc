// `make demo`, in short: TPC-H's lineitem in parts over four nodes answers as its file
// does, over no copied byte, on coherent memory and on the simulator.

#include <cstdint>
#include <memory>
#include <string>

#include <arrow/array/builder_decimal.h>
#include <arrow/builder.h>
#include <arrow/io/file.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/decimal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <parquet/arrow/writer.h>

#include "testing/arrow_test.h"
#include "testing/test_cluster.h"
#include "tests/command_line.h"

namespace sheaf::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// The columns that the query asks for, made of their numbers.
void WriteStandIn(const std::string& path) {
  arrow::StringBuilder flags;
  arrow::StringBuilder statuses;
  const auto decimal = arrow::decimal128(15, 2);
  arrow::Decimal128Builder quantities(decimal);
  arrow::Decimal128Builder prices(decimal);
  arrow::Date32Builder dates;
  for (int32_t row = 0; row < 60'000; ++row) {
    const int32_t mixed = row * 7919 % 50'021;
    EXPECT_OK(flags.Append(std::string(1, "ANR"[mixed % 3])));
    EXPECT_OK(statuses.Append(mixed % 2 == 0 ? "F" : "O"));
    EXPECT_OK(quantities.Append(arrow::Decimal128(100 * (1 + mixed % 50))));
    EXPECT_OK(prices.Append(arrow::Decimal128(mixed)));
    EXPECT_OK(dates.Append(8036 + mixed % 2526));
  }
  const auto schema = arrow::schema({arrow::field("l_returnflag", arrow::utf8()),
                                     arrow::field("l_linestatus", arrow::utf8()),
                                     arrow::field("l_quantity", decimal),
                                     arrow::field("l_extendedprice", decimal),
                                     arrow::field("l_shipdate", arrow::date32())});
  const auto table = arrow::Table::Make(
      schema, {flags.Finish().ValueOrDie(), statuses.Finish().ValueOrDie(),
               quantities.Finish().ValueOrDie(), prices.Finish().ValueOrDie(),
               dates.Finish().ValueOrDie()});
  auto file = arrow::io::FileOutputStream::Open(path).ValueOrDie();
  EXPECT_OK(
      parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), file, 2'000));
  EXPECT_OK(file->Close());
}

struct BackendCase {
  const char* name;
  const char* config;
};

class Demo : public ::testing::Test {
 protected:
  void Start(uint32_t nodes, const std::string& config) {
    TestClusterOptions options;
    options.nodes = nodes;
    options.config_toml =
        "segment_size = \"64MiB\"\nslots_max = 4096\n"
        "records_size = \"16MiB\"\n" +
        config;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    lineitem_ = cluster_->folder() + "/lineitem.parquet";
    // The generator comes with the set-up (tools/setup.sh).
    if (CommandLine::Run(SHEAF_LINEITEM_MAKER " 0.01 " + lineitem_).code != 0) {
      WriteStandIn(lineitem_);
    }
  }
  Ran RunDemo(const std::string& arguments) const {
    return CommandLine::Run(SHEAF_DEMO_BINARY " --cluster " + cluster_->name() + " " +
                            arguments);
  }
  Json DemoJson(const std::string& arguments) const {
    const Ran ran = RunDemo(arguments);
    EXPECT_EQ(ran.code, 0) << ran.out;
    return Json::parse(ran.out, nullptr, /*allow_exceptions=*/false);
  }

  std::unique_ptr<TestCluster> cluster_;
  std::string lineitem_;
};

class DemoInParts : public Demo, public ::testing::WithParamInterface<BackendCase> {};

INSTANTIATE_TEST_SUITE_P(
    , DemoInParts,
    ::testing::Values(BackendCase{"Shm", ""},
                      BackendCase{"SimStale", "backend = \"sim\"\n"},
                      BackendCase{"SimChaos",
                                  "backend = \"sim\"\n[sim]\nchaos = true\n"}),
    [](const auto& backend) { return std::string(backend.param.name); });

TEST_P(DemoInParts, EachNodeAnswersAsTheFileDoes) {
  Start(4, GetParam().config);
  const Ran ran = RunDemo("parts lineitem=" + lineitem_);
  EXPECT_EQ(ran.code, 0) << ran.out;
  EXPECT_THAT(ran.out, HasSubstr("in 4 parts"));
  EXPECT_THAT(ran.out, HasSubstr("merged: same answer: yes"));
  EXPECT_THAT(ran.out, Not(HasSubstr(" NO ")));
}

TEST_F(Demo, EachStepSaysWhatItDid) {
  Start(4, "");
  int64_t rows = 0;
  for (const std::string node : {"2", "0", "3", "1"}) {
    const Json put = DemoJson("--node " + node + " put-part lineitem=" + lineitem_ +
                              " --part " + node + " --of 4");
    EXPECT_EQ(put["bytes_copied"], 0);
    EXPECT_GT(put["rows"], 0);
    rows += put["rows"].get<int64_t>();
  }
  const Json file = DemoJson("query-file lineitem=" + lineitem_);
  EXPECT_EQ(file["rows"], rows);
  for (const std::string node : {"0", "1", "2", "3"}) {
    const Json all = DemoJson("--node " + node + " query lineitem");
    EXPECT_EQ(all["answer"], file["answer"]);
    EXPECT_EQ(all["bytes_copied"], 0);
    EXPECT_EQ(all["rows"], rows);
    EXPECT_EQ(all["chunks_on"].size(), 4U);
    const Json own =
        DemoJson("--node " + node + " sum-own lineitem --part " + node + " --of 4");
    EXPECT_EQ(own["parts"], 1);
    EXPECT_LT(own["rows"], rows);
    EXPECT_EQ(own["bytes_copied"], 0);
  }
  EXPECT_EQ(DemoJson("--node 2 merge-sums lineitem")["answer"], file["answer"]);
}

TEST_F(Demo, TwoNodesBesideFlight) {
  Start(2, "");
  const Ran ran = RunDemo("two-nodes lineitem=" + lineitem_);
  EXPECT_EQ(ran.code, 0) << ran.out;
  EXPECT_THAT(ran.out, HasSubstr("FLIGHT"));
  EXPECT_THAT(ran.out, HasSubstr(" yes "));
}

// The simulator must not let pass what reads from stale caches.
TEST_F(Demo, ReadersThatDoNotInvalidateAreNoticed) {
  Start(4, "backend = \"sim\"\n");
  const std::string demo = "SHEAF_PLANT=no-invalidate-data " SHEAF_DEMO_BINARY;
  const Ran ran = CommandLine::Run(demo + " --cluster " + cluster_->name() +
                                   " parts lineitem=" + lineitem_);
  EXPECT_EQ(ran.code, 1) << ran.out;
}

}  // namespace
}  // namespace sheaf::testing
