// The command line as a user meets it: real processes, exit codes, JSON, and clear
// errors.

#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <string>

#include <arrow/builder.h>
#include <arrow/io/memory.h>
#include <arrow/ipc/writer.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "tests/command_line.h"

namespace sheaf::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// An IPC file whose one column says that it has 2^40 rows, of which nobody counted the
// nulls.
void WriteLyingIpc(const std::string& path) {
  arrow::Int64Builder values;
  for (int64_t i = 0; i < 77; ++i) {
    EXPECT_OK(i == 3 ? values.AppendNull() : values.Append(i));
  }
  const auto batch =
      arrow::RecordBatch::Make(arrow::schema({arrow::field("x", arrow::int64())}), 77,
                               {values.Finish().ValueOrDie()});
  auto bytes = arrow::io::BufferOutputStream::Create().ValueOrDie();
  auto writer = arrow::ipc::MakeFileWriter(bytes, batch->schema()).ValueOrDie();
  EXPECT_OK(writer->WriteRecordBatch(*batch));
  EXPECT_OK(writer->Close());
  std::string text = bytes->Finish().ValueOrDie()->ToString();
  const auto word = [](int64_t value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  const std::string rows = word(77);
  const std::string nulls = word(1);
  constexpr int64_t kLie = int64_t{1} << 40;
  const size_t node = text.find(rows + nulls);  // FieldNode {length, null_count}
  ASSERT_NE(node, std::string::npos);
  text.replace(node, 16, word(kLie) + word(-1));
  const size_t length = text.find(rows);  // of the batch
  ASSERT_NE(length, std::string::npos);
  text.replace(length, 8, word(kLie));
  std::ofstream(path, std::ios::binary) << text;
}

TEST_F(CommandLine, TheFirstCommandStartsAClusterAndDownEndsIt) {
  const Ran put = Sheaf("put t " + WriteParquet("t.parquet", 100));
  EXPECT_EQ(put.code, 0) << put.out;
  EXPECT_THAT(put.out, HasSubstr("started cluster '" + cluster_ + "'"));
  EXPECT_EQ(SheafJson("ls").size(), 1U);
  EXPECT_EQ(Sheaf("down").code, 0);
  const Ran again = Sheaf("down");
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.out, HasSubstr("no cluster '" + cluster_ + "'"));
}

TEST_F(CommandLine, NoClusterIsStartedForATableThatCannotBeThere) {
  for (const std::string command : {"rm", "head", "stat", "verify", "get -o x.csv"}) {
    const Ran ran = Sheaf(command + " nope");
    EXPECT_EQ(ran.code, 1) << command;
    EXPECT_THAT(ran.out, HasSubstr("no cluster '" + cluster_ + "' runs")) << command;
    EXPECT_THAT(ran.out, HasSubstr("sheaf put starts one")) << command;
    EXPECT_EQ(Sheaf("down").code, 1) << command << " has started a cluster";
  }
}

TEST_F(CommandLine, EveryCommandRestartsWhatACrashOrDownKeepLeft) {
  Up();
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 100)).code, 0);
  EndDaemon(0);
  const Ran stat = Sheaf("stat t");
  EXPECT_EQ(stat.code, 0) << stat.out;
  EXPECT_THAT(stat.out, HasSubstr("restarted cluster '" + cluster_ + "'"));
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  EXPECT_EQ(Sheaf("rm t").code, 0);
}

