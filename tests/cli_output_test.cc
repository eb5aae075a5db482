// What the command line says: text for people, JSON for programs, help, and errors that
// tell what to do.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <arrow/io/file.h>
#include <arrow/ipc/writer.h>
#include <arrow/json/from_string.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fault_point.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "tests/command_line.h"

namespace sheaf::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class CommandLineOutput : public CommandLine {
 protected:
  // As Arrow IPC, which keeps every type.
  std::string WriteIpc(const std::string& name, const arrow::Table& table) {
    auto file = arrow::io::FileOutputStream::Open(Path(name)).ValueOrDie();
    auto writer = arrow::ipc::MakeFileWriter(file, table.schema()).ValueOrDie();
    EXPECT_OK(writer->WriteTable(table));
    EXPECT_OK(writer->Close());
    EXPECT_OK(file->Close());
    return Path(name);
  }
};

std::shared_ptr<arrow::Table> OneColumn(const std::string& name,
                                        const std::shared_ptr<arrow::DataType>& type,
                                        const char* json) {
  auto array = arrow::json::ArrayFromJSONString(type, json).ValueOrDie();
  return arrow::Table::Make(arrow::schema({arrow::field(name, type)}), {array});
}

TEST_F(CommandLineOutput, HeadShowsTheValuesOfADictionary) {
  const auto table =
      OneColumn("carrier", arrow::dictionary(arrow::int32(), arrow::utf8()),
                R"(["UA", "AA", "UA", null])");
  Up();
  ASSERT_EQ(Sheaf("put t " + WriteIpc("t.arrow", *table)).code, 0);
  EXPECT_EQ(Sheaf("head t").out, "carrier\nUA\nAA\nUA\nnull\n");
  EXPECT_EQ(SheafJson("head t -n 2"),
            Json::parse(R"([{"carrier": "UA"}, {"carrier": "AA"}])"));
}

// Changes the first place in the files of `folder` that holds `bytes`.
bool Overwrite(const std::string& folder, const std::string& bytes,
               const std::string& with) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().filename().string().find("data") == std::string::npos) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    const std::string all(std::istreambuf_iterator<char>(file), {});
    const size_t at = all.find(bytes);
    if (at == std::string::npos) continue;
    file.clear();
    file.seekp(static_cast<std::streamoff>(at));
    file << with << std::flush;
    return file.good();
  }
  return false;
}

std::string BytesOf(const std::vector<int32_t>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int32_t)};
}

