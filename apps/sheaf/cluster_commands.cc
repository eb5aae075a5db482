#include <cstdio>
#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>

#include "apps/sheaf/commands.h"
#include "apps/sheaf/connect.h"
#include "apps/sheaf/output.h"
#include "sheaf/cluster.h"
#include "sheaf/status.h"
#include "sheaf/store.h"

namespace sheaf::cli {
namespace {

std::string DownCommand(const std::string& cluster) {
  return cluster == "default" ? "sheaf down" : "sheaf --cluster " + cluster + " down";
}

}  // namespace

arrow::Result<std::shared_ptr<Store>> ConnectOrStart(const Global& global) {
  const ConnectOptions connect{global.cluster, global.node};
  auto store = Store::Connect(connect);
  if (!IsDisconnected(store.status())) return store;
  const auto status = GetClusterStatus(global.cluster);
  // Nodes of a cluster that does run are not started one by one.
  if (status.ok()) {
    for (const bool up : status->node_up) {
      if (up) return store;
    }
  }
  ClusterOptions options;
  options.name = global.cluster;
  auto started = StartCluster(options);
  if (!started.ok() && !started.status().IsAlreadyExists()) return started.status();
  if (started.ok()) {
    fmt::print(stderr, "sheaf: started cluster '{}' (1 node); end it with: {}\n",
               started->name, DownCommand(started->name));
  }
  return Store::Connect(connect);
}

arrow::Status Up(const Global& global, const ClusterOptions& options) {
  ARROW_ASSIGN_OR_RAISE(const ClusterStatus cluster, StartCluster(options));
  if (global.json) {
    PrintJson({{"cluster", cluster.name}, {"nodes", cluster.node_up.size()}});
    return arrow::Status::OK();
  }
  const size_t nodes = cluster.node_up.size();
  fmt::print("cluster '{}' is up: {} node{}; end it with: {}\n", cluster.name, nodes,
             nodes == 1 ? "" : "s", DownCommand(cluster.name));
  return arrow::Status::OK();
}

arrow::Status Down(const Global& global) {
  ARROW_ASSIGN_OR_RAISE(const std::string name, ResolveClusterName(global.cluster));
  ARROW_RETURN_NOT_OK(StopCluster(name));
  if (global.json) {
    PrintJson({{"cluster", name}, {"state", "down"}});
  } else {
    fmt::print("cluster '{}' is down\n", name);
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
                   {"BACKEND"},
                   {"COHERENCE"},
                   {"PAGE", Align::kRight},
                   {"SIZE", Align::kRight},
                   {"USED", Align::kRight},
                   {"FREE", Align::kRight},
                   {"TABLES", Align::kRight},
                   {"SESSIONS", Align::kRight}});
  for (const NodeInfo& node : nodes) {
    table.AddRow({std::to_string(node.id), node.state, node.backend, node.coherence,
                  HumanBytes(node.page_bytes), HumanBytes(node.size_bytes),
                  HumanBytes(node.used_bytes), HumanBytes(node.free_bytes),
                  std::to_string(node.objects), std::to_string(node.sessions)});
  }
  fmt::print("{}", table.ToString());
  return arrow::Status::OK();
}

}  // namespace sheaf::cli