TEST_F(CommandLine, JsonHasWhatProgramsRelyOn) {
  Up("--nodes 2");
  const std::string file = WriteParquet("t.parquet", 1000);
  const Json put = SheafJson("put t " + file);
  for (const char* key : {"name", "version", "generation", "rows", "bytes",
                          "bytes_shared", "bytes_copied", "bytes_flushed", "seconds"}) {
    EXPECT_TRUE(put.contains(key)) << key;
  }
  EXPECT_EQ(put["rows"], 1000);
  EXPECT_EQ(put["bytes_copied"], 0);
  EXPECT_EQ(put["bytes_shared"], put["bytes"]);
  const Json stat = SheafJson("--node 1 stat t");
  for (const char* key : {"name", "home_node", "version", "generation", "rows", "columns",
                          "chunks", "bytes", "leases"}) {
    EXPECT_TRUE(stat.contains(key)) << key;
  }
  EXPECT_EQ(stat["home_node"], 0);
  EXPECT_EQ(stat.value("schema", Json()), Json::parse(R"([{"name":"id","type":"int64"},
                                            {"name":"name","type":"string"}])"));
  EXPECT_EQ(stat["generation"], put["generation"]);
  const Json nodes = SheafJson("nodes");
  ASSERT_EQ(nodes.size(), 2U);
  for (const char* key :
       {"id", "state", "incarnation", "backend", "coherence", "page_size", "size_bytes",
        "used_bytes", "free_bytes", "sessions"}) {
    EXPECT_TRUE(nodes[1].contains(key)) << key;
  }
  EXPECT_EQ(nodes[1]["state"], "up");
  const Json head = SheafJson("--node 1 head t -n 2");
  EXPECT_EQ(head, Json::parse(R"([{"id":0,"name":"name 0"},{"id":1,"name":"name 1"}])"));
}

TEST_F(CommandLine, EveryFileFormatGoesInUncopiedAndComesOutEqual) {
  Up();
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  const Json original = SheafJson("verify t");
  EXPECT_EQ(original["valid"], true);
  for (const std::string suffix : {"arrow", "feather", "arrows", "parquet", "csv"}) {
    const std::string file = Path("copy." + suffix);
    ASSERT_EQ(Sheaf("get t -o " + file).code, 0) << suffix;
    const Json put = SheafJson("put " + suffix + " " + file);
    EXPECT_EQ(put["bytes_copied"], 0) << suffix;
    EXPECT_EQ(put["rows"], 1000) << suffix;
    EXPECT_EQ(SheafJson("head " + suffix + " -n 1000"), SheafJson("head t -n 1000"))
        << suffix;
  }
}

TEST_F(CommandLine, ReplaceMakesANewVersionAndRmRemoves) {
  Up();
  const std::string file = WriteParquet("t.parquet", 10);
  EXPECT_EQ(SheafJson("put t " + file)["version"], 1);
  const Ran taken = Sheaf("put t " + file);
  EXPECT_EQ(taken.code, 1);
  EXPECT_THAT(taken.out, HasSubstr("exists"));
  EXPECT_THAT(taken.out, HasSubstr("sheaf put --replace t " + file + ", or sheaf rm t"));
  EXPECT_EQ(SheafJson("put t " + file + " --replace")["version"], 2);
  EXPECT_EQ(Sheaf("rm t").code, 0);
  const Ran gone = Sheaf("head t");
  EXPECT_EQ(gone.code, 1);
  EXPECT_THAT(gone.out, HasSubstr("no table is named 't'"));
  EXPECT_EQ(Sheaf("wait t --timeout 0.01").code, 1);
}

TEST_F(CommandLine, UsageErrorsExitWithTwo) {
  for (const char* arguments :
       {"", "put t", "frobnicate", "head t -n -1", "up --backend tape", "--node x ls",
        "lss", "--cluster a/b ls"}) {
    EXPECT_EQ(Sheaf(arguments).code, 2) << arguments;
  }
  EXPECT_EQ(Sheaf("--help").code, 0);
  EXPECT_EQ(Sheaf("put --help").code, 0);
}