TEST_F(CommandLineOutput, VerifyRefusesOffsetsThatLeaveTheirBuffer) {
  fs::create_directory(Path("memory"));
  Up("--backend file --folder " + Path("memory"));
  std::string json;
  for (const size_t length : {1009, 1013, 1019}) {
    json += (json.empty() ? "[\"" : ", \"") + std::string(length, 'x') + "\"";
  }
  const auto table = OneColumn("text", arrow::utf8(), (json + "]").c_str());
  ASSERT_EQ(Sheaf("put t " + WriteIpc("t.arrow", *table)).code, 0);
  EXPECT_EQ(Sheaf("verify t").code, 0);
  ASSERT_TRUE(Overwrite(Path("memory"), BytesOf({0, 1009, 2022, 3041}),
                        BytesOf({0, 1009, 1'000'000'000, 3041})));
  const Ran ran = Sheaf("verify t");
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("'t' is not valid"));
  EXPECT_THAT(ran.out, HasSubstr("offset"));
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << ran.out;
  ASSERT_OK_AND_ASSIGN(auto store, Store::Connect());
  EXPECT_OK(store->Get("t"));
  GetOptions full;
  full.validate = Validation::kFull;
  EXPECT_RAISES(Invalid, store->Get("t", full));
  ASSERT_OK_AND_ASSIGN(const TableInfo info, store->Stat("t"));
  EXPECT_RAISES(Invalid, store->Open(info.handle, Validation::kFull));
}

TEST_F(CommandLineOutput, ChecksumsSurviveTheWayThroughEveryFormat) {
  Up("--nodes 2");
  const auto table = OneColumn("text", arrow::utf8_view(),
                               R"(["a", null, "", "longer than a view is"])");
  const auto chunks = arrow::ConcatenateTables({table, table->Slice(1)}).ValueOrDie();
  ASSERT_EQ(Sheaf("put t " + WriteIpc("t.arrow", *chunks)).code, 0);
  const Json sums = SheafJson("verify t")["columns"];
  EXPECT_EQ(SheafJson("--node 1 verify t")["columns"], sums);
  for (const std::string suffix : {"parquet", "arrow", "arrows"}) {
    ASSERT_EQ(Sheaf("get t -o " + Path("copy." + suffix)).code, 0);
    ASSERT_EQ(Sheaf("put " + suffix + " " + Path("copy." + suffix)).code, 0);
    EXPECT_EQ(SheafJson("verify " + suffix)["columns"], sums) << suffix;
  }
  const Ran ran = Sheaf("verify t");
  EXPECT_THAT(ran.out, HasSubstr(sums[0]["checksum"].get<std::string>()));
  EXPECT_THAT(ran.out, HasSubstr("no checksums: put with --checksum"));
}

// `arguments` with standard output on a full disk; what is returned is standard error.
Ran SheafOnFullDisk(const std::string& arguments) {
  return CommandLine::Run("( " SHEAF_BINARY " " + arguments + " > /dev/full )");
}

TEST_F(CommandLineOutput, OutputThatCannotBeWrittenIsAnError) {
  Up();
  const std::string file = WriteParquet("t.parquet", 20'000);
  for (const std::string& arguments :
       {std::string("ls"), std::string("--json ls"), "put t " + file,
        std::string("head t -n 20000"), std::string("--json head t -n 20000"),
        std::string("--help")}) {
    const Ran ran = SheafOnFullDisk(arguments);
    EXPECT_EQ(ran.code, 1) << arguments;
    EXPECT_EQ(ran.out, "sheaf: cannot write to standard output; is the disk full?\n")
        << arguments;
  }
}

TEST_F(CommandLineOutput, UsageErrorsSayWhatIsExpected) {
  struct Case {
    const char* arguments;
    const char* says;
  };
  for (const Case& bad :
       {Case{"head t -n -1", "must be a number from 0 to"},
        Case{"wait t --timeout inf", "must be a number from 0 to 31536000, got 'inf'"},
        Case{"wait t --timeout nan", "got 'nan'"},
        Case{"wait t --timeout 1e300", "got '1e300'"},
        Case{"up --nodes 0", "not in range 1 to 4096"},
        Case{"up --nodes 65", "--nodes: 65 is more than 64"},
        Case{"up --size -5", "--size: must be a size such as 512MiB"},
        Case{"up --size 1.5", "--size: must be a size such as 512MiB"},
        Case{"up --size 0", "--size: must be more than 0"},
        Case{"up --size 100TiB", "--size: 100.0 TiB is more than 96.0 TiB"},
        Case{"up --nodes 2 --size 50TiB",
             "48.0 TiB, the most a node can have with --nodes 2"},
        Case{"up --user-quota lots", "--user-quota: must be a size"},
        Case{"--cluster a/b ls", "--cluster: name: 'a/b' must be"},
        Case{"lss", "there is no command 'lss'"},
        Case{"--json lss t", "there is no command 'lss'"}}) {
    const Ran ran = Sheaf(bad.arguments);
    EXPECT_EQ(ran.code, 2) << bad.arguments;
    EXPECT_THAT(ran.out, HasSubstr(bad.says)) << bad.arguments;
    EXPECT_LT(ran.out.size(), 200U) << ran.out;
  }
}

TEST_F(CommandLineOutput, ErrorsSayWhatToDo) {
  Up("--nodes 2");
  for (const std::string command : {"head", "stat", "rm", "verify"}) {
    const Ran ran = Sheaf(command + " absent");
    EXPECT_EQ(ran.code, 1) << command;
    EXPECT_THAT(ran.out, HasSubstr("no table is named 'absent'; `sheaf ls`")) << command;
  }
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 10)).code, 0);
  const Ran get = Sheaf("get t -o " + Path("none/t.csv"));
  EXPECT_EQ(get.code, 1);
  EXPECT_THAT(get.out, HasSubstr("there is no folder \"" + Path("none") + "\""));
  EXPECT_THAT(get.out, Not(HasSubstr(".part")));
  EndDaemon(1);
  const Ran gone = Sheaf("--node 1 ls");
  EXPECT_EQ(gone.code, 1);
  EXPECT_THAT(gone.out, HasSubstr("node 1 of cluster '" + cluster_ + "' does not run"));
  EXPECT_THAT(gone.out, HasSubstr("sheaf --cluster " + cluster_ + " up"));
}

TEST_F(CommandLineOutput, AConfigurationOfAnotherClusterSaysWhatToDo) {
  WriteText("other.toml", "name = \"other\"\n");
  const Ran ran = Sheaf("up --config " + Path("other.toml"));
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("describes cluster 'other'"));
  EXPECT_THAT(ran.out, HasSubstr("--cluster other"));
  EXPECT_THAT(ran.out, HasSubstr("SHEAF_CLUSTER"));
}

