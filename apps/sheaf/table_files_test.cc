#include "apps/sheaf/table_files.h"

#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/builder.h>
#include <arrow/csv/options.h>
#include <arrow/csv/reader.h>
#include <arrow/io/file.h>
#include <arrow/io/memory.h>
#include <arrow/ipc/writer.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/util/thread_pool.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <parquet/arrow/writer.h>

#include "alloc/extent_source.h"
#include "alloc/region_memory_pool.h"
#include "apps/sheaf/csv_file.h"
#include "apps/sheaf/decode_pool.h"
#include "testing/arena_extent_source.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"

namespace sheaf::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kArenaBytes = uint64_t{16} << 20;

std::shared_ptr<arrow::Table> MakeTable(int64_t rows) {
  arrow::Int64Builder ids;
  arrow::StringBuilder names;
  for (int64_t i = 0; i < rows; ++i) {
    EXPECT_OK(ids.Append(i));
    EXPECT_OK(names.Append("name " + std::to_string(i)));
  }
  return arrow::Table::Make(arrow::schema({arrow::field("id", arrow::int64()),
                                           arrow::field("name", arrow::utf8())}),
                            {ids.Finish().ValueOrDie(), names.Finish().ValueOrDie()});
}

// What Arrow's own reader makes of it.
arrow::Result<std::shared_ptr<arrow::Table>> ReadByArrow(const std::string& text) {
  auto input = std::make_shared<arrow::io::BufferReader>(arrow::Buffer::FromString(text));
  ARROW_ASSIGN_OR_RAISE(
      auto reader, arrow::csv::TableReader::Make(arrow::io::default_io_context(), input,
                                                 arrow::csv::ReadOptions::Defaults(),
                                                 arrow::csv::ParseOptions::Defaults(),
                                                 arrow::csv::ConvertOptions::Defaults()));
  return reader->Read();
}

arrow::Result<std::shared_ptr<arrow::Table>> ReadByUs(const std::string& text) {
  arrow::io::BufferReader input(arrow::Buffer::FromString(text));
  return ReadCsv(&input, DecodePool::Make(arrow::default_memory_pool()),
                 [](int64_t /*bytes_done*/) {});
}

std::string ManyRows(int64_t rows, const std::string& last) {
  std::string text = "id,text\n";
  for (int64_t i = 0; i < rows; ++i) {
    text += std::to_string(i) + ",\"some, text " + std::to_string(i % 1000) + "\"\n";
  }
  return text + last;
}

// Arrow decodes with one thread while this lives.
class OneThread {
 public:
  OneThread() { EXPECT_OK(arrow::SetCpuThreadPoolCapacity(1)); }
  ~OneThread() { EXPECT_OK(arrow::SetCpuThreadPoolCapacity(threads_)); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  const int threads_ = arrow::GetCpuThreadPoolCapacity();
};

class TableFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = "/tmp/sheaf-files-XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  void TearDown() override {
    // Arrow's threads drop what they read when they come to it; the region must be there.
    EXPECT_TRUE(sheaf::testing::Eventually([this] { return region_.is_empty(); }));
    fs::remove_all(folder_);
  }

  std::string Write(const std::string& name, const arrow::Table& table) {
    EXPECT_OK(WriteTableFile(table, folder_ + "/" + name));
    return folder_ + "/" + name;
  }
  // In row groups or record batches of `rows` rows.
  std::string WriteInPieces(const std::string& name, const arrow::Table& table,
                            int64_t rows) {
    const std::string path = folder_ + "/" + name;
    auto file = arrow::io::FileOutputStream::Open(path).ValueOrDie();
    if (path.ends_with(".parquet")) {
      EXPECT_OK(parquet::arrow::WriteTable(table, arrow::default_memory_pool(), file,
                                           /*chunk_size=*/rows));
    } else {
      auto writer = arrow::ipc::MakeFileWriter(file, table.schema()).ValueOrDie();
      EXPECT_OK(writer->WriteTable(table, rows));
      EXPECT_OK(writer->Close());
    }
    EXPECT_OK(file->Close());
    return path;
  }
  arrow::Result<std::shared_ptr<arrow::Table>> Read(const std::string& path) {
    ARROW_ASSIGN_OR_RAISE(auto reader, OpenTableFile(path, pool_, [this](double share) {
                            shares_.push_back(share);
                          }));
    return reader->ToTable();
  }

  sheaf::testing::ArenaExtentSource arena_{kArenaBytes};
  alloc::RegionMemoryPool region_{&arena_};
  std::shared_ptr<DecodePool> pool_ = DecodePool::Make(&region_);
  std::vector<double> shares_;
  std::string folder_;
};

