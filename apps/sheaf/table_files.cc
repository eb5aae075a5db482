#include "apps/sheaf/table_files.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <arrow/array/validate.h>
#include <arrow/csv/writer.h>
#include <arrow/io/file.h>
#include <arrow/ipc/reader.h>
#include <arrow/ipc/writer.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/type_traits.h>
#include <arrow/util/thread_pool.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/writer.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <parquet/size_statistics.h>

#include "apps/sheaf/csv_file.h"
#include "apps/sheaf/decode_pool.h"

namespace sheaf::cli {
namespace {

namespace fs = std::filesystem;
using BatchReader = std::shared_ptr<arrow::RecordBatchReader>;

enum class FileFormat : uint8_t { kParquet, kIpcFile, kIpcStream, kCsv };

struct Suffix {
  const char* text;
  FileFormat format;
  const char* what;
};
constexpr std::array<Suffix, 5> kSuffixes = {
    {{".parquet", FileFormat::kParquet, "Parquet"},
     {".arrow", FileFormat::kIpcFile, "Arrow IPC file"},
     {".feather", FileFormat::kIpcFile, "Arrow IPC file"},
     {".arrows", FileFormat::kIpcStream, "Arrow IPC stream"},
     {".csv", FileFormat::kCsv, "CSV"}}};

arrow::Result<Suffix> FindSuffix(const std::string& path) {
  std::string extension = fs::path(path).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  std::string known;
  for (const Suffix& suffix : kSuffixes) {
    if (extension == suffix.text) return suffix;
    known += (known.empty() ? "" : ", ") + std::string(suffix.text);
  }
  return arrow::Status::Invalid("'", path, "': the suffix must be one of ", known);
}

// Gives batches one by one, from a function that returns nullptr at the end.
class FunctionReader : public arrow::RecordBatchReader {
 public:
  using NextFn = std::function<arrow::Result<std::shared_ptr<arrow::RecordBatch>>()>;
  FunctionReader(std::shared_ptr<arrow::Schema> schema, NextFn next)
      : schema_(std::move(schema)), next_(std::move(next)) {}
  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* batch) override {
    return next_().Value(batch);
  }

 private:
  std::shared_ptr<arrow::Schema> schema_;
  NextFn next_;
};

// Pieces of a file, from `first` up to `end`.
struct Pieces {
  int first = 0;
  int end = 0;
};

Pieces PiecesOf(const FileShare& share, int count, const char* what) {
  if (share.did_count) share.did_count(count, what);
  const auto border = [&](uint64_t index) {
    return static_cast<int>(static_cast<uint64_t>(count) * index / share.of);
  };
  return {border(share.index), border(uint64_t{share.index} + 1)};
}

// Row group by row group, so that decoding never holds more than one beside the result.
class ParquetBatches {
 public:
  ParquetBatches(std::unique_ptr<parquet::arrow::FileReader> file, Pieces groups,
                 ProgressFn progress)
      : file_(std::move(file)),
        groups_(groups),
        next_group_(groups.first),
        progress_(std::move(progress)) {}

  arrow::Result<std::shared_ptr<arrow::RecordBatch>> Next() {
    for (;;) {
      if (batches_ != nullptr) {
        ARROW_ASSIGN_OR_RAISE(auto batch, batches_->Next());
        if (batch != nullptr) return batch;
      }
      if (next_group_ == groups_.end) return nullptr;
      ARROW_ASSIGN_OR_RAISE(table_, file_->ReadRowGroup(next_group_));
      batches_ = std::make_unique<arrow::TableBatchReader>(*table_);
      progress_(static_cast<double>(++next_group_ - groups_.first) /
                (groups_.end - groups_.first));
    }
  }

