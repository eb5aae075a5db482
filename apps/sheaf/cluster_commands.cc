#include <signal.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/cancel.h>
#include <fmt/format.h>

#include "apps/sheaf/commands.h"
#include "apps/sheaf/connect.h"
#include "apps/sheaf/etcd_check.h"
#include "apps/sheaf/output.h"
#include "client/cluster_files.h"
#include "region/cluster_config.h"
#include "sheaf/cluster.h"
#include "sheaf/status.h"
#include "sheaf/store.h"

namespace sheaf::cli {
namespace {

std::string DownCommand(const std::string& cluster) {
  return cluster == "default" ? "sheaf down" : "sheaf --cluster " + cluster + " down";
}

/// Counts from 1 since the segment was formatted, which the high half tells.
uint32_t ShortIncarnation(const NodeInfo& node) {
  return static_cast<uint32_t>(node.incarnation);
}

std::string NodesText(const ClusterStatus& cluster) {
  const size_t nodes = cluster.nodes.size();
  return fmt::format("{} node{}", nodes, nodes == 1 ? "" : "s");
}

/// While one lives, the signals that end a program ask its token for a stop instead: a
/// cluster is started as a whole or not at all. One at a time.
class StopOnSignals {
 public:
  StopOnSignals() {
    source = &stop_;
    struct sigaction stop = {};
    stop.sa_handler = [](int number) { source->RequestStopFromSignal(number); };
    for (size_t i = 0; i < kSignals.size(); ++i) {
      ::sigaction(kSignals[i], nullptr, &before_[i]);
      if (before_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &stop, nullptr);
    }
  }
  ~StopOnSignals() {
    for (size_t i = 0; i < kSignals.size(); ++i) {
      ::sigaction(kSignals[i], &before_[i], nullptr);
    }
  }
  StopOnSignals(const StopOnSignals&) = delete;
  StopOnSignals& operator=(const StopOnSignals&) = delete;

  arrow::StopToken token() { return stop_.token(); }

 private:
  static constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP};
  static inline arrow::StopSource* source = nullptr;  ///< For the handler.
  arrow::StopSource stop_;
  std::array<struct sigaction, kSignals.size()> before_ = {};
};

arrow::Result<ClusterStatus> StartOrStop(ClusterOptions options) {
  StopOnSignals stop;
  options.stop_token = stop.token();
  return StartCluster(options);
}

arrow::Result<ClusterStatus> Start(const ClusterOptions& options) {
  ARROW_ASSIGN_OR_RAISE(ClusterStatus started, StartOrStop(options));
  const auto warn = [](const std::string& text) {
    if (!text.empty()) fmt::print(stderr, "sheaf: warning: {}\n", OneLine(text));
  };
  warn(started.warning);
  // Its daemons say it only in their logs.
  ARROW_ASSIGN_OR_RAISE(const region::ClusterConfig config, LoadConfig(started.name));
  warn(EtcdError(config.etcd));
  return started;
}

}  // namespace

arrow::Result<std::shared_ptr<Store>> ConnectOrStart(const Global& global) {
  const ConnectOptions connect{global.cluster, global.node};
  auto store = Store::Connect(connect);
  if (!IsDisconnected(store.status())) return store;
  const auto status = GetClusterStatus(global.cluster);
  ClusterOptions options;
  options.name = global.cluster;
  if (status.ok()) {
    // Nodes of a cluster that does run are not started one by one.
    if (std::ranges::any_of(status->nodes, &LocalNode::is_up)) return store;
    options.config_file = region::ClusterFilePath(status->name);
  }
  const auto started = Start(options);
  if (started.status().IsAlreadyExists()) {
    // Another command was faster; or the memory is another cluster's.
    store = Store::Connect(connect);
    return IsDisconnected(store.status()) ? started.status() : store;
  }
  ARROW_RETURN_NOT_OK(started.status());
  if (started->was_up) return Store::Connect(connect);  // another command was faster
  const char* what = "started";
  const char* tables = "";
  if (started->kept) {
    what = "restarted";
    tables = " with the tables that were in it";
  } else if (status.ok()) {
    what = "restarted";
    tables = " as it was: its daemons had ended, and its tables are gone";
  }
  fmt::print(stderr, "sheaf: {} cluster '{}' ({}){}; end it with: {}\n", what,
             started->name, NodesText(*started), tables, DownCommand(started->name));
  return Store::Connect(connect);
}

arrow::Result<std::shared_ptr<Store>> ConnectOrRestart(const Global& global) {
  auto store = Store::Connect({global.cluster, global.node});
  if (!IsDisconnected(store.status())) return store;
  if (!LoadConfig(global.cluster).status().IsKeyError()) return ConnectOrStart(global);
  ARROW_ASSIGN_OR_RAISE(const std::string name, ResolveClusterName(global.cluster));
  return store.status().WithMessage(
      "no cluster '", name,
      "' runs on this host, so it has no tables; sheaf put starts one; another one is "
      "named with --cluster or SHEAF_CLUSTER");
}

