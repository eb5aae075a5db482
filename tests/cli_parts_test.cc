// The command line over tables on several nodes: parts, append, abort, barriers, and puts
// into the memory of other nodes.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include <arrow/io/file.h>
#include <arrow/table.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <parquet/arrow/writer.h>

#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "tests/command_line.h"

namespace sheaf::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CommandLineParts : public CommandLine {
 protected:
  void SetUp() override {
    CommandLine::SetUp();
    Up("--nodes 3");
  }
  std::string Part(const std::string& name, int index, int of,
                   const std::string& file) const {
    return "put " + name + " " + file + " --part " + std::to_string(index) + " --of " +
           std::to_string(of);
  }
  // As WriteParquet, in row groups of `group` rows.
  std::string WriteGroups(const std::string& name, int64_t rows, int64_t group) {
    arrow::Int64Builder ids;
    for (int64_t i = 0; i < rows; ++i) EXPECT_OK(ids.Append(i));
    const auto table = arrow::Table::Make(
        arrow::schema({arrow::field("id", arrow::int64())}), {ids.Finish().ValueOrDie()});
    auto file = arrow::io::FileOutputStream::Open(Path(name)).ValueOrDie();
    EXPECT_OK(
        parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), file, group));
    EXPECT_OK(file->Close());
    return Path(name);
  }
  uint64_t FreeBytes(int node) {
    return SheafJson("nodes")[node]["free_bytes"].get<uint64_t>();
  }
};

TEST_F(CommandLineParts, PartsOfNodesAreOneTable) {
  const std::string first = WriteParquet("first.parquet", 100);
  const std::string second = WriteParquet("second.parquet", 50);
  const Json one = SheafJson("--node 2 " + Part("t", 1, 2, second));
  EXPECT_EQ(one["part"], 1);
  EXPECT_EQ(one["of"], 2);
  EXPECT_EQ(one["version"], 0);
  EXPECT_EQ(one["missing"], Json::parse("[0]"));
  EXPECT_EQ(one["put"]["rows"], 50);
  EXPECT_EQ(one["put"]["bytes_copied"], 0);
  EXPECT_FALSE(one.contains("table"));
  for (const char* of_table : {"name", "version"}) {
    EXPECT_TRUE(one.contains(of_table));
    EXPECT_FALSE(one["put"].contains(of_table));
  }
  EXPECT_EQ(SheafJson("ls").size(), 0U);

  EXPECT_EQ(SheafJson("parts"), Json::parse(R"([{"name":"t","of":2,"append":false,
                                                 "present":[1],"missing":[0]}])"));

  const Json last = SheafJson("--node 1 " + Part("t", 0, 2, first) + " --checksum");
  EXPECT_EQ(last["version"], 1);
  EXPECT_EQ(last["missing"], Json::array());
  EXPECT_EQ(last["table"]["rows"], 150);
  EXPECT_EQ(last["table"]["bytes_copied"], 0);
  EXPECT_EQ(SheafJson("parts"), Json::array());
  const Json parts = SheafJson("parts t");
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_EQ(parts[0]["node"], 1);
  EXPECT_EQ(parts[1]["node"], 2);
  EXPECT_EQ(parts[1]["row_offset"], 100);
  EXPECT_EQ(parts[1]["rows"], 50);
  EXPECT_THAT(Sheaf("parts t").out, HasSubstr("PART  NODE  FIRST ROW  ROWS"));
  EXPECT_EQ(SheafJson("stat t")["rows"], 150);
}

TEST_F(CommandLineParts, TextSaysWhatIsThereAndWhatIsMissing) {
  const std::string file = WriteParquet("t.parquet", 100);
  const Ran first = Sheaf("--node 1 " + Part("t", 0, 3, file));
  EXPECT_EQ(first.code, 0);
  EXPECT_THAT(first.out, HasSubstr("t: part 0 of 3: 100 rows"));
  EXPECT_THAT(first.out, HasSubstr("0 B copied"));
  EXPECT_THAT(first.out, HasSubstr("t: parts 1, 2 of 3 are missing\n"));
  const Ran late = Sheaf(Part("t", 2, 3, file) + " --wait 0.01");
  EXPECT_EQ(late.code, 1);
  EXPECT_THAT(late.out, HasSubstr("part 1 of 3 is missing after 10 ms"));
  EXPECT_THAT(late.out, HasSubstr("Part 2 is there and stays"));
  EXPECT_THAT(late.out, HasSubstr("`sheaf wait t`"));
  EXPECT_THAT(Sheaf(Part("t", 1, 3, file)).out, HasSubstr("t: version 1 is whole\n"));
}