 private:
  std::unique_ptr<parquet::arrow::FileReader> file_;
  const Pieces groups_;
  int next_group_;
  ProgressFn progress_;
  std::shared_ptr<arrow::Table> table_;
  std::unique_ptr<arrow::TableBatchReader> batches_;
};

// What a column takes as an array of `type`, as far as the file says: dictionaries of
// text make the file smaller than the array.
int64_t DecodedSize(const parquet::ColumnChunkMetaData& column,
                    const arrow::DataType& type) {
  if (arrow::is_fixed_width(type)) return column.num_values() * type.bit_width() / 8;
  const auto sizes = column.size_statistics();
  const int64_t text_bytes =
      sizes == nullptr ? 0 : sizes->unencoded_byte_array_data_bytes.value_or(0);
  return std::max(text_bytes, column.total_uncompressed_size());
}

int64_t DecodedSize(const parquet::FileMetaData& metadata, Pieces groups,
                    const arrow::Schema& schema) {
  const bool flat =
      metadata.num_columns() == schema.num_fields() &&
      std::none_of(schema.fields().begin(), schema.fields().end(), [](const auto& field) {
        return arrow::is_nested(field->type()->id());
      });
  int64_t bytes = 0;
  for (int i = groups.first; i < groups.end; ++i) {
    const auto group = metadata.RowGroup(i);
    for (int k = 0; flat && k < group->num_columns(); ++k) {
      bytes += DecodedSize(*group->ColumnChunk(k), *schema.field(k)->type());
    }
    if (!flat) bytes += group->total_byte_size();
  }
  return bytes;
}

arrow::Result<BatchReader> OpenParquet(std::shared_ptr<arrow::io::RandomAccessFile> input,
                                       DecodePool* pool, const FileShare& share,
                                       ProgressFn progress) {
  parquet::arrow::FileReaderBuilder builder;
  // Pages and decompression are scratch: private memory.
  ARROW_RETURN_NOT_OK(builder.Open(std::move(input)));
  parquet::ArrowReaderProperties properties;
  properties.set_use_threads(true);
  ARROW_ASSIGN_OR_RAISE(auto file,
                        builder.memory_pool(pool)->properties(properties)->Build());
  std::shared_ptr<arrow::Schema> schema;
  ARROW_RETURN_NOT_OK(file->GetSchema(&schema));
  const Pieces groups = PiecesOf(share, file->num_row_groups(), "row group");
  pool->Expect(DecodedSize(*file->parquet_reader()->metadata(), groups, *schema));
  auto batches =
      std::make_shared<ParquetBatches>(std::move(file), groups, std::move(progress));
  return std::make_shared<FunctionReader>(std::move(schema),
                                          [batches] { return batches->Next(); });
}

// IPC files are not decoded but used as they are: what their arrays say must be so.
arrow::Result<std::shared_ptr<arrow::RecordBatch>> Checked(
    arrow::Result<std::shared_ptr<arrow::RecordBatch>> batch) {
  if (!batch.ok() || *batch == nullptr) return batch;
  for (int i = 0; i < (*batch)->num_columns(); ++i) {
    const arrow::Status status =
        arrow::internal::ValidateArrayFull(*(*batch)->column_data(i));
    if (!status.ok()) {
      return status.WithMessage("column '", (*batch)->column_name(i),
                                "': ", status.message());
    }
  }
  return batch;
}

arrow::ipc::IpcReadOptions IpcOptions(arrow::MemoryPool* pool) {
  auto options = arrow::ipc::IpcReadOptions::Defaults();
  options.memory_pool = pool;
  return options;
}

// Arrow takes a file without its end for no Arrow file at all.
arrow::Status CheckIpcFileEnd(arrow::io::RandomAccessFile* input) {
  constexpr std::string_view kMagic = "ARROW1";
  const auto size = static_cast<int64_t>(kMagic.size());
  ARROW_ASSIGN_OR_RAISE(const int64_t file_size, input->GetSize());
  ARROW_ASSIGN_OR_RAISE(const auto begin, input->ReadAt(0, size));
  ARROW_ASSIGN_OR_RAISE(const auto end,
                        input->ReadAt(std::max<int64_t>(file_size - size, 0), size));
  if (std::string_view(*begin) != kMagic || std::string_view(*end) == kMagic) {
    return arrow::Status::OK();
  }
  return arrow::Status::Invalid("it begins as one but is truncated: its ", file_size,
                                " bytes do not end with a footer");
}

arrow::Result<BatchReader> OpenIpcFile(
    const std::shared_ptr<arrow::io::RandomAccessFile>& input, DecodePool* pool,
    const FileShare& share, ProgressFn progress) {
  ARROW_RETURN_NOT_OK(CheckIpcFileEnd(input.get()));
  ARROW_ASSIGN_OR_RAISE(const int64_t size, input->GetSize());
  pool->Expect(size / share.of);
  ARROW_ASSIGN_OR_RAISE(auto file,
                        arrow::ipc::RecordBatchFileReader::Open(input, IpcOptions(pool)));
  const Pieces batches = PiecesOf(share, file->num_record_batches(), "record batch");
  auto next = [file, batches, progress = std::move(progress),
               index = batches.first]() mutable
      -> arrow::Result<std::shared_ptr<arrow::RecordBatch>> {
    if (index == batches.end) return nullptr;
    progress(static_cast<double>(index - batches.first) / (batches.end - batches.first));
    return Checked(file->ReadRecordBatch(index++));
  };
  return std::make_shared<FunctionReader>(file->schema(), std::move(next));
}

// A file of anything else would be taken for a message of gigabytes, and memory asked for
// it.
arrow::Status CheckIpcStreamStart(arrow::io::RandomAccessFile* input) {
  constexpr uint32_t kContinuation = 0xFFFFFFFF;
  std::array<uint32_t, 2> words{};
  ARROW_ASSIGN_OR_RAISE(const int64_t size, input->GetSize());
  ARROW_ASSIGN_OR_RAISE(const int64_t got, input->ReadAt(0, sizeof(words), words.data()));
  // Before Arrow 0.15 a message began with its length.
  const uint32_t length = words[0] == kContinuation ? words[1] : words[0];
  if (got == int64_t{sizeof(words)} && length <= size) return input->Seek(0);
  return arrow::Status::Invalid("it does not begin with a message of an Arrow stream");
}

arrow::Result<BatchReader> OpenIpcStream(
    const std::shared_ptr<arrow::io::RandomAccessFile>& input, DecodePool* pool,
    ProgressFn progress) {
  ARROW_RETURN_NOT_OK(CheckIpcStreamStart(input.get()));
  ARROW_ASSIGN_OR_RAISE(const int64_t size, input->GetSize());
  pool->Expect(size);
  ARROW_ASSIGN_OR_RAISE(
      auto stream, arrow::ipc::RecordBatchStreamReader::Open(input, IpcOptions(pool)));
  auto next = [stream, input, size, progress = std::move(progress)]()
      -> arrow::Result<std::shared_ptr<arrow::RecordBatch>> {
    ARROW_ASSIGN_OR_RAISE(const int64_t position, input->Tell());
    progress(static_cast<double>(position) /
             static_cast<double>(std::max<int64_t>(size, 1)));
    return Checked(stream->Next());
  };
  return std::make_shared<FunctionReader>(stream->schema(), std::move(next));
}

// Any bytes are rows of some CSV: say so of files that are certainly something else.
arrow::Status CheckCsvStart(arrow::io::RandomAccessFile* input) {
  constexpr int64_t kBlockBytes = int64_t{1} << 20;
  ARROW_ASSIGN_OR_RAISE(const auto block, input->ReadAt(0, kBlockBytes));
  const std::string_view text(*block);
  for (const char* magic : {"ARROW1", "PAR1"}) {
    if (text.starts_with(magic)) {
      return arrow::Status::Invalid(
          "it begins with ", magic, ", as ",
          magic == std::string_view("PAR1") ? "Parquet" : "Arrow IPC", " files do");
    }
  }
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return arrow::Status::Invalid("byte ", zero, " is zero: it is not UTF-8 text");
  }
  return input->Seek(0);
}