TEST_F(CommandLineOutput, StatShowsTheSchema) {
  Up();
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 10)).code, 0);
  EXPECT_THAT(Sheaf("stat t").out, HasSubstr("\n\n"
                                             "COLUMN  TYPE\n"
                                             "id      int64\n"
                                             "name    string\n"));
  EXPECT_FALSE(SheafJson("ls")[0].contains("schema"));
}

TEST_F(CommandLineOutput, TheNodeComesFromTheEnvironmentUnlessItIsGiven) {
  Up("--nodes 2");
  const std::string file = WriteParquet("t.parquet", 10);
  const std::string on_node_1 = "SHEAF_NODE=1 " SHEAF_BINARY " ";
  ASSERT_EQ(Run(on_node_1 + "put on1 " + file).code, 0);
  ASSERT_EQ(Run(on_node_1 + "--node 0 put on0 " + file).code, 0);
  EXPECT_EQ(SheafJson("stat on1")["home_node"], 1);
  EXPECT_EQ(SheafJson("stat on0")["home_node"], 0);
  const Ran bad = Run("SHEAF_NODE=abc " SHEAF_BINARY " ls");
  EXPECT_EQ(bad.code, 1);
  EXPECT_EQ(bad.out, "sheaf: SHEAF_NODE is 'abc', expected a node number\n");
}

TEST_F(CommandLineOutput, EveryCommandHasHelp) {
  const std::string help = Sheaf("--help").out;
  for (const char* part : {"Examples:", "Exit codes:", "Environment:", "SHEAF_CLUSTER",
                           "SHEAF_NODE", "SHEAF_RUNTIME_DIR"}) {
    EXPECT_THAT(help, HasSubstr(part));
  }
  const std::map<std::string, std::vector<std::string>> positionals = {
      {"up", {}},         {"down", {}},         {"nodes", {}},
      {"faults", {}},     {"ls", {}},           {"get", {"NAME"}},
      {"head", {"NAME"}}, {"stat", {"NAME"}},   {"rm", {"NAME"}},
      {"wait", {"NAME"}}, {"verify", {"NAME"}}, {"put", {"NAME", "FILE"}}};
  for (const auto& [command, names] : positionals) {
    EXPECT_THAT(help, HasSubstr("\n  " + command + " ")) << command;
    const Ran ran = Sheaf(command + " --help");
    EXPECT_EQ(ran.code, 0) << command;
    for (const std::string& name : names) {
      EXPECT_THAT(ran.out, ContainsRegex("\n  " + name + " +[A-Z]")) << ran.out;
    }
    for (const char* noise : {"INT", "TEXT", ":FILE", "UINT", "REQUIRED"}) {
      EXPECT_THAT(ran.out, Not(HasSubstr(noise))) << ran.out;
    }
  }
  EXPECT_THAT(Sheaf("up --help").out, HasSubstr("docs/configuration.md"));
  EXPECT_THAT(Sheaf("fsck --help").out, HasSubstr("changes nothing without --repair"));
  EXPECT_THAT(Sheaf("get --help").out, HasSubstr("overwrites"));
  const std::string nodes_help = Sheaf("nodes --help").out;
  for (const char* word : {"STATE", "  joining", "  withdrawn", "  off", "  down",
                           "INCARNATION", "HEARTBEAT", "OBJECTS"}) {
    EXPECT_THAT(nodes_help, HasSubstr(word));
  }
  EXPECT_THAT(Run(SHEAFD_BINARY " --help").out, HasSubstr("stay for the next daemon"));
}

TEST_F(CommandLineOutput, FaultsListsEveryFaultPoint) {
  const Json faults = SheafJson("faults");
  const std::string text = Sheaf("faults").out;
  ASSERT_EQ(faults.size(), kFaultPoints.size());
  for (size_t i = 0; i < faults.size(); ++i) {
    EXPECT_EQ(faults[i]["name"], kFaultPoints[i].name);
    EXPECT_EQ(faults[i]["program"], kFaultPoints[i].program());
    EXPECT_EQ(faults[i]["what"], kFaultPoints[i].what);
    EXPECT_THAT(text, HasSubstr(std::string(kFaultPoints[i].name) + " "));
  }
  EXPECT_EQ(Sheaf("down").code, 1) << "it has started a cluster";
}