TEST_F(CommandLine, BadFilesGetOneClearLine) {
  Up();
  const uint64_t free_before = SheafJson("nodes")[0]["free_bytes"];
  const std::string good = WriteParquet("good.parquet", 1000);
  fs::copy_file(good, Path("cut.parquet"));
  fs::resize_file(Path("cut.parquet"), fs::file_size(good) / 2);
  WriteText("text.parquet", "this is not Parquet at all");
  WriteText("text.arrow", "this is not Arrow at all");
  WriteText("text.arrows", "this is not Arrow at all");
  WriteText("empty.parquet", "");
  WriteText("t.xlsx", "x");
  fs::copy_file(good, Path("parquet.csv"));
  WriteText("ipc.csv", "ARROW1 and so on\n1\n");
  WriteText("zero.csv", std::string("a,b\n1,\0\n", 8));
  WriteLyingIpc(Path("lies.arrow"));
  struct Case {
    const char* file;
    const char* says;
  };
  for (const Case& bad :
       {Case{"cut.parquet", "as Parquet"}, Case{"text.parquet", "as Parquet"},
        Case{"text.arrow", "as Arrow IPC file"},
        Case{"text.arrows", "as Arrow IPC stream"}, Case{"empty.parquet", "as Parquet"},
        Case{"absent.parquet", "absent.parquet"}, Case{"t.xlsx", "suffix must be one of"},
        Case{"parquet.csv", "it begins with PAR1, as Parquet"},
        Case{"ipc.csv", "it begins with ARROW1, as Arrow IPC"},
        Case{"zero.csv", "byte 6 is zero"}, Case{"lies.arrow", "column 'x'"}}) {
    const Ran ran = Sheaf("put t " + Path(bad.file));
    EXPECT_EQ(ran.code, 1) << bad.file;
    EXPECT_THAT(ran.out, HasSubstr(bad.says)) << bad.file;
    EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << ran.out;
  }
  EXPECT_EQ(SheafJson("ls").size(), 0U);
  EXPECT_TRUE(
      Eventually([&] { return SheafJson("nodes")[0]["free_bytes"] == free_before; }));
}

TEST_F(CommandLine, WhatAnErrorQuotesDoesNotReachTheTerminal) {
  const Ran ran = Sheaf(
      "put t '/nowhere/\x1B]0;a\x07\x7F\xC2\x9B"
      "b\x9D\xC3\xA9\nc.parquet'");
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out,
              HasSubstr("/nowhere/\\x1B]0;a\\x07\\x7F\\x9Bb\\x9D\xC3\xA9 c.parquet"));
}

