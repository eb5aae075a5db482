#include "apps/demo/parts.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <fmt/format.h>

#include "apps/demo/queries.h"
#include "apps/demo/source.h"
#include "apps/sheaf/output.h"
#include "apps/sheaf/rows.h"
#include "apps/sheaf/table_files.h"
#include "platform/process.h"
#include "sheaf/sheaf.h"

namespace sheaf::demo {

using cli::Align;
using cli::FileShare;
using cli::Json;

namespace {

// Time, and private memory that Arrow took, since it was made.
class Meter {
 public:
  double seconds() const { return Seconds(platform::BootTime() - start_); }
  int64_t private_bytes() const {
    return arrow::default_memory_pool()->bytes_allocated() - private_before_;
  }

 private:
  std::chrono::nanoseconds start_ = platform::BootTime();
  int64_t private_before_ = arrow::default_memory_pool()->bytes_allocated();
};

std::string SumsOf(const std::string& table) { return table + "-sums"; }

Json ChunksByNode(const std::shared_ptr<Store>& store, const arrow::Table& table) {
  std::map<uint32_t, int64_t> chunks;
  for (const auto& column : ChunkNodes(store, table)) {
    for (const auto& node : column) {
      if (node) ++chunks[*node];
    }
  }
  Json json = Json::object();
  for (const auto& [node, count] : chunks) json[std::to_string(node)] = count;
  return json;
}

}  // namespace

arrow::Result<Json> PutOwnPart(const ConnectOptions& where, const Source& source,
                               const FileShare& share) {
  ARROW_ASSIGN_OR_RAISE(auto store, Store::Connect(where));
  const Meter load;
  ARROW_ASSIGN_OR_RAISE(auto table, ReadFile(source.file, store->memory_pool(), share));
  const double load_seconds = load.seconds();
  const Meter put;
  ARROW_ASSIGN_OR_RAISE(const PartReceipt receipt,
                        PutPart(store, source.name, *table, share.index, share.of));
  return Json{{"node", store->node()},
              {"rows", receipt.part.num_rows},
              {"bytes", receipt.part.bytes},
              {"bytes_copied", receipt.part.bytes_copied +
                                   (receipt.table ? receipt.table->bytes_copied : 0)},
              {"load_seconds", load_seconds},
              {"put_seconds", put.seconds()}};
}

arrow::Result<Json> SumOwnParts(const ConnectOptions& where, const std::string& table,
                                const FileShare& share) {
  ARROW_ASSIGN_OR_RAISE(auto store, Store::Connect(where));
  const Meter meter;
  ARROW_ASSIGN_OR_RAISE(const auto parts, LocalParts(store, table));
  const int64_t copied = meter.private_bytes();
  std::vector<std::shared_ptr<arrow::Table>> own;
  own.reserve(parts.size());
  for (const LocalPart& part : parts) own.push_back(part.table);
  if (own.empty()) {
    return arrow::Status::KeyError("no part of '", table, "' is on node ", store->node());
  }
  ARROW_ASSIGN_OR_RAISE(const auto rows, arrow::ConcatenateTables(own));
  ARROW_ASSIGN_OR_RAISE(const auto answer, RunQuery(table, rows));
  ARROW_RETURN_NOT_OK(
      PutPart(store, SumsOf(table), *answer, share.index, share.of).status());
  return Json{{"parts", parts.size()},
              {"rows", rows->num_rows()},
              {"bytes_copied", copied},
              {"seconds", meter.seconds()}};
}

arrow::Result<Json> QueryAll(const ConnectOptions& where, const std::string& table) {
  ARROW_ASSIGN_OR_RAISE(auto store, Store::Connect(where));
  const Meter open;
  ARROW_ASSIGN_OR_RAISE(const auto rows, store->Get(table));
  const double open_seconds = open.seconds();
  const int64_t copied = open.private_bytes();
  const Meter query;
  ARROW_ASSIGN_OR_RAISE(const auto answer, RunQuery(table, rows));
  const double query_seconds = query.seconds();
  ARROW_ASSIGN_OR_RAISE(Json answer_rows, cli::RowsToJson(*answer));
  return Json{{"rows", rows->num_rows()},       {"chunks_on", ChunksByNode(store, *rows)},
              {"open_seconds", open_seconds},   {"bytes_copied", copied},
              {"query_seconds", query_seconds}, {"answer", std::move(answer_rows)}};
}

arrow::Result<Json> MergeSums(const ConnectOptions& where, const std::string& table) {
  ARROW_ASSIGN_OR_RAISE(auto store, Store::Connect(where));
  ARROW_ASSIGN_OR_RAISE(const auto sums, store->Get(SumsOf(table)));
  ARROW_ASSIGN_OR_RAISE(const auto answer, MergeAnswers(table, sums));
  ARROW_ASSIGN_OR_RAISE(Json rows, cli::RowsToJson(*answer));
  return Json{{"answer", std::move(rows)}};
}

arrow::Result<Json> QueryFile(const Source& source) {
  ARROW_ASSIGN_OR_RAISE(const auto rows,
                        ReadFile(source.file, arrow::default_memory_pool()));
  ARROW_ASSIGN_OR_RAISE(const auto answer, RunQuery(source.name, rows));
  ARROW_ASSIGN_OR_RAISE(Json answer_rows, cli::RowsToJson(*answer));
  return Json{{"rows", rows->num_rows()}, {"answer", std::move(answer_rows)}};
}

namespace {

// What the processes of each node said, by node.
struct Shown {
  std::vector<Json> put;
  std::vector<Json> own;
  std::vector<Json> all;
  Json merged;
  Json file;
};

// `verb` on all nodes at once; each process knows its node and its share.
arrow::Result<std::vector<Json>> OnAllNodes(const std::string& cluster, uint32_t nodes,
                                            const std::string& verb,
                                            const std::string& what) {
  std::vector<Process> processes;
  for (uint32_t node = 0; node < nodes; ++node) {
    const std::string number = std::to_string(node);
    ARROW_ASSIGN_OR_RAISE(
        processes.emplace_back(),
        Process::Start({"--cluster", cluster, "--node", number, verb, what, "--part",
                        number, "--of", std::to_string(nodes)}));
  }
  std::vector<Json> said;
  for (Process& process : processes) {
    ARROW_ASSIGN_OR_RAISE(said.emplace_back(), process.Finish());
  }
  return said;
}

arrow::Result<Shown> Show(const std::string& cluster, const Source& source,
                          uint32_t nodes) {
  Shown shown;
  fmt::print(stderr, "{}: {} nodes read {}, each its share of it ...\n", source.name,
             nodes, source.file);
  ARROW_ASSIGN_OR_RAISE(
      shown.put, OnAllNodes(cluster, nodes, "put-part", source.name + "=" + source.file));
  fmt::print(stderr, "{}: querying each node's rows there, and all on each node ...\n",
             source.name);
  ARROW_ASSIGN_OR_RAISE(shown.own, OnAllNodes(cluster, nodes, "sum-own", source.name));
  for (uint32_t node = 0; node < nodes; ++node) {  // in turn: each has all processors
    ARROW_ASSIGN_OR_RAISE(shown.all.emplace_back(),
                          RunProcess({"--cluster", cluster, "--node",
                                      std::to_string(node), "query", source.name}));
  }
  ARROW_ASSIGN_OR_RAISE(shown.merged, MergeSums({cluster, 0}, source.name));
  ARROW_ASSIGN_OR_RAISE(shown.file, QueryFile(source));
  return shown;
}

int64_t Copied(const Shown& shown, size_t node) {
  int64_t bytes = 0;
  for (const auto* said : {&shown.put, &shown.own, &shown.all}) {
    bytes += (*said)[node]["bytes_copied"].get<int64_t>();
  }
  return bytes;
}

bool IsAnswer(const Json& said, const Shown& shown) {
  return said["answer"] == shown.file["answer"];
}

void Print(const Source& source, const Shown& shown) {
  cli::TextTable table({{"NODE", Align::kRight},
                        {"ROWS", Align::kRight},
                        {"SIZE", Align::kRight},
                        {"LOAD SHARE", Align::kRight},
                        {"PUT PART", Align::kRight},
                        {"QUERY OWN ROWS", Align::kRight},
                        {"OPEN ALL", Align::kRight},
                        {"QUERY ALL", Align::kRight},
                        {"SAME ANSWER", Align::kRight},
                        {"COPIED", Align::kRight}});
  const auto seconds = [](const Json& said, const char* key) {
    return cli::HumanSeconds(said[key].get<double>());
  };
  for (size_t node = 0; node < shown.put.size(); ++node) {
    const Json& put = shown.put[node];
    const Json& all = shown.all[node];
    table.AddRow({std::to_string(node), cli::HumanCount(put["rows"].get<int64_t>()),
                  cli::HumanBytes(put["bytes"].get<uint64_t>()),
                  seconds(put, "load_seconds"), seconds(put, "put_seconds"),
                  seconds(shown.own[node], "seconds"), seconds(all, "open_seconds"),
                  seconds(all, "query_seconds"), IsAnswer(all, shown) ? "yes" : "NO",
                  fmt::format("{} B", Copied(shown, node))});
  }
  fmt::print(
      "\n{}, {} rows in {} parts: each put on its node by a process there, all opened "
      "and queried on each node\n\n{}\n",
      source.name, cli::HumanCount(shown.file["rows"].get<int64_t>()), shown.put.size(),
      table.ToString());
  fmt::print("{}: {}\nThe answers of QUERY OWN ROWS, merged: same answer: {}\n",
             source.name, QueryText(source.name),
             IsAnswer(shown.merged, shown) ? "yes" : "NO");
}

arrow::Status Check(const Source& source, const Shown& shown) {
  int64_t rows = 0;
  for (size_t node = 0; node < shown.put.size(); ++node) {
    if (Copied(shown, node) != 0) {
      return arrow::Status::Invalid("bytes of '", source.name, "' were copied on node ",
                                    node);
    }
    if (!IsAnswer(shown.all[node], shown) ||
        shown.all[node]["rows"] != shown.file["rows"]) {
      return arrow::Status::Invalid("the answer over '", source.name, "' on node ", node,
                                    " differs from the file's");
    }
    rows += shown.own[node]["rows"].get<int64_t>();
  }
  if (!IsAnswer(shown.merged, shown) || rows != shown.file["rows"].get<int64_t>()) {
    return arrow::Status::Invalid("the merged answers of the nodes differ from the ",
                                  "file's");
  }
  return arrow::Status::OK();
}

}  // namespace

arrow::Status ShowParts(const std::string& cluster, const Source& source,
                        uint32_t nodes) {
  ARROW_ASSIGN_OR_RAISE(const Shown shown, Show(cluster, source, nodes));
  Print(source, shown);
  return Check(source, shown);
}

}  // namespace sheaf::demo
