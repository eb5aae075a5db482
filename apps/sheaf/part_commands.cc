// Commands of tables in parts, and of barriers.

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/io/file.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <fmt/format.h>

#include "apps/sheaf/commands.h"
#include "apps/sheaf/connect.h"
#include "apps/sheaf/decode_pool.h"
#include "apps/sheaf/output.h"
#include "apps/sheaf/progress.h"
#include "apps/sheaf/space_error.h"
#include "apps/sheaf/table_files.h"
#include "client/wording.h"
#include "sheaf/parts.h"
#include "sheaf/store.h"

namespace sheaf::cli {
namespace {

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(std::ceil(seconds * 1e3)));
}

std::string Bytes(const PutReceipt& put) {
  return fmt::format("{} ({} shared, {} copied, {} flushed)",
                     HumanBytes(static_cast<uint64_t>(put.bytes)),
                     HumanBytes(static_cast<uint64_t>(put.bytes_shared)),
                     HumanBytes(static_cast<uint64_t>(put.bytes_copied)),
                     HumanBytes(static_cast<uint64_t>(put.bytes_flushed)));
}

void Print(const PartReceipt& receipt, const std::string& name,
           const PartArguments& part) {
  const std::string rows = HumanCount(receipt.part.num_rows);
  if (!part.part) {
    const int64_t all = receipt.table ? receipt.table->num_rows : 0;
    PrintText(fmt::format("{}: version {}, {} rows appended, {} in all; {}\n", name,
                          receipt.version, rows, HumanCount(all), Bytes(receipt.part)));
    return;
  }
  PrintText(fmt::format("{}: part {} of {}: {} rows, {}\n", name, *part.part, part.of,
                        rows, Bytes(receipt.part)));
  if (receipt.version == 0) {
    PrintText(
        fmt::format("{}: {}\n", name, client::MissingParts(receipt.missing, part.of)));
  } else {
    PrintText(fmt::format("{}: version {} is whole\n", name, receipt.version));
  }
}

Json ToJson(const PartReceipt& receipt, const std::string& name,
            const PartArguments& part) {
  Json put = cli::ToJson(receipt.part);
  for (const char* of_table : {"name", "version"}) put.erase(of_table);
  Json json{{"name", name},
            {"part", part.part.value_or(0)},
            {"of", part.of},
            {"version", receipt.version},
            {"missing", receipt.missing},
            {"checksums_lost", receipt.checksums_lost},
            {"put", std::move(put)}};
  if (receipt.table) json["table"] = cli::ToJson(*receipt.table);
  return json;
}

std::string ChecksumsLost(const std::string& name) {
  return fmt::format(
      "{}: has no checksums: it has some only if each part and append is put with "
      "--checksum\n",
      name);
}

// Of a file that is cut between `count` pieces; empty if there are enough of them.
std::string EmptyParts(const std::string& file, int count, const std::string& what,
                       uint32_t of) {
  const auto pieces = static_cast<uint32_t>(count);
  if (pieces >= of) return "";
  const std::string plural = what.ends_with("ch") ? "es" : "s";
  return fmt::format("{} has {} {}{} for {} parts: {} of them {} no rows", file, pieces,
                     what, pieces == 1 ? "" : plural, of, of - pieces,
                     of - pieces == 1 ? "has" : "have");
}

std::vector<uint32_t> Missing(const StagedParts& staged) {
  std::vector<uint32_t> missing;
  auto present = staged.present.begin();
  for (uint32_t i = 0; i < staged.of; ++i) {
    if (present != staged.present.end() && *present == i) {
      ++present;
    } else {
      missing.push_back(i);
    }
  }
  return missing;
}

arrow::Status ListStaged(const Global& global, const std::shared_ptr<Store>& store) {
  ARROW_ASSIGN_OR_RAISE(const auto all, ListStagedParts(store));
  Json array = Json::array();
  TextTable text({{"NAME"},
                  {"PARTS", Align::kRight},
                  {"OF", Align::kRight},
                  {"FOR"},
                  {"MISSING"},
                  {"UNTIL"}});
  for (const StagedParts& staged : all) {
    const std::vector<uint32_t> missing = Missing(staged);
    Json json{{"name", staged.name},
              {"of", staged.of},
              {"append", staged.append},
              {"present", staged.present},
              {"missing", missing}};
    if (staged.deadline_unix_ms) json["deadline_unix_ms"] = *staged.deadline_unix_ms;
    array.push_back(std::move(json));
    text.AddRow({OneLine(staged.name), std::to_string(staged.present.size()),
                 std::to_string(staged.of), staged.append ? "append" : "a new table",
                 client::JoinNumbers(missing),
                 staged.deadline_unix_ms
                     ? client::UtcTime(*staged.deadline_unix_ms * 1'000'000)
                     : "no deadline"});
  }
  if (global.json) {
    PrintJson(array);
  } else {
    PrintText(text.ToString());
  }
  return arrow::Status::OK();
}

}  // namespace

