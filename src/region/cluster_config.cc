#include "region/cluster_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "platform/process.h"
#include "region/device_window.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

/// A UNIX socket address holds 108 bytes, one of them the terminator.
constexpr size_t kSocketPathMax = 107;
constexpr size_t kNameSizeMax = 64;
constexpr uint64_t kPageBytes = 4096;  // Of the control part's arrays.
/// User space of x86-64 and of AArch64 and POWER with their usual page tables.
constexpr uint64_t kAddressEnd = uint64_t{1} << 47;
/// One hour: beyond it a typing error is likelier than a slow fabric.
constexpr int kEtcdTimeToLiveMaxS = 3600;
constexpr int64_t kPostedDelayMaxUs = 3'600'000'000;

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         c == '-' || c == '_' || c == '.';
}

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

arrow::Status CheckCounts(const ClusterConfig& config) {
  ARROW_RETURN_NOT_OK(CheckRange("nodes_max", config.nodes_max, 1, format::kNodesMax));
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
  if (config.socket_group().empty()) return arrow::Status::OK();
  const char* key = config.group.empty() ? "group_write" : "group";
  if (config.UsesDevices()) {
    return arrow::Status::Invalid(
        key,
        ": whoever may open a device reads and writes all of it: a cluster on "
        "devices is for its own user");
  }
  if (config.backend != Backend::kSim) return arrow::Status::OK();
  return arrow::Status::Invalid(
      key,
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
  if (etcd.cert_file.empty() != etcd.key_file.empty()) {
    return arrow::Status::Invalid(
        "etcd.cert_file: a certificate needs a key (etcd.key_file), and a key it");
  }
  if (!etcd.fence_command.empty() && !etcd.fence_command.starts_with('/')) {
    return arrow::Status::Invalid("etcd.fence_command: '", etcd.fence_command,
                                  "' is not an absolute path");
  }
  return arrow::Status::OK();
}

struct Unit {
  const char* name;
  uint32_t shift;
};
/// Six digits behind the point; a TiB times that fits in 64 bits.
constexpr uint64_t kFractionScaleMax = 1'000'000;
constexpr std::array<Unit, 5> kUnits = {
    {{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}}};

std::string EnvironmentOr(const char* name, std::string otherwise) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): none sets it
  return value != nullptr && *value != '\0' ? std::string(value) : std::move(otherwise);
}

template <typename Enum, size_t Count>
arrow::Result<Enum> ParseEnum(std::string_view text,
                              const std::array<Enum, Count>& values) {
  std::string names;
  for (const Enum value : values) {
    if (text == ToString(value)) return value;
    names += std::string(names.empty() ? "" : ", ") + ToString(value);
  }
  return arrow::Status::Invalid("'", text, "' is none of ", names);
}

}  // namespace

uint64_t ClusterConfig::segment_size_bytes_max() const {
  if (nodes == 0 || base_address >= kAddressEnd) return 0;
  return RoundDown((kAddressEnd - base_address) / nodes, format::kExtentBytes);
}

uint32_t ClusterConfig::grants_max() const {
  return CheckedCast<uint32_t>(segment_size_bytes / format::kSmallExtentBytes);
}

const NodeConfig* ClusterConfig::FindNode(uint32_t id) const {
  const auto table = std::ranges::find(node_tables, id, &NodeConfig::id);
  return table == node_tables.end() ? nullptr : &*table;
}

bool ClusterConfig::UsesDevices() const {
  return std::ranges::any_of(node_tables,
                             [](const NodeConfig& node) { return !node.path.empty(); });
}

bool ClusterConfig::IsLocal(NodeId node) const {
  const std::string host = host_of(node);
  return host.empty() || host == platform::HostName();
}

bool ClusterConfig::NamesHosts() const {
  return std::ranges::any_of(node_tables,
                             [](const NodeConfig& node) { return !node.host.empty(); });
}

Messages ClusterConfig::messages_kind() const {
  return messages.value_or(NamesHosts() ? Messages::kRings : Messages::kSockets);
}

