#include "apps/demo/two_nodes.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <fmt/format.h>

#include "apps/demo/flight.h"
#include "apps/demo/queries.h"
#include "apps/demo/source.h"
#include "apps/sheaf/output.h"
#include "platform/process.h"
#include "sheaf/sheaf.h"

namespace sheaf::demo {

using cli::Align;
using cli::Json;
using Nanoseconds = std::chrono::nanoseconds;

namespace {

struct Shown {
  std::string name;
  Nanoseconds load{0};
  PutReceipt receipt;
  Json reader;
};

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
  ARROW_ASSIGN_OR_RAISE(
      shown.reader,
      RunProcess({"--cluster", cluster, "read", source.name + "=" + source.file, "--port",
                  std::to_string(server->port())}));
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

}  // namespace

arrow::Result<Json> ReadOnNodeOne(const std::string& cluster, const Source& source,
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

arrow::Status ShowTwoNodes(const std::string& cluster,
                           const std::vector<Source>& sources) {
  std::vector<Shown> all;
  for (const Source& source : sources) {
    ARROW_ASSIGN_OR_RAISE(all.emplace_back(), Show(cluster, source));
  }
  Print(all);
  return Check(all);
}

}  // namespace sheaf::demo