arrow::Status PutPart(const Global& global, const PutArguments& arguments,
                      const PartArguments& part) {
  ARROW_RETURN_NOT_OK(CheckSuffix(arguments.file));
  ARROW_RETURN_NOT_OK(arrow::io::ReadableFile::Open(arguments.file).status());
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrStart(global));
  const auto pool = DecodePool::Make(store->memory_pool());
  FileShare share;
  std::string warning;
  if (part.split) {
    share = {part.part.value_or(0), part.of, [&](int count, const char* what) {
               warning = EmptyParts(arguments.file, count, what, part.of);
             }};
  }
  auto table = [&]() -> arrow::Result<std::shared_ptr<arrow::Table>> {
    ProgressBar bar("put " + arguments.name);
    ARROW_ASSIGN_OR_RAISE(
        auto reader,
        OpenTableFile(
            arguments.file, pool, [&](double done) { bar.Update(done); }, share));
    return reader->ToTable();
  }();
  if (!table.ok()) {
    ARROW_RETURN_NOT_OK(ExplainSpace(*store, store->node(), store->memory_pool(), *pool,
                                     arguments.name, arguments.file,
                                     "sheaf --node K put puts the part there"));
    return table.status();
  }
  if (!warning.empty()) fmt::print(stderr, "sheaf: warning: {}\n", OneLine(warning));
  PartOptions options;
  options.append = part.append;
  options.wait = Milliseconds(part.wait_seconds);
  options.checksum = arguments.checksum;
  if (part.deadline_seconds) options.deadline = Milliseconds(*part.deadline_seconds);
  ARROW_ASSIGN_OR_RAISE(const PartReceipt receipt,
                        sheaf::PutPart(store, arguments.name, **table,
                                       part.part.value_or(0), part.of, options));
  if (global.json) {
    PrintJson(ToJson(receipt, arguments.name, part));
  } else {
    Print(receipt, arguments.name, part);
    if (receipt.checksums_lost) PrintText(ChecksumsLost(arguments.name));
  }
  return arrow::Status::OK();
}

arrow::Status Parts(const Global& global, const std::string& name) {
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrRestart(global));
  if (name.empty()) return ListStaged(global, store);
  ARROW_ASSIGN_OR_RAISE(const auto parts, ListParts(store, name));
  Json array = Json::array();
  TextTable text({{"PART", Align::kRight},
                  {"NODE", Align::kRight},
                  {"FIRST ROW", Align::kRight},
                  {"ROWS", Align::kRight},
                  {"SIZE", Align::kRight}});
  for (const PartInfo& part : parts) {
    array.push_back({{"part", part.index},
                     {"node", part.node},
                     {"row_offset", part.row_offset},
                     {"rows", part.num_rows},
                     {"bytes", part.bytes}});
    text.AddRow({std::to_string(part.index), std::to_string(part.node),
                 HumanCount(part.row_offset), HumanCount(part.num_rows),
                 HumanBytes(static_cast<uint64_t>(part.bytes))});
  }
  if (global.json) {
    PrintJson(array);
  } else {
    PrintText(text.ToString());
  }
  return arrow::Status::OK();
}

arrow::Status Abort(const Global& global, const std::string& name) {
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrRestart(global));
  ARROW_RETURN_NOT_OK(AbortParts(store, name));
  if (global.json) PrintJson({{"name", name}, {"aborted", true}});
  return arrow::Status::OK();
}

arrow::Status Barrier(const Global& global, const std::string& name, uint32_t n,
                      double timeout_seconds) {
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrStart(global));
  ARROW_RETURN_NOT_OK(sheaf::Barrier(store, name, n, Milliseconds(timeout_seconds)));
  if (global.json) PrintJson({{"name", name}, {"opened", true}});
  return arrow::Status::OK();
}

}  // namespace sheaf::cli