arrow::Result<BatchReader> OpenCsv(
    const std::shared_ptr<arrow::io::RandomAccessFile>& input,
    const std::shared_ptr<DecodePool>& pool, const ProgressFn& progress) {
  ARROW_RETURN_NOT_OK(CheckCsvStart(input.get()));
  ARROW_ASSIGN_OR_RAISE(const int64_t size, input->GetSize());
  const auto did_read = [&](int64_t bytes_done) {
    progress(static_cast<double>(bytes_done) /
             static_cast<double>(std::max<int64_t>(size, 1)));
  };
  auto table = ReadCsv(input.get(), pool, did_read);
  if (!pool->CheckSpace().ok()) {
    // What was read took so much; if the rest is like it, all takes:
    ARROW_ASSIGN_OR_RAISE(const int64_t read, input->Tell());
    pool->Expect(static_cast<int64_t>(static_cast<double>(pool->max_memory()) *
                                      static_cast<double>(size) /
                                      static_cast<double>(std::max<int64_t>(read, 1))));
  }
  ARROW_RETURN_NOT_OK(table.status());
  progress(1);
  return std::make_shared<arrow::TableBatchReader>(*std::move(table));
}

arrow::Status WriteAs(const arrow::Table& table, FileFormat format,
                      const std::shared_ptr<arrow::io::OutputStream>& output) {
  switch (format) {
    case FileFormat::kParquet: {
      const auto properties =
          parquet::ArrowWriterProperties::Builder().store_schema()->build();
      return parquet::arrow::WriteTable(table, arrow::default_memory_pool(), output,
                                        int64_t{1} << 20,
                                        parquet::default_writer_properties(), properties);
    }
    case FileFormat::kIpcFile:
    case FileFormat::kIpcStream: {
      ARROW_ASSIGN_OR_RAISE(auto writer,
                            format == FileFormat::kIpcFile
                                ? arrow::ipc::MakeFileWriter(output, table.schema())
                                : arrow::ipc::MakeStreamWriter(output, table.schema()));
      ARROW_RETURN_NOT_OK(writer->WriteTable(table));
      return writer->Close();
    }
    case FileFormat::kCsv:
      return arrow::csv::WriteCSV(table, arrow::csv::WriteOptions::Defaults(),
                                  output.get());
  }
  return arrow::Status::Invalid("unknown file format");
}

