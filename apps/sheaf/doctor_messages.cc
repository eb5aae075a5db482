#include "apps/sheaf/doctor_messages.h"

#include <sys/socket.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include <fmt/format.h>

#include "apps/sheaf/output.h"
#include "daemon/doorbell.h"
#include "format/layout.h"
#include "platform/datagram.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::cli {
namespace {

std::string KindText(daemon::BellKind kind) {
  switch (kind) {
    case daemon::BellKind::kUnix:
      return "unix";
    case daemon::BellKind::kUdp:
      return "udp";
    case daemon::BellKind::kNone:
      return "none";
  }
  return "";
}

std::string TransportText(const region::ClusterConfig& config) {
  if (config.messages_kind() == region::Messages::kSockets) {
    return "UNIX sockets: between nodes of this host alone";
  }
  return fmt::format("rings in the nodes' memory, {} for each two that talk; {}",
                     HumanBytes(2 * format::kRingBytes),
                     config.spin_us == 0
                         ? "a daemon sleeps until its doorbell rings"
                         : fmt::format("a daemon looks for {} us before it sleeps until "
                                       "its doorbell rings",
                                       config.spin_us));
}

/// Doorbells of one cluster, node by node.
class Doorbells {
 public:
  explicit Doorbells(const region::ClusterConfig& config) : config_(config) {}

  void Add(NodeId node, MessagesReport* report) {
    const daemon::BellKind kind = daemon::BellKindOf(config_, node);
    const std::string address = config_.address_of(node);
    report->facts.emplace_back(fmt::format("doorbell of node {}", node.value),
                               TextOf(node, kind));
    report->json["doorbells"].push_back(
        {{"node", node.value}, {"kind", KindText(kind)}, {"address", address}});
    if (!address.empty()) CheckAddress(node, address, report);
  }

 private:
  std::string TextOf(NodeId node, daemon::BellKind kind) const {
    const std::string address = config_.address_of(node);
    switch (kind) {
      case daemon::BellKind::kUnix:
        return address.empty()
                   ? "UNIX socket; other hosts cannot ring it"
                   : fmt::format("UNIX socket; other hosts ring it at {} (UDP)", address);
      case daemon::BellKind::kUdp:
        return address + " (UDP)";
      case daemon::BellKind::kNone:
        return "none: without an `address` it looks for messages every millisecond";
    }
    return "";
  }

  // One of either kind cannot be rung from a socket of the other.
  void CheckAddress(NodeId node, const std::string& text, MessagesReport* report) {
    const auto address = platform::UdpAddress(text);
    if (!address.ok()) {
      report->problems.push_back(
          fmt::format("nobody can ring the doorbell of node {}: {}: what is sent to it "
                      "waits until it looks by itself",
                      node.value, address.status().message()));
      return;
    }
    const int family = address->storage.ss_family;
    if (first_.family == AF_UNSPEC) {
      first_ = {node, family};
    } else if (first_.family != family) {
      report->problems.push_back(fmt::format(
          "nodes {} and {} cannot ring each other: `address` of one is of IPv4, that of "
          "the other of IPv6",
          first_.node.value, node.value));
    }
  }

  struct First {
    NodeId node;
    int family = AF_UNSPEC;  ///< None yet.
  };
  const region::ClusterConfig& config_;
  First first_;
};

}  // namespace

MessagesReport LookAtMessages(const region::ClusterConfig& config) {
  MessagesReport report;
  report.facts.emplace_back("messages", TransportText(config));
  report.json = {{"transport", region::ToString(config.messages_kind())}};
  if (config.messages_kind() != region::Messages::kRings) return report;
  report.json["spin_us"] = config.spin_us;
  report.json["doorbells"] = Json::array();
  Doorbells doorbells(config);
  for (uint32_t k = 0; k < config.nodes; ++k) doorbells.Add({k}, &report);
  return report;
}

std::string DoorbellProblem(const region::ClusterConfig& config, NodeId node) {
  const std::string path = config.doorbell_path(node);
  if (config.messages_kind() != region::Messages::kRings ||
      std::filesystem::exists(path)) {
    return "";
  }
  return fmt::format(
      "the doorbell of node {} is gone: {}: messages wait until its daemon looks by "
      "itself; end that daemon, then: sheaf up",
      node.value, path);
}

}  // namespace sheaf::cli
