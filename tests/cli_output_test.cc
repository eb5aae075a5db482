// What the command line says: text for people, JSON for programs, help, and errors that
// tell what to do.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
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

#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "tests/command_line.h"

namespace sheaf::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

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
  EXPECT_THAT(ran.out, HasSubstr("nothing was stored at put"));
}

}  // namespace
}  // namespace sheaf::testing
