// The main job, shown on a running cluster; `make demo` runs it in one of its own
// (tools/demo.sh).
//
//   demo two-nodes TABLE=FILE ...    each file put on node 0, opened and queried on node
//                                    1, beside the time that Arrow Flight takes
//   demo parts TABLE=FILE --nodes N  one table over N nodes, in a part on each
//
// They start the others, which are one process' work on one node and print JSON; with
// nodes on many hosts these are run there by hand.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <arrow/compute/initialize.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>

#include "apps/demo/parts.h"
#include "apps/demo/source.h"
#include "apps/demo/two_nodes.h"
#include "apps/sheaf/output.h"
#include "apps/sheaf/table_files.h"
#include "sheaf/store.h"

namespace sheaf::demo {
namespace {

using cli::Json;

struct Arguments {
  ConnectOptions where;
  std::vector<std::string> sources;
  std::string table;
  cli::FileShare share;
  uint32_t nodes = 4;
  int port = 0;
};
using Command = std::function<arrow::Status()>;

arrow::Status Print(const arrow::Result<Json>& json) {
  ARROW_RETURN_NOT_OK(json.status());
  cli::PrintJson(*json);
  return arrow::Status::OK();
}

arrow::Result<std::vector<Source>> Sources(const Arguments& arguments) {
  std::vector<Source> sources;
  for (const std::string& text : arguments.sources) {
    ARROW_ASSIGN_OR_RAISE(sources.emplace_back(), ParseSource(text));
  }
  return sources;
}

class Commands {
 public:
  Commands(CLI::App* app, Arguments* arguments, Command* command)
      : app_(app), arguments_(arguments), command_(command) {}

  // A command that reads files: `run` is given them.
  CLI::App* OverFiles(const char* name, const char* help, int files_max,
                      std::function<arrow::Status(const std::vector<Source>&)> run) {
    CLI::App* sub = app_->add_subcommand(name, help);
    sub->add_option("TABLE=FILE", arguments_->sources)
        ->required()
        ->expected(1, files_max);
    sub->callback([this, run = std::move(run)] {
      *command_ = [this, run]() -> arrow::Status {
        ARROW_ASSIGN_OR_RAISE(const auto sources, Sources(*arguments_));
        return run(sources);
      };
    });
    return sub;
  }
  CLI::App* OverTable(const char* name, const char* help, Command run) {
    CLI::App* sub = app_->add_subcommand(name, help);
    sub->add_option("TABLE", arguments_->table)->required();
    sub->callback([this, run = std::move(run)] { *command_ = run; });
    return sub;
  }
  void AddShare(CLI::App* sub) {
    sub->add_option("--part", arguments_->share.index, "Which part is made, from 0")
        ->required();
    sub->add_option("--of", arguments_->share.of, "How many there are")->required();
  }

 private:
  CLI::App* app_;
  Arguments* arguments_;
  Command* command_;
};

void AddCommands(Commands* commands, Arguments* arguments) {
  const Arguments& a = *arguments;
  commands->OverFiles(
      "two-nodes", "Put on node 0, query on node 1", 100,
      [&a](const auto& sources) { return ShowTwoNodes(a.where.cluster, sources); });
  commands
      ->OverFiles("parts", "Put in parts on all nodes, query on each", 1,
                  [&a](const auto& sources) {
                    return ShowParts(a.where.cluster, sources[0], a.nodes);
                  })
      ->add_option("--nodes", arguments->nodes, "0 to N - 1, of this host")
      ->check(CLI::Range(1, 64));
  commands
      ->OverFiles("read", "Be the reader of two-nodes", 1,
                  [&a](const auto& sources) {
                    return Print(ReadOnNodeOne(a.where.cluster, sources[0], a.port));
                  })
      ->add_option("--port", arguments->port, "Of the writer's Flight server");
  commands->AddShare(
      commands->OverFiles("put-part", "Put a share of the file as a part of the table", 1,
                          [&a](const auto& sources) {
                            return Print(PutOwnPart(a.where, sources[0], a.share));
                          }));
  commands->OverFiles("query-file", "Query the file alone, without a cluster", 1,
                      [](const auto& sources) { return Print(QueryFile(sources[0])); });
  commands->AddShare(commands->OverTable(
      "sum-own", "Query the parts of this node, put the answer as a part of TABLE-sums",
      [&a] { return Print(SumOwnParts(a.where, a.table, a.share)); }));
  commands->OverTable("query", "Query all parts",
                      [&a] { return Print(QueryAll(a.where, a.table)); });
  commands->OverTable("merge-sums", "Make one answer of what sum-own put",
                      [&a] { return Print(MergeSums(a.where, a.table)); });
}

int ParseAndRun(int argc, char** argv) {
  CLI::App app("Shows the main job on a running cluster");
  Arguments arguments;
  Command command;
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--cluster", arguments.where.cluster, "Else SHEAF_CLUSTER");
  app.add_option("--node", arguments.where.node, "Of this process; else SHEAF_NODE");
  Commands commands(&app, &arguments, &command);
  AddCommands(&commands, &arguments);
  CLI11_PARSE(app, argc, argv);
  arrow::Status status = arrow::compute::Initialize();
  if (status.ok()) status = command();
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