TEST_F(CommandLineParts, WhatIsNotWholeSaysWhichPartsAreMissingAndUntilWhen) {
  const std::string file = WriteParquet("t.parquet", 10);
  ASSERT_EQ(Sheaf(Part("t", 1, 4, file) + " --deadline 86400").code, 0);
  ASSERT_EQ(Sheaf("--node 1 " + Part("u", 0, 2, file)).code, 0);
  const std::string until = R"(20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC)";
  for (const std::string& command :
       std::vector<std::string>{"parts t", "head t", "get t -o " + Path("copy.csv"),
                                "stat t", "verify t", "wait t --timeout 0.01"}) {
    const Ran ran = Sheaf("--node 2 " + command);
    EXPECT_EQ(ran.code, 1) << command;
    EXPECT_THAT(ran.out, HasSubstr("no table is named 't' yet: parts 0, 2, 3 of 4 are "
                                   "missing"))
        << command;
    EXPECT_TRUE(
        std::regex_search(ran.out, std::regex("aborted if it is not whole by " + until)))
        << ran.out;
    EXPECT_THAT(ran.out,
                AllOf(HasSubstr("sheaf parts shows"), Not(HasSubstr("sheaf ls"))))
        << command;
    EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << ran.out;
  }
  // A list of parts, and a part: no tables.
  EXPECT_THAT(Sheaf("nodes").out,
              AllOf(HasSubstr(" OBJECTS "), Not(HasSubstr("TABLES"))));
  EXPECT_EQ(SheafJson("nodes")[1]["objects"], 2);
  const Ran other = Sheaf("stat u");
  EXPECT_THAT(other.out, HasSubstr("part 1 of 2 is missing: sheaf parts shows"));

  const Ran list = Sheaf("parts");
  EXPECT_TRUE(
      std::regex_search(list.out, std::regex("^NAME +PARTS +OF +FOR +MISSING +UNTIL *\n"
                                             "t +1 +4 +a new table +0, 2, 3 +" +
                                             until +
                                             "\n"
                                             "u +1 +2 +a new table +1 +no deadline\n$")))
      << list.out;
  EXPECT_EQ(SheafJson("parts")[0]["missing"], Json::parse("[0,2,3]"));
  ASSERT_EQ(Sheaf("abort t").code, 0);
  EXPECT_THAT(Sheaf("stat t").out, HasSubstr("no table is named 't'; `sheaf ls`"));
}

TEST_F(CommandLineParts, SplitTakesSharesOfOneFile) {
  const std::string file = WriteGroups("all.parquet", 1000, 100);
  ASSERT_EQ(Sheaf("put whole " + file).code, 0);
  int64_t rows = 0;
  for (int node = 0; node < 3; ++node) {
    const Json put = SheafJson("--node " + std::to_string(node) + " " +
                               Part("t", node, 3, file) + " --split");
    EXPECT_EQ(put["put"]["bytes_copied"], 0);
    rows += put["put"]["rows"].get<int64_t>();
  }
  EXPECT_EQ(rows, 1000);
  for (const std::string node : {"0", "1", "2"}) {
    EXPECT_EQ(SheafJson("--node " + node + " verify t")["columns"],
              SheafJson("--node " + node + " verify whole")["columns"]);
  }
  const Ran few =
      Sheaf(Part("few", 0, 3, WriteGroups("few.parquet", 10, 5)) + " --split");
  EXPECT_EQ(few.code, 0);
  EXPECT_THAT(few.out,
              HasSubstr("few.parquet has 2 row groups for 3 parts: 1 of them has "
                        "no rows"));
  EXPECT_THAT(Sheaf(Part("enough", 0, 3, file) + " --split").out,
              Not(HasSubstr("row groups")));
  WriteText("all.csv", "id\n1\n2\n");
  const Ran csv = Sheaf(Part("u", 0, 2, Path("all.csv")) + " --split");
  EXPECT_EQ(csv.code, 1);
  EXPECT_THAT(csv.out, HasSubstr("can only be read whole"));
}

