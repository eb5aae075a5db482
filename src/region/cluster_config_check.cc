// What a cluster file may say.

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <system_error>

#include <arrow/status.h>

#include "base/etcd_access.h"
#include "base/math.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "region/cluster_config.h"
#include "region/device_window.h"
#include "region/etcd_config.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

/// A UNIX socket address holds 108 bytes, one of them the terminator.
constexpr size_t kSocketPathMax = 107;
constexpr uint64_t kPageBytes = 4096;  // Of the control part's arrays.
/// One hour: beyond it a typing error is likelier than a slow fabric.
constexpr int64_t kPostedDelayMaxUs = 3'600'000'000;
constexpr int kEtcdTimeToLiveMaxS = 3600;

arrow::Status CheckRange(const char* key, uint64_t value, uint64_t min, uint64_t max) {
  if (value >= min && value <= max) return arrow::Status::OK();
  return arrow::Status::Invalid(key, ": ", value, " is not in ", min, " .. ", max);
}

arrow::Status CheckMultiple(const char* key, uint64_t value, uint64_t unit) {
  if (value != 0 && IsAligned(value, unit)) return arrow::Status::OK();
  return arrow::Status::Invalid(key, ": ", FormatSize(value),
                                " is not a positive multiple of ", FormatSize(unit));
}

arrow::Status CheckFolder(const char* key, const std::string& folder) {
  if (!folder.empty() && folder[0] == '/') return arrow::Status::OK();
  return arrow::Status::Invalid(key, ": '", folder, "' must be an absolute path");
}

arrow::Status CheckNodeIds(const ClusterConfig& config) {
  for (size_t i = 0; i < config.node_tables.size(); ++i) {
    const uint32_t id = config.node_tables[i].id;
    if (id < config.nodes_max) continue;
    return arrow::Status::Invalid("node[", i, "].id: ", id, " is not below nodes_max (",
                                  config.nodes_max, ")");
  }
  return arrow::Status::OK();
}

