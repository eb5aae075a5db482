// What the command line says: text for people, JSON for programs, help, and errors that
// tell what to do.

#include <memory>
#include <string>

#include <arrow/io/file.h>
#include <arrow/ipc/writer.h>
#include <arrow/json/from_string.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "testing/arrow_test.h"
#include "tests/command_line.h"

namespace sheaf::testing {
namespace {

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

}  // namespace
}  // namespace sheaf::testing