TEST_F(CommandLineParts, AppendAddsRowsAndCopiesNone) {
  const std::string file = WriteParquet("t.parquet", 100);
  const Ran none = Sheaf("put t " + file + " --append");
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.out, HasSubstr("no table is named 't'; `sheaf ls`"));
  ASSERT_EQ(Sheaf("put t " + file).code, 0);
  const Json more = SheafJson("--node 1 put t " + file + " --append");
  EXPECT_EQ(more["version"], 2);
  EXPECT_EQ(more["table"]["rows"], 200);
  EXPECT_EQ(more["table"]["bytes_copied"], 0);
  EXPECT_EQ(SheafJson("--node 2 " + Part("t", 0, 2, file) + " --append")["version"], 0);
  EXPECT_EQ(SheafJson("parts")[0]["append"], true);
  EXPECT_THAT(Sheaf("parts").out, HasSubstr("append"));
  EXPECT_EQ(SheafJson("stat t")["rows"], 200);
  EXPECT_EQ(SheafJson(Part("t", 1, 2, file) + " --append")["version"], 3);
  EXPECT_EQ(SheafJson("stat t")["rows"], 400);
  EXPECT_EQ(SheafJson("parts t").size(), 4U);
  const Ran text = Sheaf("put t " + file + " --append");
  EXPECT_THAT(text.out, HasSubstr("t: version 4, 100 rows appended, 500 in all; "));
  EXPECT_THAT(text.out, Not(HasSubstr("part 0")));
  const Ran other = Sheaf("put t " + WriteGroups("other.parquet", 10, 10) + " --append");
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.out, HasSubstr("the rows to append to table 't' have another schema "
                                   "than the table"));
}

TEST_F(CommandLineParts, WhatTakesTheChecksumsFromATableSaysSo) {
  const std::string file = WriteParquet("t.parquet", 100);
  const std::string lost = "t: has no checksums: it has some only if each part";
  const std::string one_of = "It is in 2 parts: the table has checksums only if each";
  ASSERT_EQ(Sheaf("put t " + file + " --checksum").code, 0);
  EXPECT_THAT(Sheaf("put t " + file + " --append --checksum").out, Not(HasSubstr(lost)));
  EXPECT_EQ(SheafJson("verify t")["checksums"], true);
  EXPECT_THAT(Sheaf("put t " + file + " --append").out, HasSubstr(lost));
  EXPECT_EQ(SheafJson("verify t")["checksums"], false);
  EXPECT_THAT(Sheaf("put t " + file + " --append").out, Not(HasSubstr(lost)));
  ASSERT_EQ(Sheaf("rm t").code, 0);

  ASSERT_EQ(Sheaf(Part("t", 0, 2, file)).code, 0);
  const Json last = SheafJson(Part("t", 1, 2, file) + " --checksum");
  EXPECT_EQ(last["checksums_lost"], true);
  EXPECT_THAT(Sheaf("verify t").out, HasSubstr(one_of));
  ASSERT_EQ(Sheaf("rm t").code, 0);
  ASSERT_EQ(Sheaf("put t " + file).code, 0);
  EXPECT_THAT(Sheaf("verify t").out, Not(HasSubstr("It is in")));
}

