// Real tables, in parts over four nodes, are what their files hold. The files lie beside
// the checkout (shared/data); without them these tests are left out.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <arrow/io/file.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <gtest/gtest.h>
#include <parquet/arrow/reader.h>

#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "tests/command_line.h"
#include "tests/four_nodes.h"

namespace sheaf::testing {
namespace {

std::string RealFile(const std::string& name) {
  return std::string(SHEAF_REAL_DATA_DIR) + "/" + name;
}
bool IsThere(const std::string& file) { return std::filesystem::exists(file); }

arrow::Result<TablePtr> ReadParquet(const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(auto input, arrow::io::ReadableFile::Open(path));
  ARROW_ASSIGN_OR_RAISE(auto reader,
                        parquet::arrow::OpenFile(input, arrow::default_memory_pool()));
  return reader->ReadTable();
}

class RealData : public FourNodes {
 protected:
  // A quarter of the rows at each node; the last nodes first.
  void PutInParts(const std::string& name, const TablePtr& table) {
    for (uint32_t node = kNodes; node-- > 0;) {
      const int64_t first = table->num_rows() * node / kNodes;
      const int64_t end = table->num_rows() * (node + 1) / kNodes;
      ASSERT_OK_AND_ASSIGN(
          const auto receipt,
          PutPart(stores_[node], name, *table->Slice(first, end - first), node, kNodes));
      ASSERT_EQ(receipt.version != 0, node == 0);
    }
  }
  void ExpectEqualOnAllNodes(const std::string& name, const TablePtr& table) {
    for (uint32_t node = 0; node < kNodes; ++node) {
      const int64_t private_before = arrow::default_memory_pool()->bytes_allocated();
      ASSERT_OK_AND_ASSIGN(const TablePtr all, stores_[node]->Get(name));
      EXPECT_LE(arrow::default_memory_pool()->bytes_allocated(), private_before);
      EXPECT_OK(all->ValidateFull());
      EXPECT_TRUE(all->Equals(*table)) << name << " on node " << node;
      ASSERT_OK_AND_ASSIGN(const auto local, LocalParts(stores_[node], name));
      ASSERT_EQ(local.size(), 1U);
      const PartInfo& part = local[0].info;
      EXPECT_TRUE(local[0].table->Equals(*table->Slice(part.row_offset, part.num_rows)));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, RealData, FourNodesBackends(), BackendCaseName);

TEST_P(RealData, InPartsOverFourNodesIsWhatItsFileHolds) {
  std::vector<std::string> names = {"nyc-taxi-50k"};
  // 139 MB take the simulator half a minute.
  if (std::string(GetParam().name) == "Shm") names.push_back("flights-3m");
  for (const std::string& name : names) {
    const std::string file = RealFile(name + ".parquet");
    if (!IsThere(file)) GTEST_SKIP() << "no " << file;
    ASSERT_OK_AND_ASSIGN(const TablePtr table, ReadParquet(file));
    PutInParts(name, table);
    ExpectEqualOnAllNodes(name, table);
    ASSERT_OK(stores_[1]->Remove(name));
  }
  ExpectNothingLeft();
}

using RealFiles = CommandLine;

TEST_F(RealFiles, SharesOfOneFileOnFourNodes) {
  const std::string file = RealFile("flights-3m.parquet");
  if (!IsThere(file)) GTEST_SKIP() << "no " << file;
  ASSERT_EQ(Sheaf("up --nodes 4 --size 256MiB").code, 0);
  for (const std::string node : {"0", "1", "2", "3"}) {
    const Json put = SheafJson("--node " + node + " put flights " + file +
                               " --split --part " + node + " --of 4");
    EXPECT_EQ(put["put"]["bytes_copied"], 0);
  }
  ASSERT_EQ(Sheaf("put whole " + file).code, 0);
  EXPECT_EQ(SheafJson("--node 3 verify flights")["columns"],
            SheafJson("--node 1 verify whole")["columns"]);
  EXPECT_EQ(SheafJson("stat flights")["rows"], 3'000'000);
}

}  // namespace
}  // namespace sheaf::testing