arrow::Status Up(const Global& global, const ClusterOptions& options) {
  ARROW_ASSIGN_OR_RAISE(const ClusterStatus cluster, Start(options));
  if (global.json) {
    PrintJson({{"cluster", cluster.name},
               {"nodes", cluster.nodes.size()},
               {"kept", cluster.kept},
               {"was_up", cluster.was_up}});
    return arrow::Status::OK();
  }
  PrintText(fmt::format("cluster '{}' {} up: {}{}; end it with: {}\n", cluster.name,
                        cluster.was_up ? "was already" : "is", NodesText(cluster),
                        cluster.kept ? ", with the tables that were in it" : "",
                        DownCommand(cluster.name)));
  ARROW_ASSIGN_OR_RAISE(const region::ClusterConfig config, LoadConfig(cluster.name));
  for (const auto& [group, verb] :
       {std::pair(config.group, "reads"), std::pair(config.group_write, "writes")}) {
    if (group.empty()) continue;
    PrintText(fmt::format("group '{}' {} with: SHEAF_RUNTIME_DIR={}\n", group, verb,
                          region::RuntimeRoot()));
  }
  return arrow::Status::OK();
}

arrow::Status Down(const Global& global, bool keep, bool force) {
  ARROW_ASSIGN_OR_RAISE(const std::string name, ResolveClusterName(global.cluster));
  ARROW_RETURN_NOT_OK(StopCluster(name, {.keep = keep, .force = force}));
  if (global.json) {
    PrintJson({{"cluster", name}, {"state", "down"}, {"kept", keep}});
  } else {
    PrintText(fmt::format("cluster '{}' is down{}\n", name,
                          keep ? "; its tables stay for the next `sheaf up`" : ""));
  }
  return arrow::Status::OK();
}

arrow::Status Nodes(const Global& global) {
  ARROW_ASSIGN_OR_RAISE(auto store, ConnectOrStart(global));
  ARROW_ASSIGN_OR_RAISE(const auto nodes, store->Nodes());
  if (global.json) {
    Json array = Json::array();
    for (const NodeInfo& node : nodes) array.push_back(ToJson(node));
    PrintJson(array);
    return arrow::Status::OK();
  }
  TextTable table({{"NODE", Align::kRight},
                   {"STATE"},
                   {"CATALOG"},
                   {"INCARNATION", Align::kRight},
                   {"HEARTBEAT", Align::kRight},
                   {"BACKEND"},
                   {"COHERENCE"},
                   {"PAGE", Align::kRight},
                   {"SIZE", Align::kRight},
                   {"USED", Align::kRight},
                   {"FREE", Align::kRight},
                   {"OBJECTS", Align::kRight},
                   {"SESSIONS", Align::kRight}});
  for (const NodeInfo& node : nodes) {
    const std::string heartbeat =
        node.heartbeat_age_ms
            ? fmt::format("{:.1f} s ago",
                          static_cast<double>(*node.heartbeat_age_ms) / 1e3)
            : "";
    table.AddRow({std::to_string(node.id), node.state, node.is_leader ? "leads" : "",
                  std::to_string(ShortIncarnation(node)), heartbeat, node.backend,
                  node.coherence, HumanBytes(node.page_bytes),
                  HumanBytes(node.size_bytes), HumanBytes(node.used_bytes),
                  HumanBytes(node.free_bytes), std::to_string(node.objects),
                  std::to_string(node.sessions)});
  }
  PrintText(table.ToString());
  return arrow::Status::OK();
}

arrow::Status ForgetNode(const Global& global, uint32_t node) {
  ARROW_ASSIGN_OR_RAISE(auto store, Store::Connect({global.cluster, global.node}));
  ARROW_RETURN_NOT_OK(store->ForgetNode(node));
  if (global.json) {
    PrintJson({{"node", node}, {"state", "off"}});
  } else {
    PrintText(fmt::format("node {} is forgotten: what it held comes back\n", node));
  }
  return arrow::Status::OK();
}

arrow::Status Format(const Global& global, const FormatArguments& arguments) {
  if (!global.node) {
    return arrow::Status::Invalid("say which node with --node K: its segment is made");
  }
  ARROW_RETURN_NOT_OK(
      client::FormatNode(arguments.config_file, {arguments.node}, arguments.force));
  if (global.json) {
    PrintJson({{"node", arguments.node}});
  } else {
    PrintText(fmt::format("node {}: its segment is made, and empty\n", arguments.node));
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::cli
