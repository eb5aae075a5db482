// One table over two nodes. A process on each puts its rows into its own node's memory,
// as a part; once all parts are there they are one table. Each node then sums the rows
// that it has, and one reads all of them where they lie. Needs a cluster with two nodes:
// `sheaf up --nodes 2`.

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <sstream>

#include <arrow/array/array_primitive.h>
#include <arrow/builder.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <sheaf/sheaf.h>

namespace {

constexpr uint32_t kNodes = 2;
constexpr int64_t kRowsOfPart = 1'000'000;
constexpr std::chrono::milliseconds kTimeout{60'000};

int64_t Sum(const arrow::Table& table) {
  int64_t sum = 0;
  for (const auto& chunk : table.column(0)->chunks()) {
    const auto& values = static_cast<const arrow::Int64Array&>(*chunk);
    for (int64_t i = 0; i < values.length(); ++i) sum += values.Value(i);
  }
  return sum;
}

// The process on node `node`: it has the rows of one part.
arrow::Status Work(uint32_t node) {
  ARROW_ASSIGN_OR_RAISE(auto store, sheaf::Store::Connect({.cluster = {}, .node = node}));
  arrow::Int64Builder builder(store->memory_pool());  // in this node's memory
  for (int64_t i = 0; i < kRowsOfPart; ++i) {
    ARROW_RETURN_NOT_OK(builder.Append(node * kRowsOfPart + i));
  }
  ARROW_ASSIGN_OR_RAISE(auto values, builder.Finish());
  const auto table =
      arrow::Table::Make(arrow::schema({arrow::field("id", arrow::int64())}), {values});
  sheaf::PartOptions options;
  options.wait = kTimeout;  // until the others' parts are there as well
  ARROW_ASSIGN_OR_RAISE(const sheaf::PartReceipt receipt,
                        sheaf::PutPart(store, "ids", *table, node, kNodes, options));

  // Compute where the data is.
  ARROW_ASSIGN_OR_RAISE(const auto local, sheaf::LocalParts(store, "ids"));
  std::ostringstream line;
  for (const sheaf::LocalPart& part : local) {
    line << "node " << node << ": rows from " << part.info.row_offset << ", sum "
         << Sum(*part.table) << ", " << receipt.part.bytes_copied << " bytes copied\n";
  }
  std::cout << line.str() << std::flush;
  return sheaf::Barrier(store, "summed", kNodes + 1, kTimeout);
}

arrow::Status Read() {
  ARROW_ASSIGN_OR_RAISE(auto store, sheaf::Store::Connect());
  ARROW_RETURN_NOT_OK(sheaf::Barrier(store, "summed", kNodes + 1, kTimeout));
  ARROW_ASSIGN_OR_RAISE(const auto all, store->Get("ids"));
  std::cout << "all: " << all->num_rows() << " rows, sum " << Sum(*all)
            << ", chunks on node";
  const auto chunk_nodes = sheaf::ChunkNodes(store, *all);  // of each column
  for (const auto& node : chunk_nodes[0]) std::cout << ' ' << node.value_or(kNodes);
  // Nothing of the other parts is leased, invalidated or mapped for this:
  ARROW_ASSIGN_OR_RAISE(const auto last, sheaf::GetPart(store, "ids", kNodes - 1));
  const auto& ids = static_cast<const arrow::Int64Array&>(*last->column(0)->chunk(0));
  std::cout << "\nthe last part begins with " << ids.Value(0) << '\n';
  return store->Remove("ids");
}

int Report(const arrow::Status& status) {
  if (status.ok()) return EXIT_SUCCESS;
  std::cerr << status.ToString() << '\n';
  return EXIT_FAILURE;
}

}  // namespace

int main() {
  std::array<pid_t, kNodes> workers{};
  for (uint32_t node = 0; node < kNodes; ++node) {
    workers[node] = ::fork();  // before connecting: a session belongs to one process
    if (workers[node] == 0) return Report(Work(node));
  }
  int failed = Report(Read());
  for (const pid_t worker : workers) {
    int code = 0;
    ::waitpid(worker, &code, 0);
    if (code != 0) failed = EXIT_FAILURE;
  }
  return failed;
}
