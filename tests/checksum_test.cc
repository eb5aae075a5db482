// Tables with checksums on real clusters: what nobody touched passes, and a byte that
// anybody changed anywhere is found and named.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/builder.h>
#include <arrow/extension_type.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/tables.h"
#include "testing/test_cluster.h"
#include "tests/command_line.h"
#include "tests/mapped_file.h"

namespace sheaf::testing {
namespace {

using arrow::Table;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr PutOptions kSummed = {.replace = true, .checksum = true};
const GetOptions kFully = {.columns = {}, .version = {}, .validate = Validation::kFull};

struct Memory {
  const char* name;
  const char* config_toml;
};
void PrintTo(const Memory& memory, std::ostream* stream) { *stream << memory.name; }
constexpr Memory kMemories[] = {
    {"Shm", "backend = \"shm\"\n"},
    {"ShmSoftware", "backend = \"shm\"\ncoherence = \"software\"\n"},
    {"Sim", "backend = \"sim\"\n"},
    {"SimChaosPosted",
     "backend = \"sim\"\nposted_delay_us = 100\n[sim]\nchaos = true\n"
     "posted = true\n"},
};

std::shared_ptr<Table> MakeTable(int64_t rows) {
  arrow::Int64Builder ids;
  arrow::StringBuilder names;
  for (int64_t i = 0; i < rows; ++i) {
    SHEAF_CHECK(ids.Append(i).ok());
    SHEAF_CHECK(names.Append("name " + std::to_string(i)).ok());
  }
  return Table::Make(arrow::schema({arrow::field("id", arrow::int64()),
                                    arrow::field("name", arrow::utf8())}),
                     {ids.Finish().ValueOrDie(), names.Finish().ValueOrDie()}, rows);
}

/// A buffer of an opened table, and how errors name it.
struct NamedBuffer {
  const uint8_t* begin;
  int64_t size;
  std::string place;
};

/// In the order in which a descriptor has them.
void ListBuffers(const arrow::ArrayData& array, const std::string& chunk,
                 const std::optional<std::string>& field,
                 std::vector<NamedBuffer>* list) {
  const std::string where = chunk + (field ? ", field '" + *field + "'" : "");
  for (size_t i = 0; i < array.buffers.size(); ++i) {
    const auto& buffer = array.buffers[i];
    if (buffer == nullptr || buffer->size() == 0) continue;
    list->push_back(
        {buffer->data(), buffer->size(), where + ": buffer " + std::to_string(i) + ": "});
  }
  const arrow::DataType* storage = array.type.get();
  if (storage->id() == arrow::Type::EXTENSION) {
    storage = static_cast<const arrow::ExtensionType&>(*storage).storage_type().get();
  }
  const std::string before = field ? *field + "." : "";
  for (size_t i = 0; i < array.child_data.size(); ++i) {
    ListBuffers(*array.child_data[i], chunk,
                before + storage->field(static_cast<int>(i))->name(), list);
  }
  if (array.dictionary != nullptr) {
    ListBuffers(*array.dictionary, chunk, before + "dictionary", list);
  }
}

std::vector<NamedBuffer> ListBuffers(const Table& table) {
  std::vector<NamedBuffer> list;
  for (int i = 0; i < table.num_columns(); ++i) {
    for (int k = 0; k < table.column(i)->num_chunks(); ++k) {
      const std::string chunk = "column " + std::to_string(i) + " '" +
                                table.field(i)->name() + "', chunk " + std::to_string(k);
      ListBuffers(*table.column(i)->chunk(k)->data(), chunk, std::nullopt, &list);
    }
  }
  return list;
}

class Checksums : public ::testing::TestWithParam<Memory> {
 protected:
  void SetUp() override {
    TestClusterOptions options;
    options.config_toml = std::string("segment_size = \"64MiB\"\n") +
                          "slots_max = 4096\nlease_pages_max = 16\nrecords_size = "
                          "\"16MiB\"\n" +
                          GetParam().config_toml;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(node0_, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(node1_, cluster_->Connect(1));
  }

  void ExpectVerifies(const std::string& name) {
    EXPECT_OK(node0_->Verify(name));
    EXPECT_OK(node1_->Verify(name));
  }
  void ExpectDamaged(const std::string& name, const std::string& place) {
    for (Store* store : {node0_.get(), node1_.get()}) {
      const arrow::Status status = store->Verify(name);
      ASSERT_RAISES(IOError, status);
      EXPECT_TRUE(IsDamaged(status)) << status;
      EXPECT_THAT(status.message(), StartsWith("table '" + name + "': " + place));
    }
  }

  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> node0_;
  std::shared_ptr<Store> node1_;
};

TEST_P(Checksums, WhatNobodyTouchedPasses) {
  for (const NamedTable& named : AllTypesTableVariants()) {
    SCOPED_TRACE(named.name);
    ASSERT_OK(node0_->Put("t", *named.table, kSummed));
    ASSERT_OK_AND_ASSIGN(const TableInfo info, node1_->Stat("t"));
    EXPECT_TRUE(info.has_checksums);
    ASSERT_NO_FATAL_FAILURE(ExpectVerifies("t"));
    EXPECT_OK(node1_->Get("t", kFully));
  }
}

/// One byte of each buffer of each type, in the memory itself.
TEST_P(Checksums, AChangedByteIsNamed) {
  int flips = 0;
  for (const NamedTable& named : AllTypesTables({.num_rows = 70})) {
    SCOPED_TRACE(named.name);
    ASSERT_OK(node0_->Put("t", *named.table, kSummed));
    ASSERT_OK_AND_ASSIGN(const auto opened, node1_->Get("t"));
    const std::vector<NamedBuffer> buffers = ListBuffers(*opened);
    for (size_t i = 0; i < buffers.size(); ++i) {
      const uint8_t* byte = buffers[i].begin + buffers[i].size / 2;
      size_t first = 0;
      while (byte < buffers[first].begin ||
             byte >= buffers[first].begin + buffers[first].size) {
        ++first;
      }
      FlipByte(PlaceOf(byte));
      ExpectDamaged("t", buffers[first].place);
      FlipByte(PlaceOf(byte));
      ++flips;
      ASSERT_FALSE(HasFailure()) << i;
    }
    ASSERT_NO_FATAL_FAILURE(ExpectVerifies("t"));
  }
  EXPECT_GT(flips, 300);
}

TEST_P(Checksums, OpeningWithFullValidationFindsItInTheColumnsOpened) {
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt,
                       node0_->Put("t", *MakeTable(1000), kSummed));
  ASSERT_OK_AND_ASSIGN(const auto opened, node1_->Get("t"));
  FlipByte(PlaceOf(opened->column(1)->chunk(0)->data()->buffers[2]->data() + 5));
  GetOptions options = kFully;
  EXPECT_TRUE(IsDamaged(node1_->Get("t", options).status()));
  EXPECT_TRUE(IsDamaged(node1_->Open(receipt.handle, Validation::kFull).status()));
  options.columns = {"name"};
  EXPECT_TRUE(IsDamaged(node1_->Get("t", options).status()));
  options.columns = {"id"};
  EXPECT_OK(node1_->Get("t", options));
  ASSERT_OK_AND_ASSIGN(const Handle first, receipt.handle.Select({0}));
  EXPECT_OK(node1_->Open(first, Validation::kFull));
  EXPECT_OK(node1_->Open(receipt.handle));
  EXPECT_OK(node1_->Get("t"));
}

TEST_P(Checksums, ATableWithoutThemSaysHowToHaveThem) {
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, node0_->Put("t", *MakeTable(1000)));
  for (const arrow::Status& status :
       {node1_->Verify("t"), node1_->Verify(receipt.handle)}) {
    ASSERT_RAISES(Invalid, status);
    EXPECT_THAT(status.message(), HasSubstr("no checksums: put with --checksum"));
  }
  ASSERT_OK_AND_ASSIGN(const TableInfo info, node1_->Stat("t"));
  EXPECT_FALSE(info.has_checksums);
  EXPECT_OK(node1_->Get("t", kFully));
}

TEST_P(Checksums, ASliceThatIsPutLaterHasItsOwn) {
  ASSERT_OK(node0_->Put("parent", *MakeTable(100'000)));
  ASSERT_OK_AND_ASSIGN(const auto parent, node0_->Get("parent"));
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt,
                       node0_->Put("slice", *parent->Slice(50'000, 1000), kSummed));
  EXPECT_EQ(receipt.bytes_copied, 0);
  ASSERT_NO_FATAL_FAILURE(ExpectVerifies("slice"));
  const auto* ids = parent->column(0)->chunk(0)->data()->GetValues<int64_t>(1);
  FlipByte(PlaceOf(ids + 10));
  ASSERT_NO_FATAL_FAILURE(ExpectVerifies("slice"));
  FlipByte(PlaceOf(ids + 50'100));
  ExpectDamaged("slice", "column 0 'id', chunk 0: buffer 1: ");
}

TEST_P(Checksums, BytesOfAnotherHomeAreSummedToo) {
  ASSERT_OK(node0_->Put("parent", *MakeTable(1000)));
  ASSERT_OK_AND_ASSIGN(const auto parent, node1_->Get("parent"));
  ASSERT_OK_AND_ASSIGN(const PutReceipt receipt, node1_->Put("t", *parent, kSummed));
  EXPECT_EQ(receipt.bytes_copied, 0);
  ASSERT_NO_FATAL_FAILURE(ExpectVerifies("t"));
  FlipByte(PlaceOf(parent->column(1)->chunk(0)->data()->buffers[1]->data()));
  ExpectDamaged("t", "column 1 'name', chunk 0: buffer 1: ");
}

TEST_P(Checksums, EveryWayToPublishTakesThem) {
  const auto table = MakeTable(1000);
  ASSERT_OK_AND_ASSIGN(const PutReceipt shared,
                       node0_->Share(*table, {.keep = true, .checksum = true}));
  EXPECT_OK(node1_->Verify(shared.handle));
  ASSERT_OK_AND_ASSIGN(auto writer, node0_->NewWriter("w", table->schema(), kSummed));
  for (const int64_t rows : {10, 20, 30}) {
    ASSERT_OK(writer->Append(*MakeTable(rows)->CombineChunksToBatch().ValueOrDie()));
  }
  ASSERT_OK(writer->Seal());
  ASSERT_NO_FATAL_FAILURE(ExpectVerifies("w"));
  arrow::TableBatchReader reader(*table);
  ASSERT_OK(node0_->Put("r", &reader, kSummed));
  ASSERT_NO_FATAL_FAILURE(ExpectVerifies("r"));

  ASSERT_OK_AND_ASSIGN(const auto opened, node1_->Open(shared.handle));
  FlipByte(PlaceOf(opened->column(0)->chunk(0)->data()->buffers[1]->data()));
  const arrow::Status status = node1_->Verify(shared.handle);
  EXPECT_TRUE(IsDamaged(status));
  EXPECT_THAT(status.message(), StartsWith("unnamed table 0:"));
  ASSERT_OK_AND_ASSIGN(const auto w, node1_->Get("w"));
  FlipByte(PlaceOf(w->column(0)->chunk(2)->data()->buffers[1]->data()));
  ExpectDamaged("w", "column 0 'id', chunk 2: buffer 1: ");
}

INSTANTIATE_TEST_SUITE_P(Memories, Checksums, ::testing::ValuesIn(kMemories),
                         [](const auto& memory) {
                           return std::string(memory.param.name);
                         });

class ChecksumCommands : public CommandLine {};

TEST_F(ChecksumCommands, PutStoresThemAndVerifyComparesThem) {
  Up("--nodes 2");
  const std::string file = WriteParquet("t.parquet", 1000);
  ASSERT_EQ(Sheaf("put t " + file + " --checksum").code, 0);
  ASSERT_EQ(Sheaf("put plain " + file).code, 0);
  EXPECT_EQ(SheafJson("stat t")["checksums"], true);
  EXPECT_EQ(SheafJson("stat plain")["checksums"], false);
  EXPECT_EQ(SheafJson("--node 1 verify t")["checksums"], true);
  EXPECT_EQ(SheafJson("--node 1 verify plain")["checksums"], false);
  EXPECT_THAT(Sheaf("stat t").out, HasSubstr("checksums   yes"));
  EXPECT_THAT(Sheaf("verify t").out, HasSubstr("Every byte is as it was put"));
  const Ran plain = Sheaf("verify plain");
  EXPECT_EQ(plain.code, 0);
  EXPECT_THAT(plain.out, HasSubstr("no checksums: put with --checksum"));

  ASSERT_OK_AND_ASSIGN(const auto store, Store::Connect());
  ASSERT_OK_AND_ASSIGN(const auto table, store->Get("t"));
  FlipByte(PlaceOf(table->column(1)->chunk(0)->data()->buffers[2]->data() + 3));
  const Ran damaged = Sheaf("--node 1 verify t");
  EXPECT_EQ(damaged.code, 1);
  EXPECT_THAT(damaged.out,
              StartsWith("sheaf: table 't': column 1 'name', chunk 0: buffer 2: "));
  EXPECT_EQ(Sheaf("verify plain").code, 0);
}

}  // namespace
}  // namespace sheaf::testing
