#include "region/cluster_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
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
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

constexpr size_t kNameSizeMax = 64;

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         c == '-' || c == '_' || c == '.';
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