TEST_F(CommandLine, AFileLargerThanTheMemorySaysWhatIsNeededAndFree) {
  const std::string large = WriteParquet("large.parquet", 4'000'000);
  ASSERT_EQ(Sheaf("up --size 512MiB").code, 0);
  ASSERT_EQ(Sheaf("put t " + large).code, 0);
  for (const char* file : {"large.csv", "large.arrow", "large.arrows"}) {
    ASSERT_EQ(Sheaf("get t -o " + Path(file)).code, 0);
  }
  ASSERT_EQ(Sheaf("down").code, 0);
  Up();
  ASSERT_EQ(Sheaf("put there " + WriteParquet("small.parquet", 100'000)).code, 0);
  const Json before = SheafJson("nodes")[0];
  const std::string free = std::to_string(before["free_bytes"].get<uint64_t>());
  const std::string largest =
      std::to_string(before["largest_free_bytes"].get<uint64_t>());
  for (const char* file : {"large.parquet", "large.csv", "large.arrow", "large.arrows"}) {
    const Ran ran = Sheaf("put t " + Path(file));
    EXPECT_EQ(ran.code, 1) << file << ran.out;
    EXPECT_THAT(ran.out, HasSubstr("table 't' from '" + Path(file) + "'"));
    EXPECT_THAT(ran.out, HasSubstr("has " + free + " of 67108864 bytes free"));
    EXPECT_THAT(ran.out, HasSubstr("MiB of 64.0 MiB), the largest free range has " +
                                   largest + " bytes ("));
    EXPECT_THAT(ran.out, HasSubstr("sheaf rm"));
    EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << ran.out;
    // 64 bits of id, 32 of offset, and 11 or 12 bytes of name.
    const std::string needs = "it needs at least about ";
    const size_t found = ran.out.find(needs);
    ASSERT_NE(found, std::string::npos) << ran.out;
    const long long needed = std::stoll(ran.out.substr(found + needs.size()));
    EXPECT_GT(needed, 60'000'000) << file;
    EXPECT_LT(needed, 200'000'000) << file;
  }
  EXPECT_TRUE(Eventually([&] { return SheafJson("nodes")[0] == before; }))
      << SheafJson("nodes")[0];
}

// What was decoded of it when there was no more may be little.
TEST_F(CommandLine, WhatDoesNotFitIsNotSaidToNeedLessThanIsFree) {
  Up();
  std::string rows = "a,b\n";
  for (int i = 0; i < 200'000; ++i) rows += std::to_string(i) + ",some words of text\n";
  WriteText("t.csv", rows);
  Ran ran;
  uint64_t free = 0;
  for (int i = 0; ran.code != 1; ++i) {
    ASSERT_LT(i, 32) << ran.out;
    free = SheafJson("nodes")[0]["free_bytes"];
    ran = Sheaf("put t" + std::to_string(i) + " " + Path("t.csv"));
  }
  EXPECT_THAT(ran.out, HasSubstr("does not fit: it needs "));
  const std::string least = "at least about ";
  if (const size_t found = ran.out.find(least); found != std::string::npos) {
    EXPECT_GT(std::stoull(ran.out.substr(found + least.size())), free) << ran.out;
  } else {
    EXPECT_THAT(ran.out, ContainsRegex("more than [0-9]+ bytes .* when that ran out, and "
                                       "the file has [0-9.]+ MiB; node 0 has"));
  }
}

TEST_F(CommandLine, AFileLargerThanTheQuotaSaysSo) {
  const std::string large = WriteParquet("large.parquet", 1'000'000);
  Up("--user-quota 8MiB");
  const Ran ran = Sheaf("put t " + large);
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("cannot put table 't' from '" + large + "'"));
  EXPECT_THAT(ran.out, HasSubstr("the user quota of this node is 8MiB"));
  EXPECT_THAT(ran.out, HasSubstr("sheaf up --user-quota"));
  EXPECT_THAT(ran.out, Not(HasSubstr("does not fit")));
}

TEST_F(CommandLine, CsvLeavesTheFreeMemoryInOnePiece) {
  ASSERT_EQ(Sheaf("up --size 256MiB").code, 0);
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1'000'000)).code, 0);
  ASSERT_EQ(Sheaf("get t -o " + Path("t.csv")).code, 0);
  ASSERT_EQ(Sheaf("rm t").code, 0);
  for (const char* name : {"a", "b"}) {
    EXPECT_EQ(SheafJson(std::string("put ") + name + " " + Path("t.csv"))["bytes_copied"],
              0);
  }
  uint64_t free = 0;
  uint64_t largest = 0;
  EXPECT_TRUE(Eventually([&] {
    const Json node = SheafJson("nodes")[0];
    free = node["free_bytes"];
    largest = node["largest_free_bytes"];
    return largest > free / 10 * 9;
  })) << largest
      << " of " << free;
}

TEST_F(CommandLine, UpIsContentWithWhatRunsAsItIsAskedFor) {
  Up();
  for (const std::string same : {"up", "up --size 64MiB"}) {
    const Ran twice = Sheaf(same);
    EXPECT_EQ(twice.code, 0) << twice.out;
    EXPECT_THAT(twice.out,
                HasSubstr("cluster '" + cluster_ + "' was already up: 1 node"));
  }
  EXPECT_EQ(SheafJson("up")["was_up"], true);
}

