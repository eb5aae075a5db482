// The command line: parses, calls, and turns an error into one line and exit code 1.

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <CLI/CLI.hpp>
#include <arrow/status.h>
#include <fmt/format.h>

#include "apps/sheaf/cluster_options.h"
#include "apps/sheaf/commands.h"
#include "apps/sheaf/output.h"
#include "region/cluster_config.h"
#include "sheaf/cluster.h"
#include "sheaf/status.h"

namespace sheaf::cli {
namespace {

constexpr int kExitUsage = 2;

constexpr double kTimeoutSecondsMax = 365 * 86400;

// `what` names the argument in the message.
CLI::Validator NumberBetween(const std::string& what, double least, double most) {
  const auto check = [=](const std::string& text) -> std::string {
    double value = 0;
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    // Written so that what is not a number fails.
    if (parsed.ec == std::errc{} && parsed.ptr == end && value >= least && value <= most)
      return "";
    return fmt::format("{} must be a number from {:.0f} to {:.0f}, got '{}'", what, least,
                       most, text);
  };
  return {check, ""};
}

// As NumberBetween, of a deadline: one that is now ends what begins now.
CLI::Validator SomeTimeFromNow(const std::string& what) {
  const auto check = [=](const std::string& text) -> std::string {
    const CLI::Validator is_number = NumberBetween(what, 0, kTimeoutSecondsMax);
    std::string copy = text;
    if (std::string error = is_number(copy); !error.empty()) return error;
    if (std::strtod(text.c_str(), nullptr) > 0) return "";
    return fmt::format(
        "{} must be more than 0, got '{}': parts wait for ever without --deadline", what,
        text);
  };
  return {check, ""};
}

std::string CheckCluster(const std::string& name) {
  if (name.empty()) return "";
  const arrow::Status status = region::CheckClusterName(name);
  return status.ok() ? "" : status.message();
}

struct TableArguments {
  PutArguments put;
  PartArguments part;
  uint32_t participants = 0;
  std::string name;
  std::string file;
  int64_t num_rows = 10;
  double timeout_seconds = 60;
};

void AddName(CLI::App* command, std::string* name) {
  command->add_option("NAME", *name, "The table: 1 to 255 bytes of UTF-8")
      ->type_name("")
      ->required();
}

// `others` go with whole tables only.
void AddPartOptions(CLI::App* put, PartArguments* part,
                    const std::vector<CLI::Option*>& others) {
  CLI::Option* of = put->add_option("--of", part->of, "How many parts make the table");
  of->type_name("N");
  CLI::Option* number = put->add_option("--part", part->part,
                                        "The file is part I (from 0) of the table, in "
                                        "the memory of this --node: it can be\n"
                                        "opened once all parts are there");
  number->type_name("I")->needs(of);
  of->needs(number);
  put->add_flag("--split", part->split,
                "The part is the I-th of N shares of the file, not all of it: cut\n"
                "between row groups of Parquet, or record batches of Arrow IPC")
      ->needs(number);
  CLI::Option* append = put->add_flag("--append", part->append,
                                      "Parts are further rows of the table that is");
  for (CLI::Option* other : others) {
    number->excludes(other);
    append->excludes(other);
  }
  put->add_option("--wait", part->wait_seconds, "For the other parts (0)")
      ->needs(number)
      ->type_name("SECONDS")
      ->check(NumberBetween("the wait in seconds", 0, kTimeoutSecondsMax));
  put->add_option("--deadline", part->deadline_seconds,
                  "From now: parts of a table that is not whole by then are removed")
      ->needs(number)
      ->type_name("SECONDS")
      ->check(SomeTimeFromNow("the deadline in seconds"));
}

void AddPartCommands(CLI::App* app, Global* global, TableArguments* arguments,
                     Command* command) {
  CLI::App* parts = app->add_subcommand(
      "parts", "List the parts of a table; without a name, puts that miss parts");
  parts->add_option("NAME", arguments->name, "The table")->type_name("");
  parts->callback([=] { *command = [=] { return Parts(*global, arguments->name); }; });
  CLI::App* abort = app->add_subcommand("abort",
                                        "Remove the parts of a table that is "
                                        "not whole");
  AddName(abort, &arguments->name);
  abort->callback([=] { *command = [=] { return Abort(*global, arguments->name); }; });
  CLI::App* barrier =
      app->add_subcommand("barrier", "Wait until N callers, on any nodes, are here");
  barrier->add_option("NAME", arguments->name, "The barrier")->type_name("")->required();
  barrier->add_option("N", arguments->participants, "How many")
      ->type_name("")
      ->required();
  barrier
      ->add_option("--timeout", arguments->timeout_seconds,
                   "How long, then the exit code is 1 (60)")
      ->type_name("SECONDS")
      ->check(NumberBetween("the timeout in seconds", 0, kTimeoutSecondsMax));
  barrier->callback([=] {
    *command = [=] {
      return Barrier(*global, arguments->name, arguments->participants,
                     arguments->timeout_seconds);
    };
  });
}

void AddPutAndGet(CLI::App* app, Global* global, TableArguments* arguments,
                  Command* command) {
  CLI::App* put = app->add_subcommand("put", "Publish a file as a table");
  AddName(put, &arguments->put.name);
  put->add_option("FILE", arguments->put.file,
                  "Parquet, Arrow IPC or CSV: .parquet, .arrow, .feather, .arrows, .csv")
      ->type_name("")
      ->required();
  CLI::Option* replace =
      put->add_flag("--replace", arguments->put.replace,
                    "If the name exists make a new version; readers keep the old one");
  put->add_flag("--checksum", arguments->put.checksum,
                "Store checksums of the data, which `sheaf verify` compares with it\n"
                "later; reads the data once more");
  CLI::Option* on =
      put->add_option("--on", arguments->put.on,
                      "Put it in the memory of this node, which is then its home");
  on->type_name("NODE");
  CLI::Option* spill = put->add_flag(
      "--spill", arguments->put.spill,
      "Where that node's memory is full, use that of other nodes; the output\n"
      "says how much lies where");
  AddPartOptions(put, &arguments->part, {replace, on, spill});
  put->footer(
      "Examples:\n  sheaf put flights flights.parquet --replace\n"
      "  sheaf put lineitem part3.parquet --part 3 --of 8\n"
      "  sheaf put lineitem all.parquet --split --part 3 --of 8");
  put->callback([=] {
    *command = [=] {
      const PartArguments& part = arguments->part;
      return part.part || part.append ? PutPart(*global, arguments->put, part)
                                      : Put(*global, arguments->put);
    };
  });
  CLI::App* get = app->add_subcommand("get", "Write a table to a file");
  AddName(get, &arguments->name);
  get->add_option(
         "-o,--output", arguments->file,
         "Its suffix says the format, as for put; it appears whole or not at all, and\n"
         "overwrites what was there")
      ->type_name("FILE")
      ->required();
  get->footer("Example:\n  sheaf get flights -o copy.csv");
  get->callback(
      [=] { *command = [=] { return Get(*global, arguments->name, arguments->file); }; });
}

void AddTableCommands(CLI::App* app, Global* global, TableArguments* arguments,
                      Command* command) {
  const auto add = [=](const char* name, const char* help) {
    CLI::App* sub = app->add_subcommand(name, help);
    AddName(sub, &arguments->name);
    return sub;
  };
  CLI::App* head = add("head", "Print the first rows of a table");
  head->add_option("-n,--rows", arguments->num_rows, "How many (10)")
      ->type_name("N")
      ->check(NumberBetween("the number of rows", 0, 1e15));
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
  wait->add_option("--timeout", arguments->timeout_seconds,
                   "How long, then the exit code is 1 (60)")
      ->type_name("SECONDS")
      ->check(NumberBetween("the timeout in seconds", 0, kTimeoutSecondsMax));
  wait->callback([=] {
    *command = [=] { return Wait(*global, arguments->name, arguments->timeout_seconds); };
  });
  CLI::App* verify = add("verify", "Check a table's data, print checksums of columns");
  verify->footer(
      "Reads all data from memory. Of a table put with --checksum every byte must be as\n"
      "it was put: the error names column, chunk, field and buffer of the first that is\n"
      "not. Every offset, index and length must lie in its bounds, and text be UTF-8.\n"
      "Else the exit code is 1. What is printed is of the values, however they are cut\n"
      "into chunks or encoded: compare it between nodes, or with another table or file\n"
      "that should hold the same.");
  verify->callback([=] { *command = [=] { return Verify(*global, arguments->name); }; });
}

void AddFaults(CLI::App* app, Global* global, Command* command) {
  CLI::App* faults =
      app->add_subcommand("faults", "List the points where a test can kill a program");
  faults->footer(
      "SHEAF_FAULT arms points in the program that is started with it:\n"
      "  <name>=<action>[@<n>], comma separated\n"
      "At the n-th pass (1) of the point the program is ended by SIGKILL (kill), "
      "stopped\n"
      "by SIGSTOP until SIGCONT (pause), or waits (delay:<ms>). A daemon has the\n"
      "SHEAF_FAULT of the `sheaf up` that started it.\n"
      "\n"
      "Example:\n"
      "  SHEAF_FAULT=client.seal.after-request=kill sheaf put flights flights.parquet");
  faults->callback([=] { *command = [=] { return Faults(*global); }; });
}

void AddGlobalOptions(CLI::App* app, Global* global) {
  app->name("sheaf");
  app->set_version_flag("--version", SHEAF_VERSION);
  app->require_subcommand(1);
  app->fallthrough();
  app->failure_message(CLI::FailureMessage::simple);
  app->get_formatter()->label("REQUIRED", "");
  app->get_formatter()->column_width(24);
  app->add_option("--cluster", global->cluster,
                  "Which cluster (default; else SHEAF_CLUSTER)")
      ->option_text("NAME")
      ->check(CheckCluster)
      ->envname("SHEAF_CLUSTER");
  // The library reads SHEAF_NODE: its error names the variable.
  app->add_option(
         "--node", global->node,
         "Through which node of this host to speak (its first;\nelse SHEAF_NODE)")
      ->type_name("K");
  app->add_flag("--json", global->json, "Print JSON");
}

// Commands would inherit a footer that was there when they were added.
void AddFooter(CLI::App* app) {
  app->footer(
      "The options above go with every command, before or after it; `sheaf put --help`\n"
      "shows those of put.\n"
      "\n"
      "Examples:\n"
      "  sheaf put flights flights.parquet    the first put starts a cluster of one "
      "node\n"
      "  sheaf head flights -n 3\n"
      "  sheaf get flights -o copy.csv\n"
      "  sheaf down                           the cluster and its tables are gone\n"
      "  sheaf up --nodes 2 --size 1GiB       nodes of one host, as if of a cluster\n"
      "  sheaf --node 1 stat flights --json   what node 1 sees\n"
      "\n"
      "Exit codes:\n"
      "  0 done; 1 error: one line on standard error says what to do; 2 wrong usage\n"
      "\n"
      "Environment:\n"
      "  SHEAF_CLUSTER, SHEAF_NODE   for --cluster and --node\n"
      "  SHEAF_HOST                  the name of this host in cluster files (uname -n)\n"
      "  SHEAF_RUNTIME_DIR           folder of sockets, locks and logs\n"
      "                              ($XDG_RUNTIME_DIR/sheaf, else /tmp/sheaf-<uid>)\n"
      "  SHEAFD                      the daemon, if neither beside sheaf nor in PATH");
}

// What the operating system said is a detail of Arrow's errors, not part of the message.
std::string Message(const arrow::Status& status) {
  const auto& detail = status.detail();
  const bool ours = dynamic_cast<const SheafStatusDetail*>(detail.get()) != nullptr;
  if (detail == nullptr || ours) return status.message();
  return status.message() + ": " + detail->ToString();
}

// A full disk shows only now: until here the output may lie in buffers.
arrow::Status FlushStandardOutput() {
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good()) {
    return arrow::Status::OK();
  }
  return arrow::Status::IOError("cannot write to standard output; is the disk full?");
}

// The word that stands where a command should, of arguments that name none.
std::optional<std::string> UnknownCommand(const CLI::App& app) {
  if (!app.get_subcommands().empty()) return std::nullopt;
  for (const std::string& argument : app.remaining()) {
    if (!argument.starts_with('-')) return argument;
  }
  return std::nullopt;
}

// Parses, and says in `command` what is to be done; or exits, after --help for example.
int Run(int argc, char** argv) {
  CLI::App app(
      "Arrow tables in memory that nodes share: put once, open anywhere, copy nothing.\n"
      "The first put, ls, nodes or wait starts a cluster; `sheaf down` ends it.");
  Global global;
  Command command;
  ClusterOptions up;
  TableArguments arguments;
  AddGlobalOptions(&app, &global);
  AddClusterCommands(&app, &global, &up, &command);
  AddPutAndGet(&app, &global, &arguments, &command);
  AddTableCommands(&app, &global, &arguments, &command);
  AddPartCommands(&app, &global, &arguments, &command);
  AddFaults(&app, &global, &command);
  AddFooter(&app);
  int code = 0;
  arrow::Status status;
  try {
    app.parse(argc, argv);
    status = command();
  } catch (const CLI::ParseError& error) {
    const auto unknown = UnknownCommand(app);
    if (error.get_exit_code() != 0 && unknown) {
      fmt::print(stderr, "sheaf: there is no command '{}'; `sheaf --help` lists them\n",
                 OneLine(*unknown));
      code = kExitUsage;
    } else if (app.exit(error) != 0) {
      code = kExitUsage;
    }
  }
  status &= FlushStandardOutput();
  if (status.ok()) return code;
  fmt::print(stderr, "sheaf: {}\n", OneLine(Message(status)));
  return code == 0 ? kExitError : code;
}

}  // namespace
}  // namespace sheaf::cli

int main(int argc, char** argv) {
  try {
    return sheaf::cli::Run(argc, argv);
  } catch (const std::exception& error) {  // of a library, such as std::bad_alloc
    std::fprintf(stderr, "sheaf: %s\n", error.what());
    return 1;
  }
}