TEST(Csv, IsReadAsArrowReadsIt) {
  for (const std::string& text : {
           std::string("a,b\n1,2\n3,4\n"),
           std::string("a,b\n1,2\n3,4"),              // no end of the last line
           std::string("a,b\r\n1,x\r\n\r\n3,y\r\n"),  // an empty line
           std::string("\xEF\xBB\xBF"
                       "a,b\n1,2\n"),        // a byte order mark
           std::string("a,a\n1,true\n,\n"),  // equal names, nulls
           std::string("\"a \"\"x\"\"\",\"b,c\"\n\"1,2\",\n"),
           std::string("a,b\n"),  // no rows
           ManyRows(100'000, ""),
           ManyRows(100'000, "not a number,\n"),  // in the last of several blocks
           ManyRows(100'000, "1.5,x"),
       }) {
    ASSERT_OK_AND_ASSIGN(auto expected, ReadByArrow(text));
    ASSERT_OK_AND_ASSIGN(auto table, ReadByUs(text));
    EXPECT_TRUE(table->schema()->Equals(*expected->schema()))
        << text.substr(0, 40) << table->schema()->ToString();
    EXPECT_TRUE(table->Equals(*expected)) << text.substr(0, 40);
    EXPECT_EQ(table->column(0)->num_chunks(), expected->column(0)->num_chunks());
  }
}

TEST(Csv, WhatArrowRefusesIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("\xEF\xBB\xBF"), std::string("a,b\n1\n"),
        std::string("a,b\n1,2,3\n"), ManyRows(100'000, "1,2,3\n"),
        "a\n" + std::string(3 << 20, 'x') + "\n", std::string(3 << 20, 'x') + "\n1\n"}) {
    EXPECT_RAISES(Invalid, ReadByArrow(text)) << text.substr(0, 40);
    EXPECT_RAISES(Invalid, ReadByUs(text)) << text.substr(0, 40);
  }
}

TEST_F(TableFilesTest, ReadingReportsHowFarItIs) {
  const auto table = MakeTable(500'000);
  pool_ = DecodePool::Make(arrow::default_memory_pool());
  for (const char* name : {"t.arrow", "t.arrows", "t.parquet", "t.csv"}) {
    shares_.clear();
    ASSERT_OK(Read(Write(name, *table)));
    ASSERT_FALSE(shares_.empty()) << name;
    EXPECT_TRUE(std::is_sorted(shares_.begin(), shares_.end())) << name;
    EXPECT_GE(shares_.front(), 0) << name;
    EXPECT_LE(shares_.back(), 1) << name;
  }
  EXPECT_EQ(shares_.back(), 1);
}

TEST_F(TableFilesTest, CsvReportsEveryBlock) {
  pool_ = DecodePool::Make(arrow::default_memory_pool());
  const OneThread one_thread;  // So at most two blocks are read ahead.
  ASSERT_OK(Read(Write("t.csv", *MakeTable(500'000))));  // 9.6 MB: ten blocks
  const auto between = std::count_if(shares_.begin(), shares_.end(),
                                     [](double share) { return share > 0 && share < 1; });
  EXPECT_GE(between, 7);
}

TEST_F(TableFilesTest, AFullRegionIsAnErrorAndLeavesNothingThere) {
  const auto table = MakeTable(2'000'000);  // 58 MB, of which the arena holds 16 MiB
  for (const char* name : {"t.csv", "t.arrow", "t.arrows", "t.parquet"}) {
    const std::string path = Write(name, *table);
    pool_ = DecodePool::Make(&region_);
    const arrow::Status full = Read(path).status();
    EXPECT_TRUE(full.IsOutOfMemory()) << name << ": " << full;
    EXPECT_RAISES(OutOfMemory, pool_->CheckSpace()) << name;
    EXPECT_GT(pool_->bytes_needed(), int64_t{30} << 20) << name;
    EXPECT_LT(pool_->bytes_needed(), int64_t{120} << 20) << name;
    arrow::internal::GetCpuThreadPool()->WaitForIdle();
    region_.ReleaseUnused();
    EXPECT_EQ(region_.held_bytes(), 0U) << name;
    EXPECT_EQ(pool_->bytes_allocated(), 0) << name;
  }
}

// Of a session that may only read.
class ReadOnlySource : public alloc::ExtentSource {
 public:
  arrow::Result<alloc::Extent> Acquire(uint64_t, uint64_t) override {
    return arrow::Status::Invalid("this session may only read");
  }
  arrow::Status Return(const alloc::Extent&) override {
    return arrow::Status::Invalid("nothing is outstanding");
  }
};

TEST_F(TableFilesTest, TheFileIsNotToBlameForARegionThatRefuses) {
  ReadOnlySource source;
  alloc::RegionMemoryPool region(&source);
  const auto table = MakeTable(100'000);
  for (const char* name : {"t.csv", "t.arrow", "t.arrows", "t.parquet"}) {
    const std::string path = Write(name, *table);
    pool_ = DecodePool::Make(&region);
    const arrow::Status refused = Read(path).status();
    EXPECT_TRUE(refused.IsInvalid()) << name << ": " << refused;
    EXPECT_THAT(refused.message(), HasSubstr("this session may only read"));
    EXPECT_THAT(refused.message(), Not(HasSubstr("cannot read '"))) << name;
    arrow::internal::GetCpuThreadPool()->WaitForIdle();
  }
}

TEST_F(TableFilesTest, ScratchOfCsvIsNotInTheRegion) {
  const OneThread
      one_thread;  // How far each block grows before it is cut does not add up.
  ASSERT_OK_AND_ASSIGN(auto table, Read(Write("t.csv", *MakeTable(200'000))));
  int64_t bytes = 0;
  for (const auto& column : table->columns()) {
    for (const auto& chunk : column->chunks()) {
      for (const auto& buffer : chunk->data()->buffers) {
        if (buffer == nullptr || buffer->size() == 0) continue;
        bytes += buffer->size();
        EXPECT_TRUE(
            arena_.Contains(buffer->data(), static_cast<uint64_t>(buffer->size())));
      }
    }
  }
  EXPECT_LT(region_.max_memory(), bytes + bytes / 4);
}

TEST_F(TableFilesTest, ATruncatedArrowFileIsSaidToBeTruncated) {
  const std::string path = Write("t.arrow", *MakeTable(10'000));
  fs::resize_file(path, fs::file_size(path) / 2);
  const arrow::Status cut = Read(path).status();
  EXPECT_TRUE(cut.IsInvalid()) << cut;
  EXPECT_THAT(cut.message(), HasSubstr("t.arrow"));
  EXPECT_THAT(cut.message(), HasSubstr("truncated"));
}

TEST_F(TableFilesTest, SuffixesAreOfAnyCase) {
  const auto table = MakeTable(10);
  for (const char* name : {"t.CSV", "t.Arrow", "t.ARROWS", "t.PARQUET", "t.Feather"}) {
    EXPECT_OK(CheckSuffix(name));
    ASSERT_OK_AND_ASSIGN(auto read, Read(Write(name, *table)));
    EXPECT_TRUE(read->Equals(*table)) << name;
  }
  EXPECT_RAISES(Invalid, CheckSuffix("t.PARQUETS"));
}

TEST_F(TableFilesTest, ADecodePoolGoesOnInPrivateMemory) {
  uint8_t* inside = nullptr;
  ASSERT_OK(pool_->Allocate(1 << 20, &inside));
  inside[0] = 1;
  EXPECT_TRUE(arena_.Contains(inside, 1 << 20));
  ASSERT_OK(pool_->CheckSpace());
  // Grown beyond the region: moved out, with its contents.
  ASSERT_OK(pool_->Reallocate(1 << 20, 32 << 20, &inside));
  EXPECT_FALSE(arena_.Contains(inside, 1));
  EXPECT_EQ(inside[0], 1);
  EXPECT_RAISES(OutOfMemory, pool_->CheckSpace());
  uint8_t* outside = nullptr;
  ASSERT_OK(pool_->Allocate(100, &outside));
  EXPECT_FALSE(arena_.Contains(outside, 1));
  uint8_t* empty = nullptr;
  uint8_t* other_empty = nullptr;
  ASSERT_OK(pool_->Allocate(0, &empty));
  ASSERT_OK(pool_->Allocate(0, &other_empty));
  EXPECT_EQ(pool_->bytes_allocated(), (32 << 20) + 100);
  pool_->Free(empty, 0);
  pool_->Free(inside, 32 << 20);
  pool_->Free(outside, 100);
  pool_->Free(other_empty, 0);
  EXPECT_EQ(pool_->bytes_allocated(), 0);
  EXPECT_EQ(region_.bytes_allocated(), 0);
}

TEST_F(TableFilesTest, SharesOfAFileAreItsRowsInOrder) {
  constexpr int64_t kRows = 1'000;
  const auto table = MakeTable(kRows);
  for (const std::string name : {"t.parquet", "t.arrow"}) {
    const std::string path = WriteInPieces(name, *table, kRows / 7);  // 8 pieces
    for (const uint32_t of : {1U, 3U, 8U, 11U}) {
      std::vector<std::shared_ptr<arrow::Table>> shares;
      for (uint32_t index = 0; index < of; ++index) {
        ASSERT_OK_AND_ASSIGN(auto reader,
                             OpenTableFile(path, pool_, [](double) {}, {index, of}));
        ASSERT_OK_AND_ASSIGN(auto share, reader->ToTable());
        EXPECT_LE(share->num_rows(), (8 + of - 1) / of * (kRows / 7)) << name;
        shares.push_back(std::move(share));
      }
      ASSERT_OK_AND_ASSIGN(const auto all, arrow::ConcatenateTables(shares));
      EXPECT_TRUE(all->Equals(*table)) << name << " of " << of;
    }
  }
}

TEST_F(TableFilesTest, AShareThatCannotBeCutIsRefused) {
  const std::string csv = Write("t.csv", *MakeTable(10));
  const std::string parquet = Write("t.parquet", *MakeTable(10));
  const auto open = [&](const std::string& path, const FileShare& share) {
    return OpenTableFile(path, pool_, [](double) {}, share).status();
  };
  EXPECT_TRUE(open(csv, {1, 2}).IsInvalid());
  EXPECT_THAT(open(csv, {1, 2}).message(), HasSubstr("can only be read whole"));
  EXPECT_OK(open(csv, {0, 1}));
  EXPECT_THAT(open(parquet, {2, 2}).message(), HasSubstr("no share 2 of 2"));
}

TEST_F(TableFilesTest, ADecodePoolLivesAsLongAsItsBuffers) {
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<arrow::Buffer> buffer,
                       arrow::AllocateBuffer(0, pool_.get()));
  const std::weak_ptr<DecodePool> watch = pool_;
  pool_.reset();
  EXPECT_FALSE(watch.expired());
  buffer.reset();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace sheaf::cli
