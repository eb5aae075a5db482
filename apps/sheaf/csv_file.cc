#include "apps/sheaf/csv_file.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <semaphore>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/csv/chunker.h>
#include <arrow/csv/column_builder.h>
#include <arrow/csv/options.h>
#include <arrow/csv/parser.h>
#include <arrow/io/interfaces.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/delimiting.h>
#include <arrow/util/task_group.h>
#include <arrow/util/thread_pool.h>
#include <arrow/util/utf8.h>

#include "apps/sheaf/decode_pool.h"

namespace sheaf::cli {
namespace {

namespace csv = arrow::csv;
using arrow::Buffer;
using BufferPtr = std::shared_ptr<Buffer>;
using arrow::internal::TaskGroup;

// As Arrow's reader: a block becomes a chunk, and no row may be longer than a block.
constexpr int64_t kBlockBytes = int64_t{1} << 20;

// Whole rows: what the block before left over, its completion, and the rest.
struct RowBlock {
  int64_t index = 0;
  BufferPtr partial;
  BufferPtr completion;
  BufferPtr whole;
  bool is_last = false;
  int64_t size() const { return partial->size() + completion->size() + whole->size(); }
};

// Divides the input in blocks of whole rows.
class RowBlocks {
 public:
  // `first` was read of `input` already.
  RowBlocks(arrow::io::InputStream* input, BufferPtr first)
      : input_(input),
        chunker_(csv::MakeChunker(csv::ParseOptions::Defaults())),
        buffer_(std::move(first)) {}

  bool at_end() const { return buffer_ == nullptr; }

  arrow::Result<RowBlock> Next() {
    ARROW_ASSIGN_OR_RAISE(BufferPtr next, input_->Read(kBlockBytes));
    RowBlock block{next_index_++, partial_, nullptr, nullptr, next->size() == 0};
    if (block.is_last) {
      ARROW_RETURN_NOT_OK(
          chunker_->ProcessFinal(partial_, buffer_, &block.completion, &block.whole));
      buffer_ = nullptr;
      return block;
    }
    BufferPtr rest;
    ARROW_RETURN_NOT_OK(
        chunker_->ProcessWithPartial(partial_, buffer_, &block.completion, &rest));
    ARROW_RETURN_NOT_OK(chunker_->Process(rest, &block.whole, &partial_));
    buffer_ = std::move(next);
    return block;
  }

 private:
  arrow::io::InputStream* input_;
  std::unique_ptr<arrow::Chunker> chunker_;
  BufferPtr partial_ = std::make_shared<Buffer>(std::string_view());
  BufferPtr buffer_;  // Read, and not given out.
  int64_t next_index_ = 0;
};

struct Header {
  std::vector<std::string> names;
  BufferPtr rest;  // What was read of the rows behind it.
};

arrow::Result<Header> ReadHeader(arrow::io::InputStream* input) {
  ARROW_ASSIGN_OR_RAISE(BufferPtr block, input->Read(kBlockBytes));
  ARROW_ASSIGN_OR_RAISE(const uint8_t* begin,
                        arrow::util::SkipUTF8BOM(block->data(), block->size()));
  block = arrow::SliceBuffer(block, begin - block->data());
  if (block->size() == 0) return arrow::Status::Invalid("it is empty");
  csv::BlockParser parser(csv::ParseOptions::Defaults(), /*num_cols=*/-1,
                          /*first_row=*/1, /*max_num_rows=*/1);
  uint32_t parsed_bytes = 0;
  ARROW_RETURN_NOT_OK(parser.Parse(std::string_view(*block), &parsed_bytes));
  if (parser.num_rows() != 1) {
    return arrow::Status::Invalid("its first row does not end within ", kBlockBytes,
                                  " bytes");
  }
  Header header;
  ARROW_RETURN_NOT_OK(parser.VisitLastRow(
      [&](const uint8_t* data, uint32_t size, bool /*quoted*/, bool /*missing*/) {
        header.names.emplace_back(reinterpret_cast<const char*>(data), size);
        return arrow::Status::OK();
      }));
  header.rest = arrow::SliceBuffer(block, parsed_bytes);
  return header;
}

using ColumnBuilders = std::vector<std::shared_ptr<csv::ColumnBuilder>>;

arrow::Status Parse(const RowBlock& block, const ColumnBuilders& columns) {
  const auto parser = std::make_shared<csv::BlockParser>(
      csv::ParseOptions::Defaults(), static_cast<int32_t>(columns.size()),
      /*first_row=*/-1, std::numeric_limits<int32_t>::max());
  // The parser takes neither an empty first view nor a row that is in two.
  const std::string first = block.partial->ToString() + block.completion->ToString();
  std::vector<std::string_view> views = {std::string_view(*block.whole)};
  if (!first.empty()) views.insert(views.begin(), first);
  uint32_t parsed_bytes = 0;
  ARROW_RETURN_NOT_OK(block.is_last ? parser->ParseFinal(views, &parsed_bytes)
                                    : parser->Parse(views, &parsed_bytes));
  if (parsed_bytes != block.size()) {
    return arrow::Status::Invalid("rows end at byte ", parsed_bytes, " of a block of ",
                                  block.size(), ": quotes do not match");
  }
  for (const auto& column : columns) column->Insert(block.index, parser);
  return arrow::Status::OK();
}

// Counts the blocks that are being decoded, and bounds them.
class InFlight {
 public:
  explicit InFlight(int blocks_max) : free_(blocks_max) {}
  void Begin() { free_.acquire(); }
  void End(int64_t bytes) {
    bytes_done_ += bytes;
    free_.release();
  }
  int64_t bytes_done() const { return bytes_done_; }