arrow::Status Explain(const arrow::Status& status, const std::string& path,
                      const Suffix& suffix) {
  if (status.ok() || status.IsOutOfMemory()) return status;
  return status.WithMessage("cannot read '", path, "' as ", suffix.what, ": ",
                            status.message());
}

arrow::Status CheckShare(const FileShare& share, const std::string& path,
                         const Suffix& suffix) {
  if (share.index >= share.of) {
    return arrow::Status::Invalid("there is no share ", share.index, " of ", share.of,
                                  " of '", path, "'");
  }
  if (share.of == 1 || suffix.format == FileFormat::kParquet ||
      suffix.format == FileFormat::kIpcFile) {
    return arrow::Status::OK();
  }
  return arrow::Status::Invalid("'", path, "' can only be read whole: it is ",
                                suffix.what,
                                "; Parquet and Arrow IPC files can be read in shares");
}

}  // namespace

arrow::Status CheckSuffix(const std::string& path) { return FindSuffix(path).status(); }

arrow::Result<BatchReader> OpenTableFile(const std::string& path,
                                         const std::shared_ptr<DecodePool>& pool,
                                         ProgressFn progress, const FileShare& share) {
  ARROW_ASSIGN_OR_RAISE(const Suffix suffix, FindSuffix(path));
  ARROW_RETURN_NOT_OK(CheckShare(share, path, suffix));
  // IPC bodies are used as they are read: the file reads into `pool`. The others decode.
  const bool reads_in_place =
      suffix.format == FileFormat::kIpcFile || suffix.format == FileFormat::kIpcStream;
  auto opened = arrow::io::ReadableFile::Open(
      path, reads_in_place ? pool.get() : arrow::default_memory_pool());
  ARROW_RETURN_NOT_OK(Explain(opened.status(), path, suffix));
  std::shared_ptr<arrow::io::RandomAccessFile> input = *opened;
  arrow::Result<BatchReader> inner = [&]() -> arrow::Result<BatchReader> {
    switch (suffix.format) {
      case FileFormat::kParquet:
        return OpenParquet(input, pool.get(), share, std::move(progress));
      case FileFormat::kIpcFile:
        return OpenIpcFile(input, pool.get(), share, std::move(progress));
      case FileFormat::kIpcStream:
        return OpenIpcStream(input, pool.get(), std::move(progress));
      case FileFormat::kCsv:
        return OpenCsv(input, pool, progress);
    }
    return arrow::Status::Invalid("unknown file format");
  }();
  ARROW_RETURN_NOT_OK(pool->CheckSpace());  // The file is not to blame.
  ARROW_RETURN_NOT_OK(Explain(inner.status(), path, suffix));
  // Errors in later batches name the file as well.
  const auto& reader = *inner;
  auto next = [reader, pool, path,
               suffix]() -> arrow::Result<std::shared_ptr<arrow::RecordBatch>> {
    auto batch = reader->Next();
    ARROW_RETURN_NOT_OK(pool->CheckSpace());
    ARROW_RETURN_NOT_OK(Explain(batch.status(), path, suffix));
    return batch;
  };
  return std::make_shared<FunctionReader>(reader->schema(), std::move(next));
}

std::string DraftOf(const std::string& path) { return path + ".part"; }

arrow::Status WriteTableFile(const arrow::Table& table, const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(const Suffix suffix, FindSuffix(path));
  const std::string draft = DraftOf(path);
  auto written = [&]() -> arrow::Status {
    ARROW_ASSIGN_OR_RAISE(auto output, arrow::io::FileOutputStream::Open(draft));
    ARROW_RETURN_NOT_OK(WriteAs(table, suffix.format, output));
    return output->Close();
  }();
  std::error_code error;
  if (written.ok()) {
    fs::rename(draft, path, error);
    if (!error) return arrow::Status::OK();
    written = arrow::Status::IOError(error.message());
  }
  fs::remove(draft, error);
  return written.WithMessage("cannot write '", path, "' as ", suffix.what, ": ",
                             written.message());
}

}  // namespace sheaf::cli
