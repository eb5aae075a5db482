// The command line: parses, calls, and turns an error into one line and exit code 1.

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

#include <CLI/CLI.hpp>
#include <arrow/status.h>
#include <fmt/format.h>

#include "apps/sheaf/commands.h"
#include "region/cluster_config.h"
#include "sheaf/cluster.h"

namespace sheaf::cli {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;

using Command = std::function<arrow::Status()>;

// As the cluster file spells it, fractions included. What it does not know is left to
// CLI11, which knows "4g" too.
std::string SizeAsBytes(const std::string& text) {
  const auto size_bytes = region::ParseSize(text);
  return size_bytes.ok() ? std::to_string(*size_bytes) : text;
}

void AddClusterCommands(CLI::App* app, Global* global, ClusterOptions* up,
                        Command* command) {
  CLI::App* add = app->add_subcommand("up", "Start a cluster on this host");
  add->add_option("--nodes", up->nodes,
                  "Nodes, each with a daemon and memory of its own (1)")
      ->check(CLI::Range(1, 64));
  add->add_option("--size", up->size_bytes,
                  "Memory of each node, such as 512MiB or 4.5GiB (4GiB)")
      ->transform(CLI::AsSizeValue(false))
      ->transform(SizeAsBytes);
  add->add_option(
         "--backend", up->backend,
         "shm: shared memory of this host; file: files in --folder; sim: a simulator\n"
         "of memory that is not coherent between nodes (shm)")
      ->check(CLI::IsMember({"shm", "file", "sim"}));
  add->add_option(
         "--coherence", up->coherence,
         "coherent: hardware keeps nodes coherent; software: cache lines are flushed\n"
         "and invalidated (coherent)")
      ->check(CLI::IsMember({"coherent", "software"}));
  add->add_option("--folder", up->folder, "Where the memory's files go (backend file)");
  add->add_flag(
      "--prealloc", up->prealloc,
      "Allocate all memory now, not when it is needed; fails if it does not fit");
  add->add_option("--config", up->config_file,
                  "Configuration in TOML; options here win over it")
      ->check(CLI::ExistingFile);
  add->callback([=] {
    *command = [=] {
      up->name = global->cluster;
      return Up(*global, *up);
    };
  });
  CLI::App* down =
      app->add_subcommand("down", "End the cluster; its memory and tables are gone");
  down->callback([=] { *command = [=] { return Down(*global); }; });
  CLI::App* nodes = app->add_subcommand("nodes", "List the nodes and what they hold");
  nodes->callback([=] { *command = [=] { return Nodes(*global); }; });
}

struct TableArguments {
  PutArguments put;
  std::string name;
  std::string file;
  int64_t num_rows = 10;
  double timeout_seconds = 60;
};

void AddPutAndGet(CLI::App* app, Global* global, TableArguments* arguments,
                  Command* command) {
  CLI::App* put = app->add_subcommand(
      "put", "Publish a file (.parquet, .arrow, .feather, .arrows, .csv) as a table");
  put->add_option("NAME", arguments->put.name, "1 to 255 bytes of UTF-8")->required();
  put->add_option("FILE", arguments->put.file)->required();
  put->add_flag("--replace", arguments->put.replace,
                "If the name exists make a new version; readers keep the old one");
  put->callback([=] { *command = [=] { return Put(*global, arguments->put); }; });
  CLI::App* get = app->add_subcommand("get", "Write a table to a file");
  get->add_option("NAME", arguments->name)->required();
  get->add_option("-o,--output", arguments->file,
                  "Its suffix says the format, as for put")
      ->required();
  get->callback(
      [=] { *command = [=] { return Get(*global, arguments->name, arguments->file); }; });
}

void AddTableCommands(CLI::App* app, Global* global, TableArguments* arguments,
                      Command* command) {
  const auto add = [=](const char* name, const char* help) {
    CLI::App* sub = app->add_subcommand(name, help);
    sub->add_option("NAME", arguments->name)->required();
    return sub;
  };
  CLI::App* head = add("head", "Print the first rows of a table");
  head->add_option("-n,--rows", arguments->num_rows, "How many (10)")
      ->check(CLI::NonNegativeNumber);
  head->footer(
      "Text shows null as `null` and cuts long cells. JSON has an object for each row;\n"
      "a name that comes again becomes name#2, name#3. Binary is hexadecimal; decimals,\n"
      "dates, times, intervals, NaN and Infinity are strings; a map is an array of\n"
      "{\"key\":, \"value\":}; dictionaries and unions are the value they stand for.");
  head->callback([=] {
    *command = [=] { return Head(*global, arguments->name, arguments->num_rows); };
  });
  app->add_subcommand("ls", "List all tables")->callback([=] {
    *command = [=] { return List(*global); };
  });
  add("stat", "Describe a table")->callback([=] {
    *command = [=] { return Stat(*global, arguments->name); };
  });
  add("rm", "Remove a table; who has it open keeps it")->callback([=] {
    *command = [=] { return Remove(*global, arguments->name); };
  });
  CLI::App* wait = add("wait", "Wait until a table can be opened");
  wait->add_option("--timeout", arguments->timeout_seconds, "Seconds (60)")
      ->check(CLI::NonNegativeNumber);
  wait->callback([=] {
    *command = [=] { return Wait(*global, arguments->name, arguments->timeout_seconds); };
  });
  CLI::App* verify =
      add("verify", "Check a table's structure, print checksums of columns");
  verify->footer(
      "Reads all data. Every offset, index and length must lie in its bounds and text "
      "must\n"
      "be UTF-8; else the exit code is 1. The checksums are of the values, however they\n"
      "are cut into chunks or encoded: compare them between nodes, or with another "
      "table\n"
      "or file that should hold the same. No checksum is stored at put, so a value that\n"
      "changed since then is not found by itself.");
  verify->callback([=] { *command = [=] { return Verify(*global, arguments->name); }; });
}

// One line, whatever the message holds: it may quote a name in a file that means to speak
// to the terminal (control characters C0, DEL, and C1 as UTF-8 or as a bare byte).
std::string OneLine(const arrow::Status& status) {
  const std::string text = status.message();
  const auto byte_at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto is_c1 = [&](size_t i) {
    return i < text.size() && byte_at(i) >= 0x80 && byte_at(i) < 0xA0;
  };
  std::string line;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
      line += ' ';
    } else if (byte_at(i) < 0x20 || byte_at(i) == 0x7F ||
               (is_c1(i) && (i == 0 || byte_at(i - 1) < 0x80))) {
      line += fmt::format("\\x{:02X}", byte_at(i));
    } else if (byte_at(i) == 0xC2 && is_c1(i + 1)) {
      line += fmt::format("\\x{:02X}", byte_at(++i));
    } else {
      line += text[i];
    }
  }
  return line;
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Arrow tables in memory that nodes share: put once, open anywhere, copy nothing.\n"
      "The first command that needs a cluster starts one; `sheaf down` ends it.");
  app.name("sheaf");
  app.set_version_flag("--version", SHEAF_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.failure_message(CLI::FailureMessage::simple);
  Global global;
  app.add_option("--cluster", global.cluster, "Which cluster (default)")
      ->envname("SHEAF_CLUSTER");
  app.add_option("--node", global.node, "Through which node of this host to speak (0)")
      ->envname("SHEAF_NODE");
  app.add_flag("--json", global.json, "Print JSON");
  Command command;
  ClusterOptions up;
  TableArguments arguments;
  AddClusterCommands(&app, &global, &up, &command);
  AddPutAndGet(&app, &global, &arguments, &command);
  AddTableCommands(&app, &global, &arguments, &command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  const arrow::Status status = command();
  if (status.ok()) return 0;
  fmt::print(stderr, "sheaf: {}\n", OneLine(status));
  return kExitError;
}

}  // namespace
}  // namespace sheaf::cli

int main(int argc, char** argv) { return sheaf::cli::Main(argc, argv); }
