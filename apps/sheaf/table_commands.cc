#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/io/file.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <fmt/format.h>

#include "apps/sheaf/column_checksum.h"
#include "apps/sheaf/commands.h"
#include "apps/sheaf/connect.h"
#include "apps/sheaf/decode_pool.h"
#include "apps/sheaf/output.h"
#include "apps/sheaf/progress.h"
#include "apps/sheaf/rows.h"
#include "apps/sheaf/space_error.h"
#include "apps/sheaf/table_files.h"
#include "platform/bus_error.h"
#include "platform/process.h"
#include "sheaf/parts.h"
#include "sheaf/status.h"
#include "sheaf/store.h"

namespace sheaf::cli {
namespace {

void PrintReceipt(const PutReceipt& receipt, uint32_t own_node) {
  const double seconds = std::chrono::duration<double>(receipt.duration).count();
  PrintText(fmt::format(
      "{}: version {}, {} rows, {} in {} ({} shared, {} copied, {} flushed)\n",
      receipt.name, receipt.version, HumanCount(receipt.num_rows),
      HumanBytes(static_cast<uint64_t>(receipt.bytes)), HumanSeconds(seconds),
      HumanBytes(static_cast<uint64_t>(receipt.bytes_shared)),
      HumanBytes(static_cast<uint64_t>(receipt.bytes_copied)),
      HumanBytes(static_cast<uint64_t>(receipt.bytes_flushed))));
  const bool is_at_home =
      receipt.bytes_on.empty() ||
      (receipt.bytes_on.size() == 1 && receipt.bytes_on.begin()->first == own_node);
  if (is_at_home) return;
  PrintText(fmt::format("{}: {}\n", receipt.name, HumanPlaces(receipt.bytes_on)));
}

// What a command says that dies while it reads a table.
std::string Unreadable(const std::string& name) {
  return fmt::format(
      "sheaf: table '{}': its memory fails (bus error): it is broken, or its file was "
      "cut "
      "short\n",
      OneLine(name));
}

arrow::Result<PutReceipt> PutFile(Store& store, const PutArguments& arguments) {
  const uint32_t node = arguments.on.value_or(store.node());
  ARROW_ASSIGN_OR_RAISE(arrow::MemoryPool* const memory,
                        store.memory_pool(node, arguments.spill));
  const auto pool = DecodePool::Make(memory);
  auto receipt = [&]() -> arrow::Result<PutReceipt> {
    ProgressBar bar("put " + arguments.name);
    ARROW_ASSIGN_OR_RAISE(
        auto reader,
        OpenTableFile(arguments.file, pool, [&](double share) { bar.Update(share); }));
    return store.Put(arguments.name, reader.get(),
                     {.replace = arguments.replace,
                      .checksum = arguments.checksum,
                      .on = node,
                      .spill = arguments.spill});
  }();
  if (receipt.status().IsAlreadyExists()) {
    return receipt.status().WithMessage(receipt.status().message(),
                                        ": sheaf put --replace ", arguments.name, " ",
                                        arguments.file, ", or sheaf rm ", arguments.name);
  }
  if (receipt.ok()) return receipt;
  ARROW_RETURN_NOT_OK(ExplainSpace(
      store, node, memory, *pool, arguments.name, arguments.file,
      arguments.spill ? ""
                      : "sheaf put --spill uses that, too, --on NODE only that of one"));
  return receipt;
}

// Of a table that can be read.
std::string WhatChecksumsSay(const std::shared_ptr<Store>& store, const TableInfo& info) {
  if (info.has_checksums) return "Every byte is as it was put.";
  std::string text =
      "Whether bytes changed since cannot be told: no checksums: put with --checksum";
  const auto parts = ListParts(store, info.name);
  if (parts.ok() && parts->size() > 1) {
    text += fmt::format(
        ".\nIt is in {} parts: the table has checksums only if each was put with it",
        parts->size());
  }
  return text + ".";
}

}  // namespace

arrow::Status Put(const Global& global, const PutArguments& arguments) {
  ARROW_RETURN_NOT_OK(CheckSuffix(arguments.file));
  // Before a cluster is started for it.
  ARROW_RETURN_NOT_OK(arrow::io::ReadableFile::Open(arguments.file).status());
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrStart(global));
  const auto start = platform::BootTime();
  ARROW_ASSIGN_OR_RAISE(PutReceipt receipt, PutFile(*store, arguments));
  receipt.duration = platform::BootTime() - start;  // with reading and decoding the file
  if (global.json) {
    PrintJson(ToJson(receipt));
  } else {
    PrintReceipt(receipt, store->node());
  }
  return arrow::Status::OK();
}

arrow::Status Get(const Global& global, const std::string& name,
                  const std::string& file) {
  ARROW_RETURN_NOT_OK(CheckSuffix(file));
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  std::error_code error;
  if (!folder.empty() && !std::filesystem::is_directory(folder, error)) {
    return arrow::Status::IOError("cannot write '", file, "': there is no folder ",
                                  folder);
  }
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrRestart(global));
  ARROW_ASSIGN_OR_RAISE(auto table, store->Get(name));
  const platform::BusErrorExit exit(Unreadable(name), kExitError, DraftOf(file));
  ARROW_RETURN_NOT_OK(WriteTableFile(*table, file));
  if (global.json) {
    PrintJson({{"name", name}, {"file", file}, {"rows", table->num_rows()}});
  } else {
    PrintText(fmt::format("{}: {} rows written to {}\n", name,
                          HumanCount(table->num_rows()), file));
  }
  return arrow::Status::OK();
}

