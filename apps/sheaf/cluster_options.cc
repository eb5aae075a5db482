#include "apps/sheaf/cluster_options.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "apps/sheaf/commands.h"
#include "apps/sheaf/output.h"
#include "region/cluster_config.h"
#include "sheaf/cluster.h"

namespace sheaf::cli {
namespace {

// In help there is a name for what is expected; what is allowed stands in the text.
CLI::Validator Unnamed(const CLI::Validator& validator) {
  return validator.description("");
}

// As the cluster file spells it, fractions included. What that does not know is left to
// CLI11, which knows "4g" too.
std::string SizeAsBytes(std::string& text) {
  if (const auto size_bytes = region::ParseSize(text); size_bytes.ok()) {
    text = std::to_string(*size_bytes);
    return "";
  }
  std::string refusal =
      fmt::format("must be a size such as 512MiB, 4.5GiB or bytes, got '{}'", text);
  try {
    std::string bytes = text;
    if (text.starts_with('-') || !CLI::AsSizeValue(false)(bytes).empty()) return refusal;
    text = bytes;
    return "";
  } catch (const CLI::ValidationError&) {  // what it cannot read
    return refusal;
  }
}

void AddSize(CLI::App* add, const char* name, std::optional<uint64_t>* size_bytes,
             const char* help) {
  CLI::Validator validator("");
  validator.operation(SizeAsBytes);
  add->add_option(name, *size_bytes, help)->type_name("SIZE")->transform(validator);
}

// What the options alone rule out. A configuration has limits of its own.
void CheckUp(const ClusterOptions& up) {
  if (up.size_bytes == 0) throw CLI::ValidationError("--size", "must be more than 0");
  if (!up.config_file.empty()) return;
  region::ClusterConfig config;
  if (up.nodes) config.nodes = *up.nodes;
  if (config.nodes > config.nodes_max) {
    throw CLI::ValidationError(
        "--nodes", fmt::format("{} is more than {}; for more set nodes_max in a "
                               "configuration (--config)",
                               config.nodes, config.nodes_max));
  }
  if (up.size_bytes && *up.size_bytes > config.segment_size_bytes_max()) {
    throw CLI::ValidationError(
        "--size",
        fmt::format("{} is more than {}, the most a node can have with --nodes {}",
                    HumanBytes(*up.size_bytes),
                    HumanBytes(config.segment_size_bytes_max()), config.nodes));
  }
}

void AddUpOptions(CLI::App* add, ClusterOptions* up) {
  add->add_option(
         "--nodes", up->nodes,
         "Nodes, each with a daemon and memory of its own (1); at most nodes_max\n"
         "of the configuration (64)")
      ->type_name("N")
      ->check(Unnamed(CLI::Range(1, 4096)));
  AddSize(add, "--size", &up->size_bytes,
          "Memory of each node, such as 512MiB or 4.5GiB, rounded up to 2 MiB (4GiB)");
  add->add_option(
         "--backend", up->backend,
         "shm: shared memory of this host; file: files in --folder; sim: a simulator\n"
         "of memory that is not coherent between nodes (shm)")
      ->type_name("KIND")
      ->check(Unnamed(CLI::IsMember({"shm", "file", "sim"})));
  add->add_option(
         "--coherence", up->coherence,
         "coherent: hardware keeps nodes coherent; software: cache lines are flushed\n"
         "and invalidated (coherent)")
      ->type_name("KIND")
      ->check(Unnamed(CLI::IsMember({"coherent", "software"})));
  add->add_option(
         "--messages", up->messages,
         "Between daemons; sockets: of this host; rings: in the memory (sockets)")
      ->type_name("KIND")
      ->check(Unnamed(CLI::IsMember({"sockets", "rings"})));
  add->add_option("--folder", up->folder,
                  "Where the memory's files go; backend file needs one")
      ->type_name("FOLDER");
  add->add_option("--group", up->group,
                  "Group of this host that may read; its members set SHEAF_RUNTIME_DIR\n"
                  "to the folder that is printed")
      ->type_name("GROUP");
  add->add_option("--group-write", up->group_write,
                  "Group that may read and write: trusted not to be hostile")
      ->type_name("GROUP");
  AddSize(add, "--session-quota", &up->session_quota_bytes,
          "What one session may hold of each node's memory (all)");
  AddSize(add, "--user-quota", &up->user_quota_bytes,
          "What one user may hold of each node's memory, tables included (all)");
  add->add_flag(
      "--prealloc", up->prealloc,
      "Allocate all memory now, not when it is needed; fails if it does not fit");
  add->add_option(
         "--config", up->config_file,
         "Configuration in TOML, with the keys of docs/configuration.md: all of\n"
         "the above, and sizes of tables and slots, addresses, the simulator.\n"
         "Options of this command win over it")
      ->type_name("FILE")
      ->check(Unnamed(CLI::ExistingFile));
  add->footer(
      "Examples:\n"
      "  sheaf up --nodes 2 --size 1GiB\n"
      "  sheaf --cluster big up --config big.toml\n"
      "  sheaf up --backend file --folder /mnt/famfs --coherence software");
}

void AddFormat(CLI::App* app, Global* global, Command* command) {
  CLI::App* format = app->add_subcommand("format",
                                         "Make the segment of --node K in its device, "
                                         "empty; its daemon, which does the same\n"
                                         "where nothing is, must not run");
  auto arguments = std::make_shared<FormatArguments>();
  format->add_option("--config", arguments->config_file, "The cluster's file")
      ->type_name("FILE")
      ->required();
  format->add_flag(
      "--force", arguments->force,
      "Whatever is there now: tables, or bytes of somebody else. It is lost");
  format->callback([=] {
    *command = [=] {
      arguments->node = global->node.value_or(0);
      return Format(*global, *arguments);
    };
  });
}

void AddNodes(CLI::App* app, Global* global, Command* command) {
  CLI::App* nodes = app->add_subcommand("nodes", "List the nodes and what they hold");
  nodes->footer(
      "STATE, as this node sees it:\n"
      "  up         reads, and takes tables\n"
      "  joining    has come up, and does not count yet\n"
      "  withdrawn  was silent for long: what it holds stays until it is back\n"
      "  off        was forgotten (sheaf node forget): what it read keeps nothing\n"
      "  down       ended on purpose, or was never started\n"
      "What lies there can be read in every state, as long as the memory can.\n"
      "\n"
      "CATALOG: who leads gives the names. INCARNATION counts the node's boots, and its\n"
      "returns after it was withdrawn or off; in JSON the format epoch of its memory is\n"
      "the high half. HEARTBEAT: when this node last saw the other's heart beat.\n"
      "\n"
      "OBJECTS are tables, parts that wait for others, lists of such parts, what "
      "programs\n"
      "share without a name, and what was removed and is still read; `sheaf ls` lists\n"
      "tables.");
  nodes->callback([=] { *command = [=] { return Nodes(*global); }; });
}

}  // namespace

void AddClusterCommands(CLI::App* app, Global* global, ClusterOptions* up,
                        Command* command) {
  CLI::App* add = app->add_subcommand("up", "Start a cluster on this host");
  AddUpOptions(add, up);
  add->callback([=] {
    CheckUp(*up);
    *command = [=] {
      up->name = global->cluster;
      return Up(*global, *up);
    };
  });
  CLI::App* down =
      app->add_subcommand("down", "End the cluster; its memory and tables are gone");
  auto keep = std::make_shared<bool>(false);
  CLI::Option* keep_option = down->add_flag(
      "--keep", *keep, "Leave memory and tables as they are for the next `sheaf up`");
  auto force = std::make_shared<bool>(false);
  down->add_flag(
      "--force", *force,
      "With devices, or nodes on several hosts: do not ask who uses the memory\n"
      "on other hosts. End the clients there first: what they read is wrong then");
  keep_option->excludes(down->get_option("--force"));
  down->callback([=] { *command = [=] { return Down(*global, *keep, *force); }; });
  AddNodes(app, global, command);
  CLI::App* fsck = app->add_subcommand(
      "fsck",
      "Check every structure in the memory of a cluster that is down (down --keep), or\n"
      "of --node K; changes nothing without --repair");
  auto repair = std::make_shared<bool>(false);
  fsck->add_flag(
      "--repair", *repair,
      "Take what is damaged out of use: those tables are gone, all others and\n"
      "all other memory can be used again");
  fsck->callback([=] { *command = [=] { return Fsck(*global, *repair); }; });
  CLI::App* doctor = app->add_subcommand(
      "doctor",
      "Say what this machine offers, and what is wrong with it, with the daemons or\n"
      "with the memory of a cluster that is up; changes nothing, starts nothing");
  auto asked = std::make_shared<DoctorArguments>();
  doctor
      ->add_option("--device", asked->device,
                   "Also look at this device: /dev/daxX.Y, or resource2 of a PCI\n"
                   "function in sysfs")
      ->type_name("PATH");
  doctor
      ->add_option("--config", asked->config_file,
                   "Also look at the devices that this cluster file names, and at what\n"
                   "carries messages there")
      ->type_name("FILE");
  doctor->callback([=] { *command = [=] { return Doctor(*global, *asked); }; });
  AddFormat(app, global, command);
  CLI::App* node = app->add_subcommand("node", "Say something about one node");
  node->require_subcommand(1);
  CLI::App* forget = node->add_subcommand(
      "forget",
      "Node K is powered off, or cut from the memory, for good: what it read keeps no\n"
      "table any more. Say it of a node that lives and its readers see wrong bytes");
  auto number = std::make_shared<uint32_t>(0);
  forget->add_option("K", *number, "Number of the node")->required();
  forget->callback([=] { *command = [=] { return ForgetNode(*global, *number); }; });
}

}  // namespace sheaf::cli