TEST_F(CommandLineOutput, AFaultThatIsNotThereEndsTheProgram) {
  const Ran daemon =
      Run("SHEAF_FAULT=daemon.start.after-lok=kill " SHEAF_BINARY " up --size 64MiB");
  EXPECT_EQ(daemon.code, 1);
  EXPECT_THAT(daemon.out, HasSubstr("no fault point 'daemon.start.after-lok'"));
  Up();
  const Ran client = Run("SHEAF_FAULT=client.hello.after-lock=die " SHEAF_BINARY " ls");
  EXPECT_EQ(client.code, 2);
  EXPECT_THAT(client.out, HasSubstr("SHEAF_FAULT: 'client.hello.after-lock=die'"));
  const Ran killed = Run("SHEAF_FAULT=client.hello.after-lock=kill " SHEAF_BINARY " ls");
  EXPECT_THAT(killed.out, HasSubstr("killed at client.hello.after-lock, pass 1"));
}

TEST_F(CommandLineOutput, UpTakesAConfigurationAndOptionsWinOverIt) {
  fs::create_directory(Path("memory"));
  WriteText("cluster.toml",
            "nodes = 3\nsegment_size = \"32MiB\"\nbackend = \"file\"\n"
            "coherence = \"coherent\"\n");
  const Ran up = Sheaf("up --config " + Path("cluster.toml") + " --folder " +
                       Path("memory") + " --nodes 2 --coherence software");
  ASSERT_EQ(up.code, 0) << up.out;
  EXPECT_THAT(Sheaf("nodes").out, HasSubstr(" INCARNATION "));
  const Json nodes = SheafJson("nodes");
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_EQ(nodes[0]["size_bytes"], 32 << 20);
  EXPECT_EQ(nodes[0]["backend"], "file");
  EXPECT_EQ(nodes[0]["coherence"], "software");
  const std::string memory = Path("memory/sheaf-" + cluster_);
  EXPECT_FALSE(fs::is_empty(memory));
  const Json put = SheafJson("put t " + WriteParquet("t.parquet", 1000));
  EXPECT_EQ(put["bytes_flushed"], put["bytes"]);
  EXPECT_EQ(SheafJson("--node 1 head t -n 1"),
            Json::parse(R"([{"id": 0, "name": "name 0"}])"));
  EXPECT_EQ(Sheaf("down").code, 0);
  EXPECT_TRUE(fs::is_empty(Path("memory")));
}

TEST_F(CommandLineOutput, UpSaysThatTheEtcdDoesNotAnswer) {
  WriteText("cluster.toml",
            "segment_size = \"64MiB\"\n[etcd]\nendpoints = \"http://127.0.0.1:1\"\n");
  const Ran up = Sheaf("up --config " + Path("cluster.toml"));
  EXPECT_EQ(up.code, 0) << up.out;
  EXPECT_THAT(up.out, HasSubstr("sheaf: warning: etcd does not answer: "));
  EXPECT_THAT(up.out, HasSubstr("http://127.0.0.1:1"));
  EXPECT_THAT(up.out, HasSubstr("goes on without it"));
  EXPECT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 10)).code, 0);
}

TEST_F(CommandLineOutput, AFileThatIsNotThereStartsNoCluster) {
  EXPECT_EQ(Sheaf("put t " + Path("none.parquet")).code, 1);
  const Ran down = Sheaf("down");
  EXPECT_EQ(down.code, 1);
  EXPECT_THAT(down.out, HasSubstr("no cluster"));
}

TEST_F(CommandLineOutput, FirstCommandsAtOnceStartOneCluster) {
  const Ran ran = Run("( for i in 1 2 3 4; do " SHEAF_BINARY
                      " ls & all=\"$all $!\"; done\n"
                      "for one in $all; do wait $one || exit 1; done )");
  EXPECT_EQ(ran.code, 0) << ran.out;
  const size_t started = ran.out.find("started cluster");
  ASSERT_NE(started, std::string::npos) << ran.out;
  EXPECT_EQ(ran.out.find("started cluster", started + 1), std::string::npos) << ran.out;
  EXPECT_EQ(SheafJson("nodes").size(), 1U);
}

}  // namespace
}  // namespace sheaf::testing