arrow::Status Head(const Global& global, const std::string& name, int64_t num_rows) {
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrRestart(global));
  ARROW_ASSIGN_OR_RAISE(auto table, store->Get(name));
  const platform::BusErrorExit exit(Unreadable(name), kExitError);
  const std::shared_ptr<arrow::Table> head = table->Slice(0, num_rows);
  if (global.json) {
    ARROW_ASSIGN_OR_RAISE(const Json rows, RowsToJson(*head));
    PrintJson(rows);
  } else {
    ARROW_ASSIGN_OR_RAISE(const std::string rows, RowsToText(*head));
    PrintText(rows);
  }
  return arrow::Status::OK();
}

arrow::Status List(const Global& global) {
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrStart(global));
  ARROW_ASSIGN_OR_RAISE(const auto infos, store->List());
  if (global.json) {
    Json array = Json::array();
    for (const TableInfo& info : infos) array.push_back(ToJson(info));
    PrintJson(array);
    return arrow::Status::OK();
  }
  TextTable table({{"NAME"},
                   {"VERSION", Align::kRight},
                   {"ROWS", Align::kRight},
                   {"COLUMNS", Align::kRight},
                   {"SIZE", Align::kRight},
                   {"NODE", Align::kRight}});
  for (const TableInfo& info : infos) {
    table.AddRow({info.name, std::to_string(info.version), HumanCount(info.num_rows),
                  std::to_string(info.num_columns),
                  HumanBytes(static_cast<uint64_t>(info.bytes)),
                  std::to_string(info.home_node)});
  }
  PrintText(table.ToString());
  return arrow::Status::OK();
}

arrow::Status Stat(const Global& global, const std::string& name) {
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrRestart(global));
  ARROW_ASSIGN_OR_RAISE(const TableInfo info, store->Stat(name));
  if (global.json) {
    PrintJson(ToJson(info));
    return arrow::Status::OK();
  }
  PrintText(fmt::format(
      "name        {}\nnode        {}\nversion     {}\ngeneration  {}\nrows        {}\n"
      "columns     {}\nchunks      {}\nsize        {}\nmemory      {}\nchecksums   "
      "{}\nleases      {}\n\n",
      info.name, info.home_node, info.version, info.handle.object.generation,
      HumanCount(info.num_rows), info.num_columns, info.num_chunks,
      HumanBytes(static_cast<uint64_t>(info.bytes)),
      info.bytes_on.empty() ? "none" : HumanPlaces(info.bytes_on),
      info.has_checksums ? "yes" : "no", info.leases));
  TextTable columns({{"COLUMN"}, {"TYPE"}});
  for (const auto& field : info.schema->fields()) {
    columns.AddRow({OneLine(field->name()), OneLine(field->type()->ToString())});
  }
  PrintText(columns.ToString());
  return arrow::Status::OK();
}

arrow::Status Remove(const Global& global, const std::string& name) {
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrRestart(global));
  ARROW_RETURN_NOT_OK(store->Remove(name));
  if (global.json) PrintJson({{"name", name}, {"removed", true}});
  return arrow::Status::OK();
}

arrow::Status Wait(const Global& global, const std::string& name,
                   double timeout_seconds) {
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrStart(global));
  const auto timeout =
      std::chrono::milliseconds(static_cast<int64_t>(std::ceil(timeout_seconds * 1e3)));
  ARROW_RETURN_NOT_OK(store->Wait(name, timeout));
  if (global.json) PrintJson({{"name", name}, {"found", true}});
  return arrow::Status::OK();
}

arrow::Status Verify(const Global& global, const std::string& name) {
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrRestart(global));
  TableInfo info;
  arrow::Result<std::shared_ptr<arrow::Table>> got;
  do {
    ARROW_ASSIGN_OR_RAISE(info, store->Stat(name));
    got = store->Open(info.handle, Validation::kFull);
  } while (IsStaleGeneration(got.status()));  // Replaced meanwhile: verify what is there.
  if (got.status().IsInvalid()) {
    return got.status().WithMessage("'", name,
                                    "' is not valid: ", got.status().message());
  }
  ARROW_ASSIGN_OR_RAISE(auto table, std::move(got));
  const platform::BusErrorExit exit(Unreadable(name), kExitError);
  Json columns = Json::array();
  TextTable text({{"COLUMN"}, {"TYPE"}, {"CHECKSUM"}});
  for (int i = 0; i < table->num_columns(); ++i) {
    ARROW_ASSIGN_OR_RAISE(const uint64_t checksum, ColumnChecksum(*table->column(i)));
    const std::string digits = fmt::format("{:016x}", checksum);
    const auto& field = table->field(i);
    columns.push_back({{"name", field->name()}, {"checksum", digits}});
    text.AddRow({OneLine(field->name()), field->type()->ToString(), digits});
  }
  if (global.json) {
    PrintJson({{"name", name},
               {"valid", true},
               {"checksums", info.has_checksums},
               {"columns", columns}});
  } else {
    PrintText(text.ToString());
    PrintText(fmt::format(
        "{}: valid: every offset, index and length lies in its bounds, text is UTF-8.\n"
        "{}\n"
        "The checksums above are of the values: compare them between nodes, or with\n"
        "those of another table.\n",
        name, WhatChecksumsSay(store, info)));
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::cli