 private:
  std::counting_semaphore<> free_;
  std::atomic<int64_t> bytes_done_ = 0;
};

// A block in flight; held by its tasks, which may be dropped late instead of being run.
class Token {
 public:
  Token(std::shared_ptr<InFlight> in_flight, int64_t bytes)
      : in_flight_(std::move(in_flight)), bytes_(bytes) {
    in_flight_->Begin();
  }
  ~Token() { in_flight_->End(bytes_); }
  Token(const Token&) = delete;
  Token& operator=(const Token&) = delete;

 private:
  std::shared_ptr<InFlight> in_flight_;
  int64_t bytes_;
};

arrow::Result<std::shared_ptr<arrow::Table>> FinishTable(
    const std::vector<std::string>& names, const ColumnBuilders& columns) {
  arrow::FieldVector fields;
  arrow::ChunkedArrayVector arrays;
  for (size_t i = 0; i < columns.size(); ++i) {
    ARROW_ASSIGN_OR_RAISE(arrays.emplace_back(), columns[i]->Finish());
    fields.push_back(arrow::field(names[i], arrays.back()->type()));
  }
  return arrow::Table::Make(arrow::schema(std::move(fields)), std::move(arrays));
}

}  // namespace

arrow::Result<std::shared_ptr<arrow::Table>> ReadCsv(
    arrow::io::InputStream* input, const std::shared_ptr<DecodePool>& pool,
    const std::function<void(int64_t bytes_done)>& did_read) {
  ARROW_ASSIGN_OR_RAISE(const Header header, ReadHeader(input));
  auto* const executor = arrow::internal::GetCpuThreadPool();
  const auto in_flight = std::make_shared<InFlight>(2 * executor->GetCapacity());
  const auto tasks = TaskGroup::MakeThreaded(executor);
  const auto options =
      std::make_shared<csv::ConvertOptions>(csv::ConvertOptions::Defaults());
  ColumnBuilders columns;
  for (size_t i = 0; i < header.names.size(); ++i) {
    ARROW_ASSIGN_OR_RAISE(
        columns.emplace_back(),
        csv::ColumnBuilder::Make(pool.get(), static_cast<int32_t>(i), options, tasks));
  }
  RowBlocks blocks(input, header.rest);
  arrow::Status status;
  while (!blocks.at_end() && tasks->ok()) {
    auto block = blocks.Next();
    status = block.status();
    if (!status.ok()) break;
    auto token = std::make_shared<Token>(in_flight, block->size());
    did_read(in_flight->bytes_done());
    tasks->Append([&, block = *std::move(block), token = std::move(token)] {
      ARROW_RETURN_NOT_OK(pool->CheckSpace());
      ARROW_RETURN_NOT_OK(Parse(block, columns));
      // Tasks run in the order of Append: by then the columns' tasks have begun.
      tasks->Append([token] { return arrow::Status::OK(); });
      return arrow::Status::OK();
    });
  }
  ARROW_RETURN_NOT_OK(tasks->Finish() & status);
  return FinishTable(header.names, columns);
}

}  // namespace sheaf::cli