std::string ClusterConfig::host_of(NodeId node) const {
  const NodeConfig* table = FindNode(node.value);
  return table == nullptr ? "" : table->host;
}

std::string ClusterConfig::address_of(NodeId node) const {
  const NodeConfig* table = FindNode(node.value);
  return table == nullptr ? "" : table->address;
}

std::vector<NodeId> ClusterConfig::LocalNodes() const {
  std::vector<NodeId> local;
  for (uint32_t k = 0; k < nodes; ++k) {
    if (IsLocal({k})) local.push_back({k});
  }
  return local;
}

uint64_t ClusterConfig::size_bytes_of(SegmentId segment) const {
  const NodeConfig* table = FindNode(segment.value);
  const bool is_as_all = table == nullptr || table->segment_size_bytes == 0;
  return is_as_all ? segment_size_bytes : table->segment_size_bytes;
}

uint64_t ClusterConfig::total_size_bytes() const {
  uint64_t size_bytes = 0;
  for (uint32_t k = 0; k < nodes; ++k) size_bytes += size_bytes_of({k});
  return size_bytes;
}

// As text, so that no layout of a struct decides; each value ends with a new line.
uint64_t ClusterConfig::AgreementHash() const {
  std::ostringstream text;
  text << ToString(backend) << '\n'
       << ToString(settle_class) << '\n'
       << posted_delay_us << '\n'
       << segment_size_bytes << '\n'
       << ToString(messages_kind()) << '\n'
       << sim.chaos << '\n'
       << sim.posted << '\n'
       << sim.seed << '\n'
       << sim.line_bytes << '\n';
  const std::string bytes = text.str();
  return format::Checksum({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

uint64_t ClusterConfig::segment_base_address(SegmentId segment) const {
  return base_address + segment.value * segment_size_bytes;
}

std::string ClusterConfig::segment_folder(SegmentId segment) const {
  return memory_folder + "/node" + std::to_string(segment.value);
}

std::string ClusterConfig::segment_lock_path(SegmentId segment) const {
  return segment_folder(segment) + ".lock";
}

std::string ClusterConfig::socket_path(NodeId node) const {
  return runtime_folder + "/node" + std::to_string(node.value) + ".sock";
}

std::string ClusterConfig::doorbell_path(NodeId node) const {
  return runtime_folder + "/node" + std::to_string(node.value) + ".bell";
}

std::string ClusterConfig::lock_path(NodeId node) const {
  return runtime_folder + "/node" + std::to_string(node.value) + ".lock";
}

std::string ClusterConfig::log_path(NodeId node) const {
  return runtime_folder + "/node" + std::to_string(node.value) + ".log";
}

std::string ClusterConfig::session_lock_folder(NodeId node) const {
  return segment_folder(SegmentId{node.value}) + ".sessions";
}

void ClusterConfig::ApplyDefaults() {
  if (runtime_folder.empty()) runtime_folder = RuntimeRoot() + "/" + name;
  if (memory_folder.empty() && (backend != Backend::kFile || UsesDevices())) {
    memory_folder = DefaultMemoryFolder(name);
  }
  if (backend == Backend::kSim) {
    coherence = Coherence::kSoftware;
    settle_class =
        sim.posted ? platform::SettleClass::kPosted : platform::SettleClass::kArrived;
  }
}

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

const char* ToString(Backend backend) {
  switch (backend) {
    case Backend::kShm:
      return "shm";
    case Backend::kFile:
      return "file";
    case Backend::kSim:
      return "sim";
    case Backend::kDevdax:
      return "devdax";
    case Backend::kPci:
      return "pci";
  }
  return "unknown";
}

const char* ToString(Coherence coherence) {
  return coherence == Coherence::kCoherent ? "coherent" : "software";
}

const char* ToString(Messages messages) {
  return messages == Messages::kSockets ? "sockets" : "rings";
}

const char* ToString(platform::SettleClass settle_class) {
  switch (settle_class) {
    case platform::SettleClass::kArrived:
      return "arrived";
    case platform::SettleClass::kOrdered:
      return "ordered";
    case platform::SettleClass::kPosted:
      return "posted";
  }
  return "unknown";
}

arrow::Result<Backend> ParseBackend(std::string_view text) {
  return ParseEnum(text, std::array{Backend::kShm, Backend::kFile, Backend::kSim,
                                    Backend::kDevdax, Backend::kPci});
}

arrow::Result<Coherence> ParseCoherence(std::string_view text) {
  return ParseEnum(text, std::array{Coherence::kCoherent, Coherence::kSoftware});
}

arrow::Result<Messages> ParseMessages(std::string_view text) {
  return ParseEnum(text, std::array{Messages::kSockets, Messages::kRings});
}

arrow::Result<platform::SettleClass> ParseSettleClass(std::string_view text) {
  using platform::SettleClass;
  return ParseEnum(text, std::array{SettleClass::kArrived, SettleClass::kOrdered,
                                    SettleClass::kPosted});
}

arrow::Result<uint64_t> ParseSize(std::string_view text) {
  const auto malformed = [&] {
    return arrow::Status::Invalid("'", text,
                                  "' is not a size: write 4GiB, 1.5GiB, 64MiB or bytes");
  };
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return malformed();
  std::string_view rest = text.substr(static_cast<size_t>(end - text.data()));
  uint64_t fraction = 0;  // In units of 1 / scale.
  uint64_t scale = 1;
  if (!rest.empty() && rest.front() == '.') {
    rest.remove_prefix(1);
    for (; scale < kFractionScaleMax && !rest.empty() && rest.front() >= '0' &&
           rest.front() <= '9';
         rest.remove_prefix(1)) {
      fraction = fraction * 10 + static_cast<uint64_t>(rest.front() - '0');
      scale *= 10;
    }
    if (scale == 1) return malformed();
  }
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  if (rest.empty() && scale == 1) return value;
  const auto* found =
      std::ranges::find_if(kUnits, [&](const Unit& u) { return rest == u.name; });
  if (found == kUnits.end() || value > (UINT64_MAX >> found->shift) ||
      (scale > 1 && found->shift == 0)) {
    return malformed();
  }
  return (value << found->shift) + (fraction << found->shift) / scale;
}

std::string FormatSize(uint64_t size_bytes) {
  if (size_bytes == 0) return "0B";
  const auto* found = std::ranges::find_if(kUnits, [&](const Unit& unit) {
    return IsAligned(size_bytes, uint64_t{1} << unit.shift);
  });
  return std::to_string(size_bytes >> found->shift) + found->name;
}

arrow::Status CheckClusterName(const std::string& name) {
  const bool good = !name.empty() && name.size() <= kNameSizeMax && name[0] != '.' &&
                    std::ranges::all_of(name, IsNameCharacter);
  if (good) return arrow::Status::OK();
  return arrow::Status::Invalid("name: '", name, "' must be 1 to ", kNameSizeMax,
                                " letters, digits, '-', '_' or '.', not a leading '.'");
}

std::string DefaultMemoryFolder(const std::string& name) {
  return "/dev/shm/sheaf-" + std::to_string(platform::CurrentUserId()) + "-" + name;
}

bool IsRuntimeRootChosen() { return !EnvironmentOr("SHEAF_RUNTIME_DIR", "").empty(); }

std::string RuntimeRoot() {
  const std::string session = EnvironmentOr("XDG_RUNTIME_DIR", "");
  const std::string otherwise =
      session.empty() ? "/tmp/sheaf-" + std::to_string(platform::CurrentUserId())
                      : session + "/sheaf";
  // Daemons read it in another working folder than their starter.
  std::error_code ignored;
  return std::filesystem::absolute(EnvironmentOr("SHEAF_RUNTIME_DIR", otherwise), ignored)
      .string();
}

std::string ClusterFilePath(const std::string& name) {
  return RuntimeRoot() + "/" + name + "/cluster.toml";
}

std::string KeptClusterFilePath(const ClusterConfig& config) {
  return config.memory_folder + "/.sheaf-cluster.toml";
}

}  // namespace sheaf::region