TEST_F(CommandLine, UpRefusesWhatCannotBe) {
  Up();
  const Ran other = Sheaf("up --size 32MiB");
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.out, HasSubstr("runs with other values of --size (there: 64MiB)"));
  EXPECT_THAT(other.out, HasSubstr("down --keep"));
  EXPECT_EQ(Sheaf("down").code, 0);
  WriteText("bad.toml", "nodes = 2\nsegment_sise = \"1GiB\"\n");
  const Ran typo = Sheaf("up --config " + Path("bad.toml"));
  EXPECT_EQ(typo.code, 1);
  EXPECT_THAT(typo.out, HasSubstr("bad.toml:2"));
  EXPECT_THAT(typo.out, HasSubstr("segment_sise"));
  const Ran huge = Sheaf("up --prealloc --size 20TiB");
  EXPECT_EQ(huge.code, 1) << huge.out;
  EXPECT_THAT(huge.out, HasSubstr("1 segments of 20TiB"));
  EXPECT_THAT(huge.out, HasSubstr("available there: "));
  EXPECT_FALSE(fs::exists(folder_ + "/run/" + cluster_));
}

TEST_F(CommandLine, WhatACrashOrDownKeepLeftIsThereAgain) {
  Up("--nodes 2");
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 100)).code, 0);
  ASSERT_EQ(Sheaf("--node 1 put u " + WriteParquet("u.parquet", 50)).code, 0);
  const Json checksum = SheafJson("verify t")["checksum"];
  for (const bool crash : {true, false}) {
    if (crash) {
      for (const int node : {0, 1}) EndDaemon(node);
    } else {
      const Ran down = Sheaf("down --keep");
      EXPECT_EQ(down.code, 0) << down.out;
      EXPECT_THAT(down.out, HasSubstr("its tables stay"));
    }
    const Ran up = Sheaf("up");
    EXPECT_EQ(up.code, 0) << up.out;
    EXPECT_THAT(up.out, HasSubstr("with the tables that were in it"));
    EXPECT_EQ(SheafJson("ls").size(), 2U);
    EXPECT_EQ(SheafJson("verify t")["checksum"], checksum);
    EXPECT_EQ(SheafJson("stat u")["rows"], 50);
    EXPECT_EQ(Sheaf("put t " + WriteParquet("t2.parquet", 100)).code, 1);  // exists
    EXPECT_EQ(Sheaf("--node 1 put --replace u " + WriteParquet("u.parquet", 50)).code, 0);
  }
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  const Ran other = Sheaf("up --nodes 3");
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.out, HasSubstr("other values of --nodes"));
  EXPECT_EQ(Sheaf("down").code, 0);
  Up();
  EXPECT_EQ(SheafJson("ls").size(), 0U);
}

TEST_F(CommandLine, UpStartsTheDaemonsThatDoNotRun) {
  Up("--nodes 2");
  ASSERT_EQ(Sheaf("--node 1 put t " + WriteParquet("t.parquet", 100)).code, 0);
  ASSERT_EQ(Sheaf("verify t").code, 0);  // node 1 has admitted node 0 (F7)
  EndDaemon(1);
  EXPECT_EQ(Sheaf("verify t").code, 0);  // its memory is there
  EXPECT_EQ(Sheaf("up").code, 0);
  EXPECT_EQ(Sheaf("--node 1 rm t").code, 0);
  EXPECT_THAT(Sheaf("up").out, HasSubstr("was already up: 2 nodes"));
}

TEST_F(CommandLine, ASecondDaemonOfANodeIsRefused) {
  Up();
  const Ran second = Run(std::string(SHEAFD_BINARY) + " --foreground --cluster-file " +
                         folder_ + "/run/" + cluster_ + "/cluster.toml --node 0");
  EXPECT_EQ(second.code, 1);
  EXPECT_THAT(second.out, HasSubstr("process"));
  EXPECT_EQ(Sheaf("ls").code, 0);
}

}  // namespace
}  // namespace sheaf::testing