TEST_F(CommandLineParts, AbortTakesWhatIsThere) {
  const std::string file = WriteParquet("t.parquet", 100'000);
  ASSERT_EQ(Sheaf("put whole " + file).code, 0);
  const uint64_t free = FreeBytes(1);
  ASSERT_EQ(Sheaf("--node 1 " + Part("t", 0, 2, file)).code, 0);
  EXPECT_LT(FreeBytes(1), free);
  EXPECT_EQ(SheafJson("abort t"), Json::parse(R"({"name":"t","aborted":true})"));
  EXPECT_TRUE(Eventually([&] { return FreeBytes(1) == free; }));
  for (const std::string name : {"t", "whole"}) {
    const Ran ran = Sheaf("abort " + name);
    EXPECT_EQ(ran.code, 1) << name;
    EXPECT_THAT(ran.out, HasSubstr("'" + name + "'"));
  }
  EXPECT_EQ(SheafJson("stat whole")["rows"], 100'000);
}

TEST_F(CommandLineParts, ADeadlineEndsAPutThatIsNotWhole) {
  const std::string file = WriteParquet("t.parquet", 10);
  const Ran ran = Sheaf(Part("t", 0, 2, file) + " --deadline 0.01 --wait 60");
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("aborted"));
  EXPECT_EQ(SheafJson("parts"), Json::array());
  const Json later = SheafJson(Part("u", 0, 2, file) + " --deadline 3600");
  EXPECT_EQ(later["missing"], Json::parse("[1]"));
  EXPECT_TRUE(SheafJson("parts")[0].contains("deadline_unix_ms"));
}

TEST_F(CommandLineParts, WhatDoesNotGoTogetherIsRefused) {
  const std::string file = WriteParquet("t.parquet", 10);
  const std::string other = WriteGroups("other.parquet", 10, 10);
  ASSERT_EQ(Sheaf(Part("t", 0, 2, file)).code, 0);
  struct Case {
    std::string arguments;
    const char* says;
  };
  for (const Case& bad :
       {Case{Part("t", 0, 2, file),
             "part 0 of table 't' is there already: 10 rows, put on node 0 at 20"},
        Case{"--node 1 " + Part("t", 0, 2, file), "`sheaf abort t`"},
        Case{Part("t", 1, 3, file),
             "table 't' is being put in 2 parts, this part says 3: `sheaf abort t`"},
        Case{Part("t", 1, 2, file) + " --append",
             "table 't' is being put in 2 parts, this part is to be appended, in 2"},
        Case{Part("t", 2, 2, file), "the last of 2 is part 1"},
        Case{Part("t", 0, 0, file), "a table has 1 to 65536 parts"},
        Case{Part("t", 1, 2, other), "part 1"},
        Case{Part("t", 1, 2, Path("absent.parquet")), "absent.parquet"}}) {
    const Ran ran = Sheaf(bad.arguments);
    EXPECT_EQ(ran.code, 1) << bad.arguments;
    EXPECT_THAT(ran.out, HasSubstr(bad.says)) << bad.arguments;
    EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << ran.out;
  }
  for (const std::string usage :
       {" --part 0", " --of 2", " --split", " --wait 1", " --deadline 1",
        " --part 0 --of 2 --on 1", " --part 0 --of 2 --spill",
        " --part 0 --of 2 --replace", " --append --replace", " --append --on 1"}) {
    const Ran ran = Sheaf("put u " + file + usage);
    EXPECT_EQ(ran.code, 2) << usage << ran.out;
  }
  for (const char* deadline : {"0", "0.0", "-1", "inf", "soon"}) {
    const Ran ran = Sheaf(Part("u", 0, 2, file) + " --deadline " + deadline);
    EXPECT_EQ(ran.code, 2) << deadline << ran.out;
    EXPECT_THAT(ran.out, HasSubstr("the deadline in seconds must be")) << deadline;
  }
  EXPECT_THAT(Sheaf(Part("u", 0, 2, file) + " --deadline 0").out,
              HasSubstr("more than 0, got '0': parts wait for ever without --deadline"));
  for (const char* usage : {"abort", "barrier b", "barrier b 2 --timeout x"}) {
    EXPECT_EQ(Sheaf(usage).code, 2) << usage;
  }
  const Ran absent = Sheaf("parts absent");
  EXPECT_EQ(absent.code, 1);
  EXPECT_THAT(absent.out, HasSubstr("no table is named 'absent'; `sheaf ls`"));
}

TEST_F(CommandLineParts, ABarrierOpensWhenAllAreThere) {
  const Ran alone = Sheaf("barrier b 2 --timeout 0.01");
  EXPECT_EQ(alone.code, 1);
  EXPECT_THAT(alone.out, HasSubstr("barrier 'b': 1 of 2 were here after 10 ms"));
  EXPECT_THAT(alone.out, HasSubstr("call again"));
  for (int round = 0; round < 2; ++round) {
    std::vector<Ran> ran(3);
    std::vector<std::thread> callers;
    for (size_t node = 0; node < ran.size(); ++node) {
      callers.emplace_back([&, node] {
        ran[node] = Sheaf("--json --node " + std::to_string(node) + " barrier b 3");
      });
    }
    for (std::thread& caller : callers) caller.join();
    for (const Ran& each : ran) {
      EXPECT_EQ(each.code, 0) << each.out;
      EXPECT_EQ(Json::parse(each.out), Json::parse(R"({"name":"b","opened":true})"));
    }
  }
  EXPECT_EQ(Sheaf("barrier b 1").code, 0);
}

TEST_F(CommandLineParts, OnPutsIntoTheMemoryOfAnotherNode) {
  const std::string file = WriteParquet("t.parquet", 100'000);
  const Json put = SheafJson("put t " + file + " --on 1");
  EXPECT_EQ(put["bytes_copied"], 0);
  EXPECT_EQ(put["bytes_on"], Json({{"1", put["bytes"]}}));
  EXPECT_EQ(SheafJson("stat t")["home_node"], 1);
  const Ran text = Sheaf("put u " + file + " --on 2");
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.out, HasSubstr(" on node 2\n"));
  EXPECT_THAT(Sheaf("put own " + file).out, Not(HasSubstr(" on node ")));
  EXPECT_EQ(SheafJson("--node 2 verify u")["columns"],
            SheafJson("--node 1 verify t")["columns"]);
  const Ran absent = Sheaf("put v " + file + " --on 9");
  EXPECT_EQ(absent.code, 1);
  EXPECT_THAT(absent.out, HasSubstr("node 9"));
  EXPECT_EQ(Sheaf("put v " + file + " --on x").code, 2);
}

TEST_F(CommandLineParts, APartLargerThanTheMemorySaysWhatIsNeededAndFree) {
  const std::string file = WriteGroups("large.parquet", 12'000'000, 500'000);  // 92 MiB
  const uint64_t free = FreeBytes(1);
  const Ran ran = Sheaf("--node 1 " + Part("t", 0, 2, file));
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("table 't' from '" + file + "' does not fit"));
  EXPECT_THAT(ran.out, HasSubstr("needs at least about 96000000 bytes"));
  EXPECT_THAT(ran.out, HasSubstr("node 1 has " + std::to_string(free)));
  EXPECT_THAT(ran.out, HasSubstr("Free on other nodes: node 0 "));
  EXPECT_THAT(ran.out, HasSubstr("sheaf --node K put"));
  EXPECT_THAT(ran.out, HasSubstr("sheaf rm"));
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << ran.out;
  EXPECT_EQ(SheafJson("parts"), Json::array());
  EXPECT_EQ(SheafJson("--node 1 " + Part("t", 0, 2, file) + " --split")["put"]["rows"],
            6'000'000);
}

TEST_F(CommandLineParts, SpillUsesOtherNodesWhereThisOneIsFull) {
  const std::string file = WriteGroups("large.parquet", 12'000'000, 500'000);  // 92 MiB
  const Ran full = Sheaf("put t " + file);
  EXPECT_EQ(full.code, 1);
  EXPECT_THAT(full.out, HasSubstr("64.0 MiB"));
  EXPECT_THAT(full.out, HasSubstr("needs at least about 96000000 bytes"));
  EXPECT_THAT(full.out, HasSubstr("Free on other nodes: node 1 "));
  EXPECT_THAT(full.out, HasSubstr("sheaf put --spill uses that, too, --on NODE"));
  EXPECT_EQ(SheafJson("ls").size(), 0U);
  const Json put = SheafJson("put t " + file + " --spill");
  EXPECT_EQ(put["rows"], 12'000'000);
  EXPECT_EQ(put["bytes_copied"], 0);
  uint64_t bytes = 0;
  for (const auto& [node, on] : put["bytes_on"].items()) bytes += on.get<uint64_t>();
  EXPECT_GT(put["bytes_on"].size(), 1U);
  EXPECT_EQ(bytes, put["bytes"]);
  const Json stat = SheafJson("stat t");
  EXPECT_EQ(stat["home_node"], 0);
  EXPECT_EQ(stat["bytes_on"], put["bytes_on"]);
  EXPECT_TRUE(std::regex_search(
      Sheaf("--node 1 stat t").out,
      std::regex("\nmemory      [0-9.]+ MiB on node 0, [0-9.]+ MiB on node [12]")));
  EXPECT_FALSE(SheafJson("ls")[0].contains("bytes_on"));
  EXPECT_EQ(Sheaf("--node 2 verify t").code, 0);
}

}  // namespace
}  // namespace sheaf::testing
