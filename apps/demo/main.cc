// The main job, shown: tables put on node 0 are queried on node 1 over the same bytes,
// beside the time that Arrow Flight takes to send them. `make demo` runs it in a cluster
// of its own (tools/demo.sh).
//
//   demo --cluster NAME TABLE=FILE ...            puts each file, then starts itself as
//   the reader: demo --cluster NAME --read TABLE=FILE PORT    opens TABLE on node 1,
//   queries, compares, reports

#include <stdio.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <arrow/compute/initialize.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <fmt/format.h>

#include "apps/demo/flight.h"
#include "apps/demo/queries.h"
#include "apps/sheaf/decode_pool.h"
#include "apps/sheaf/output.h"
#include "apps/sheaf/table_files.h"
#include "platform/process.h"
#include "sheaf/sheaf.h"

namespace sheaf::demo {
namespace {

using cli::Align;
using cli::Json;
using Nanoseconds = std::chrono::nanoseconds;

struct Source {
  std::string name;
  std::string file;
};

arrow::Result<Source> ParseSource(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos)
    return arrow::Status::Invalid("expected TABLE=FILE: ", text);
  return Source{text.substr(0, equals), text.substr(equals + 1)};
}

double Seconds(Nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

arrow::Result<std::shared_ptr<arrow::Table>> ReadFile(const std::string& file,
                                                      arrow::MemoryPool* pool) {
  ARROW_ASSIGN_OR_RAISE(auto reader, cli::OpenTableFile(file, cli::DecodePool::Make(pool),
                                                        [](double /*share*/) {}));
  return reader->ToTable();
}

// ---- The reader, on node 1, in a process of its own.

arrow::Result<Json> Read(const std::string& cluster, const Source& source,
                         int flight_port) {
  ARROW_ASSIGN_OR_RAISE(auto store, Store::Connect({cluster, 1}));
  const arrow::MemoryPool& pool = *arrow::default_memory_pool();
  const int64_t private_before = pool.bytes_allocated();
  const auto start = platform::BootTime();
  ARROW_ASSIGN_OR_RAISE(auto table, store->Get(source.name));
  const Nanoseconds open = platform::BootTime() - start;
  const int64_t copied = pool.bytes_allocated() - private_before;

  const auto query_start = platform::BootTime();
  ARROW_ASSIGN_OR_RAISE(auto answer, RunQuery(source.name, table));
  const Nanoseconds query = platform::BootTime() - query_start;

  ARROW_ASSIGN_OR_RAISE(auto from_file,
                        ReadFile(source.file, arrow::default_memory_pool()));
  ARROW_ASSIGN_OR_RAISE(auto expected, RunQuery(source.name, from_file));
  from_file.reset();
  ARROW_ASSIGN_OR_RAISE(auto fetched, FetchByFlight(flight_port));
  if (fetched.table->num_rows() != table->num_rows()) {
    return arrow::Status::Invalid("Flight sent ", fetched.table->num_rows(), " rows of ",
                                  table->num_rows());
  }
  return Json{{"open_seconds", Seconds(open)},
              {"bytes_copied", copied},
              {"query_seconds", Seconds(query)},
              {"groups", answer->num_rows()},
              {"answers_equal", answer->Equals(*expected)},
              {"flight_seconds", Seconds(fetched.duration)}};
}

// ---- The writer, on node 0.

struct Shown {
  std::string name;
  Nanoseconds load{0};
  PutReceipt receipt;
  Json reader;
};

arrow::Result<Json> StartReader(const std::string& cluster, const Source& source,
                                int port) {
  ARROW_ASSIGN_OR_RAISE(const std::string self, platform::ExecutablePath());
  // Arguments are ours (a temporary cluster's name and paths that the script made):
  // quoted, not escaped.
  const std::string command = fmt::format("'{}' --cluster '{}' --read '{}={}' --port {}",
                                          self, cluster, source.name, source.file, port);
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return arrow::Status::IOError("cannot start the reader");
  std::string text;
  std::array<char, 4096> block;
  for (size_t size; (size = std::fread(block.data(), 1, block.size(), pipe)) > 0;) {
    text.append(block.data(), size);
  }
  const int code = ::pclose(pipe);
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (code != 0 || json.is_discarded()) {
    return arrow::Status::IOError("the reader of '", source.name, "' failed");
  }
  return json;
}

arrow::Result<Shown> Show(const std::string& cluster, const Source& source) {
  ARROW_ASSIGN_OR_RAISE(auto store, Store::Connect({cluster, 0}));
  fmt::print(stderr, "{}: reading {} into shared memory of node 0 ...\n", source.name,
             source.file);
  Shown shown{source.name, {}, {}, {}};
  const auto start = platform::BootTime();
  ARROW_ASSIGN_OR_RAISE(auto table, ReadFile(source.file, store->memory_pool()));
  shown.load = platform::BootTime() - start;
  ARROW_ASSIGN_OR_RAISE(shown.receipt, store->Put(source.name, *table));
  ARROW_ASSIGN_OR_RAISE(auto server, FlightServer::Start(table));
  fmt::print(stderr, "{}: opening it on node 1, and fetching it by Flight ...\n",
             source.name);
  ARROW_ASSIGN_OR_RAISE(shown.reader, StartReader(cluster, source, server->port()));
  return shown;
}

std::string Equality(const Json& reader) {
  return reader["answers_equal"].get<bool>() ? "yes" : "NO";
}

void Print(const std::vector<Shown>& all) {
  cli::TextTable table({{"TABLE"},
                        {"ROWS", Align::kRight},
                        {"SIZE", Align::kRight},
                        {"LOAD FILE", Align::kRight},
                        {"PUT", Align::kRight},
                        {"OPEN", Align::kRight},
                        {"COPIED BY READER", Align::kRight},
                        {"QUERY", Align::kRight},
                        {"SAME ANSWER", Align::kRight},
                        {"FLIGHT", Align::kRight},
                        {"FLIGHT / (PUT+OPEN)", Align::kRight}});
  for (const Shown& shown : all) {
    const double put = Seconds(shown.receipt.duration);
    const double open = shown.reader["open_seconds"].get<double>();
    const double flight = shown.reader["flight_seconds"].get<double>();
    table.AddRow({shown.name, cli::HumanCount(shown.receipt.num_rows),
                  cli::HumanBytes(static_cast<uint64_t>(shown.receipt.bytes)),
                  cli::HumanSeconds(Seconds(shown.load)), cli::HumanSeconds(put),
                  cli::HumanSeconds(open),
                  fmt::format("{} B", shown.reader["bytes_copied"].get<int64_t>()),
                  cli::HumanSeconds(shown.reader["query_seconds"].get<double>()),
                  Equality(shown.reader), cli::HumanSeconds(flight),
                  fmt::format("{:.0f}x", flight / (put + open))});
  }
  fmt::print(
      "\nTables put on node 0 (process A), opened and queried on node 1 (process "
      "B)\n\n{}\n",
      table.ToString());
  for (const Shown& shown : all)
    fmt::print("{}: {}\n", shown.name, QueryText(shown.name));
  fmt::print(
      "LOAD FILE decodes into shared memory; PUT publishes what lies there; OPEN gives "
      "an\n"
      "arrow::Table over the same bytes; FLIGHT sends the table over loopback "
      "instead.\n");
}

arrow::Status Check(const std::vector<Shown>& all) {
  for (const Shown& shown : all) {
    if (!shown.reader["answers_equal"].get<bool>()) {
      return arrow::Status::Invalid("the answer over '", shown.name,
                                    "' differs from the file's");
    }
    if (shown.reader["bytes_copied"].get<int64_t>() != 0 ||
        shown.receipt.bytes_copied != 0) {
      return arrow::Status::Invalid("bytes of '", shown.name, "' were copied");
    }
  }
  return arrow::Status::OK();
}

arrow::Status Run(const std::string& cluster, const std::vector<std::string>& sources,
                  const std::string& read, int port) {
  ARROW_RETURN_NOT_OK(arrow::compute::Initialize());
  if (!read.empty()) {
    ARROW_ASSIGN_OR_RAISE(const Source source, ParseSource(read));
    ARROW_ASSIGN_OR_RAISE(const Json report, Read(cluster, source, port));
    cli::PrintJson(report);
    return arrow::Status::OK();
  }
  std::vector<Shown> all;
  for (const std::string& text : sources) {
    ARROW_ASSIGN_OR_RAISE(const Source source, ParseSource(text));
    ARROW_ASSIGN_OR_RAISE(all.emplace_back(), Show(cluster, source));
  }
  Print(all);
  return Check(all);
}

int ParseAndRun(int argc, char** argv) {
  CLI::App app("Shows the main job on a running cluster of two nodes");
  std::string cluster;
  std::string read;
  std::vector<std::string> sources;
  int port = 0;
  app.add_option("--cluster", cluster)->required();
  app.add_option("--read", read, "Be the reader of TABLE=FILE");
  app.add_option("--port", port, "Of the writer's Flight server");
  app.add_option("TABLE=FILE", sources);
  CLI11_PARSE(app, argc, argv);
  const arrow::Status status = Run(cluster, sources, read, port);
  if (status.ok()) return 0;
  fmt::print(stderr, "demo: {}\n", status.message());
  return 1;
}

}  // namespace
}  // namespace sheaf::demo

int main(int argc, char** argv) {
  try {
    return sheaf::demo::ParseAndRun(argc, argv);
  } catch (const std::exception& error) {  // of a library, such as std::bad_alloc
    std::fprintf(stderr, "demo: %s\n", error.what());
    return 1;
  }
}