arrow::Status CheckCounts(const ClusterConfig& config) {
  ARROW_RETURN_NOT_OK(CheckRange("nodes_max", config.nodes_max, 1, format::kNodesMax));
  ARROW_RETURN_NOT_OK(
      CheckNodeIds(config));  // before `nodes`, which may follow from them
  ARROW_RETURN_NOT_OK(CheckRange("nodes", config.nodes, 1, config.nodes_max));
  ARROW_RETURN_NOT_OK(CheckRange("slots_max", config.slots_max, 1, format::kSlotsMax));
  ARROW_RETURN_NOT_OK(
      CheckRange("lease_pages_max", config.lease_pages_max, 1, uint64_t{1} << 20));
  ARROW_RETURN_NOT_OK(
      CheckRange("heartbeat_ms", static_cast<uint64_t>(config.heartbeat_ms), 1, 60'000));
  ARROW_RETURN_NOT_OK(CheckRange("suspect_samples",
                                 static_cast<uint64_t>(config.suspect_samples), 2, 1000));
  // A sample must have a beat in it; one that comes late restarts the count.
  const int sample_ms = std::max(config.heartbeat_ms, kMembershipPeriodMs);
  ARROW_RETURN_NOT_OK(CheckRange(
      "suspect_after_ms", static_cast<uint64_t>(config.suspect_after_ms),
      static_cast<uint64_t>(sample_ms) * static_cast<uint64_t>(config.suspect_samples),
      3'600'000));
  return CheckRange("posted_delay_us", static_cast<uint64_t>(config.posted_delay_us), 0,
                    kPostedDelayMaxUs);
}

arrow::Status CheckSizes(const ClusterConfig& config) {
  ARROW_RETURN_NOT_OK(
      CheckMultiple("segment_size", config.segment_size_bytes, format::kExtentBytes));
  ARROW_RETURN_NOT_OK(CheckRange("segment_size", config.segment_size_bytes,
                                 format::kExtentBytes, kAddressEnd));
  ARROW_RETURN_NOT_OK(
      CheckMultiple("records_size", config.records_size_bytes, kPageBytes));
  ARROW_RETURN_NOT_OK(
      CheckRange("records_size", config.records_size_bytes, kPageBytes, kAddressEnd));
  if (!IsAligned(config.base_address, format::kExtentBytes) ||
      config.segment_size_bytes > config.segment_size_bytes_max()) {
    return arrow::Status::Invalid("base_address: ", config.base_address,
                                  " must be a multiple of 2 MiB with room for ",
                                  config.nodes, " segments of ",
                                  FormatSize(config.segment_size_bytes), " below 2^47");
  }
  return arrow::Status::OK();
}

/// "host:port", of a name or an IPv4 address; "[::1]:port" of IPv6.
arrow::Status CheckAddress(const std::string& key, const std::string& address) {
  if (address.empty()) return arrow::Status::OK();
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  if (colon != std::string::npos && colon > 0) {
    const char* end = address.data() + address.size();
    const auto parsed = std::from_chars(address.data() + colon + 1, end, port);
    if (parsed.ec == std::errc() && parsed.ptr == end && port > 0 && port <= 65535) {
      return arrow::Status::OK();
    }
  }
  return arrow::Status::Invalid(key, ": '", address,
                                "' is not as \"host:port\" with a port of 1 to 65535");
}

arrow::Status CheckMessages(const ClusterConfig& config) {
  ARROW_RETURN_NOT_OK(
      CheckRange("spin_us", static_cast<uint64_t>(config.spin_us), 0, 1'000'000));
  if (config.messages != Messages::kSockets || !config.NamesHosts()) {
    return arrow::Status::OK();
  }
  std::set<std::string> hosts;
  for (const NodeConfig& node : config.node_tables) {
    if (!node.host.empty()) hosts.insert(node.host);
  }
  if (hosts.size() < 2) return arrow::Status::OK();
  return arrow::Status::Invalid(
      "messages: \"sockets\" reach no other host, and nodes are on ", hosts.size(),
      ": leave it out, or say \"rings\"");
}

arrow::Status CheckNodeTables(const ClusterConfig& config) {
  std::set<uint32_t> ids;
  for (size_t i = 0; i < config.node_tables.size(); ++i) {
    const NodeConfig& node = config.node_tables[i];
    const std::string key = "node[" + std::to_string(i) + "].";
    if (node.id >= config.nodes) {
      return arrow::Status::Invalid(key, "id: ", node.id,
                                    " of a cluster with nodes 0 to ", config.nodes - 1);
    }
    if (!ids.insert(node.id).second) {
      return arrow::Status::Invalid(key, "id: there are two tables for node ", node.id);
    }
    ARROW_RETURN_NOT_OK(CheckAddress(key + "address", node.address));
    const uint64_t size_bytes = node.segment_size_bytes;
    if (size_bytes == 0) continue;
    ARROW_RETURN_NOT_OK(
        CheckMultiple((key + "size").c_str(), size_bytes, format::kExtentBytes));
    if (size_bytes > config.segment_size_bytes) {
      return arrow::Status::Invalid(
          key, "size: ", FormatSize(size_bytes), " is more than segment_size, ",
          FormatSize(config.segment_size_bytes), ", which is the most that a node has");
    }
  }
  return arrow::Status::OK();
}

arrow::Status CheckFolders(const ClusterConfig& config) {
  if (config.memory_folder.empty()) {
    return arrow::Status::Invalid("memory_folder: backend ", ToString(config.backend),
                                  " needs one: say where with --folder, or with this key "
                                  "of the cluster file");
  }
  ARROW_RETURN_NOT_OK(CheckFolder("memory_folder", config.memory_folder));
  ARROW_RETURN_NOT_OK(CheckFolder("runtime_folder", config.runtime_folder));
  const std::string longest = config.socket_path(NodeId{config.nodes_max - 1});
  if (longest.size() <= kSocketPathMax) return arrow::Status::OK();
  return arrow::Status::Invalid(
      "runtime_folder: socket path ", longest, " has ", longest.size(),
      " bytes, at most ", kSocketPathMax,
      " are possible: choose a shorter name or set SHEAF_RUNTIME_DIR");
}

arrow::Status CheckSim(const ClusterConfig& config) {
  if (config.sim.line_bytes != 64 && config.sim.line_bytes != 128) {
    return arrow::Status::Invalid("sim.line_bytes: ", config.sim.line_bytes,
                                  " is neither 64 nor 128");
  }
  if (config.backend != Backend::kSim) return arrow::Status::OK();
  const auto wanted = config.sim.posted ? platform::SettleClass::kPosted
                                        : platform::SettleClass::kArrived;
  if (config.coherence == Coherence::kSoftware && config.settle_class == wanted) {
    return arrow::Status::OK();
  }
  return arrow::Status::Invalid("settle_class: backend sim with sim.posted = ",
                                config.sim.posted ? "true" : "false",
                                " has coherence \"software\" and settle class \"",
                                ToString(wanted), "\"");
}

arrow::Status CheckGroups(const ClusterConfig& config) {
  if (config.backend != Backend::kSim || config.socket_group().empty()) {
    return arrow::Status::OK();
  }
  return arrow::Status::Invalid(
      config.group.empty() ? "group_write" : "group",
      ": backend sim is for its own user: who reads from the simulator writes to the "
      "files of its node");
}

arrow::Status CheckEtcd(const EtcdConfig& etcd) {
  if (etcd.time_to_live_s < 1 || etcd.time_to_live_s > kEtcdTimeToLiveMaxS) {
    return arrow::Status::Invalid("etcd.time_to_live_s: ", etcd.time_to_live_s,
                                  " is not in 1 .. ", kEtcdTimeToLiveMaxS);
  }
  if (etcd.prefix.ends_with('/')) {
    return arrow::Status::Invalid("etcd.prefix: '", etcd.prefix, "' ends with '/'");
  }
  const EtcdAccess& access = etcd.access;
  if (access.tls.cert_file.empty() != access.tls.key_file.empty()) {
    return arrow::Status::Invalid(
        "etcd.cert_file: a certificate needs a key (etcd.key_file), and a key it");
  }
  if (access.user.empty() != access.password_file.empty()) {
    return arrow::Status::Invalid(
        "etcd.user: a user of etcd needs a password (etcd.password_file), and a "
        "password one");
  }
  if (!access.password_file.empty() && !access.password_file.starts_with('/')) {
    return arrow::Status::Invalid("etcd.password_file: '", access.password_file,
                                  "' is not an absolute path");
  }
  if (!etcd.fence_command.empty() && !etcd.fence_command.starts_with('/')) {
    return arrow::Status::Invalid("etcd.fence_command: '", etcd.fence_command,
                                  "' is not an absolute path");
  }
  return arrow::Status::OK();
}

}  // namespace

arrow::Status ClusterConfig::CheckCoherence() const {
  if (backend != Backend::kSim || coherence == Coherence::kSoftware) {
    return arrow::Status::OK();
  }
  return arrow::Status::Invalid(
      "coherence: backend sim has coherence \"software\": it "
      "simulates memory that is not coherent between nodes");
}

arrow::Status ClusterConfig::Validate() const {
  ARROW_RETURN_NOT_OK(CheckClusterName(name));
  ARROW_RETURN_NOT_OK(CheckCounts(*this));
  ARROW_RETURN_NOT_OK(CheckSizes(*this));
  ARROW_RETURN_NOT_OK(CheckNodeTables(*this));
  ARROW_RETURN_NOT_OK(CheckMessages(*this));
  ARROW_RETURN_NOT_OK(CheckWindows(*this));
  ARROW_RETURN_NOT_OK(CheckFolders(*this));
  ARROW_RETURN_NOT_OK(CheckGroups(*this));
  ARROW_RETURN_NOT_OK(CheckEtcd(etcd));
  return CheckSim(*this);
}

}  // namespace sheaf::region
