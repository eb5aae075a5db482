// What every process of a cluster must know before it maps anything: the cluster file
// (TOML).

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/cache.h"
#include "region/etcd_config.h"
#include "sheaf/types.h"

namespace sheaf::region {

enum class Backend : uint8_t { kShm, kFile, kSim, kDevdax, kPci };
enum class Coherence : uint8_t { kCoherent, kSoftware };
/// What carries messages from daemon to daemon.
enum class Messages : uint8_t {
  kSockets,  ///< UNIX sockets: between nodes of one host only.
  kRings,    ///< Lines in the segments (docs/protocol.md M1 to M4).
};

/// \brief How the simulator misbehaves (docs/architecture.md section 8).
struct SimOptions {
  bool chaos = false;        ///< Random write-backs and refreshes on top of `stale`.
  bool posted = false;       ///< What was flushed arrives within D, unless settled.
  uint64_t seed = 1;         ///< Of `chaos`.
  uint32_t line_bytes = 64;  ///< 64 or 128.
  bool operator==(const SimOptions&) const = default;
};

/// \brief What the cluster file says of one node, where that is not as for all: a table
/// `[[node]]`.
struct NodeConfig {
  uint32_t id = 0;
  uint64_t segment_size_bytes = 0;  ///< Data of this node, at most that of all; 0: that.
  std::string host;                 ///< Name of the host that it is on; empty: any.
  std::string address =
      {};                 ///< "host:port" where daemons of other hosts ring; empty: none.
  std::string path = {};  ///< Device that holds its segment (device_window.h).
  uint64_t offset_bytes = 0;  ///< Where in it the segment begins.
  bool operator==(const NodeConfig&) const = default;
};

/// User space of x86-64 and of AArch64 and POWER with their usual page tables.
constexpr uint64_t kAddressEnd = uint64_t{1} << 47;
/// Homes look at each other's heartbeats this often, at most.
constexpr int kMembershipPeriodMs = 50;

/// \brief One cluster: where its memory is, how large, how coherent. Immutable; equal on
/// all nodes.
struct ClusterConfig {
  std::string name = "default";
  uint64_t cluster_id = 0;  ///< Random, chosen by whoever creates the cluster.
  Backend backend = Backend::kShm;
  Coherence coherence = Coherence::kCoherent;  ///< The simulator counts as software.
  platform::SettleClass settle_class = platform::SettleClass::kArrived;
  int64_t posted_delay_us = 1000;  ///< D (docs/protocol.md L13).
  int heartbeat_ms = 100;
  int suspect_after_ms = 3000;  ///< Silence after which a node is withdrawn (F1).
  int suspect_samples = 5;      ///< In that time, at least.
  SimOptions sim;
  /// Nothing: as is needed, see `messages_kind`.
  std::optional<Messages> messages;
  int spin_us = 0;  ///< How long daemons look at their rings before they sleep.

  uint64_t base_address = 0x200000000000;
  uint32_t nodes = 1;       ///< Segments 0 .. nodes-1 exist.
  uint32_t nodes_max = 64;  ///< Fixed at format (L4).

  /// Parts are files below it: `<folder>/node<K>/{control,leases,data}`.
  std::string memory_folder;
  std::string runtime_folder;  ///< Sockets, locks, logs of this cluster on this host.

  /// Data of each node at most, and of those that say nothing else; of 2 MiB each.
  uint64_t segment_size_bytes = uint64_t{4} << 30;
  uint32_t slots_max = 1U << 20;
  uint32_t lease_pages_max = 4096;
  /// Virtual: allocated as records are written.
  uint64_t records_size_bytes = uint64_t{1} << 30;
  bool prealloc = false;   ///< Touch the whole data part at start.
  bool huge_pages = true;  ///< Ask for huge pages where the system gives them.

  // Who else may use it, and how much each may hold (docs/security.md).
  std::string group;        ///< Name or number of the group that may read; empty: none.
  std::string group_write;  ///< Of the group that may write as well.
  uint64_t session_quota_bytes = 0;  ///< Of each node, for one session; 0: all of it.
  uint64_t user_quota_bytes = 0;     ///< Of each node, for one user; 0: all of it.

  std::vector<NodeConfig> node_tables;  ///< Of those nodes that are not as all.
  EtcdConfig etcd;

  bool operator==(const ClusterConfig&) const = default;

  /// What each of its nodes can have at most: segments lie side by side above
  /// `base_address`. A multiple of 2 MiB; 0 if there is no room.
  uint64_t segment_size_bytes_max() const;
  /// One grant line for every 64 KiB of data.
  uint32_t grants_max() const;
  /// \brief The nodes that a daemon of this host may be: those of which the file names no
  /// host, or this one (platform::HostName).
  std::vector<NodeId> LocalNodes() const;
  bool IsLocal(NodeId node) const;
  /// Nodes of it may be on several hosts.
  bool NamesHosts() const;
  /// \brief `messages`; where it says nothing, rings if nodes name hosts, else sockets.
  Messages messages_kind() const;
  /// What the file says of `node`: the name of its host, or empty.
  std::string host_of(NodeId node) const;
  /// Where `node` hears other hosts' doorbells, "host:port"; empty: nowhere.
  std::string address_of(NodeId node) const;
  /// Segments are windows of devices, each at a path of its own; else files in folders.
  bool UsesDevices() const;
  /// What the file says of that node; null: it is as all.
  const NodeConfig* FindNode(uint32_t id) const;

  uint64_t size_bytes_of(SegmentId segment) const;  ///< Data of the segment.
  uint64_t total_size_bytes() const;                ///< Of all segments.
  /// \brief Over all that two nodes must agree on beside the fields of the segment
  /// header: whoever reads another file finds that it does.
  uint64_t AgreementHash() const;
  /// Where it is mapped when that range is free: side by side, each with room for the
  /// largest.
  uint64_t segment_base_address(SegmentId segment) const;
  std::string segment_folder(SegmentId segment) const;
  std::string segment_lock_path(SegmentId segment) const;
  std::string socket_path(NodeId node) const;
  std::string doorbell_path(NodeId node) const;
  std::string lock_path(NodeId node) const;
  std::string log_path(NodeId node) const;
  /// The group that folder and sockets belong to; empty if they are the user's alone.
  const std::string& socket_group() const { return group.empty() ? group_write : group; }
  /// Beside the memory: whoever serves it next must know who still uses it, in whatever
  /// runtime folder.
  std::string session_lock_folder(NodeId node) const;

  /// \brief Fill in what follows from the rest: empty folders from the name, coherence
  /// and settle class of the simulator. FromToml and Region do it; idempotent.
  void ApplyDefaults();

  /// \brief Invalid, naming the key, if a value is out of range or two contradict each
  /// other.
  arrow::Status Validate() const;
  /// \brief Invalid if somebody asked for a coherence that the backend does not have.
  arrow::Status CheckCoherence() const;
  std::string ToToml() const;
  /// \brief Parse, apply defaults and validate. Invalid names file, line and key; unknown
  /// keys are errors.
  /// `defaults` has what the text does not say.
  static arrow::Result<ClusterConfig> FromToml(const std::string& text,
                                               const std::string& file_name,
                                               ClusterConfig defaults);
  static arrow::Result<ClusterConfig> FromToml(const std::string& text,
                                               const std::string& file_name);
  /// \brief FromToml of a file; KeyError if there is none.
  static arrow::Result<ClusterConfig> Load(const std::string& path);
};

const char* ToString(Backend backend);
const char* ToString(Coherence coherence);
const char* ToString(Messages messages);
const char* ToString(platform::SettleClass settle_class);
/// \brief The value of that name as the cluster file and the command line spell it.
arrow::Result<Backend> ParseBackend(std::string_view text);
arrow::Result<Coherence> ParseCoherence(std::string_view text);
arrow::Result<Messages> ParseMessages(std::string_view text);
arrow::Result<platform::SettleClass> ParseSettleClass(std::string_view text);

/// \brief "4GiB", "1.5 GiB", "4096" as bytes, rounded down. Units B, KiB, MiB, GiB, TiB;
/// Invalid otherwise.
arrow::Result<uint64_t> ParseSize(std::string_view text);
/// \brief The shortest text that ParseSize reads back exactly.
std::string FormatSize(uint64_t size_bytes);

/// \brief Where a cluster's memory lies for shm and sim: a folder of this user,
/// `sheaf-<uid>-<name>` in /dev/shm (on which PrepareMemoryFolder mounts a tmpfs of its
/// own when it may).
std::string DefaultMemoryFolder(const std::string& name);

/// \brief Folder for sockets and logs of all clusters of this user:
/// $SHEAF_RUNTIME_DIR, else $XDG_RUNTIME_DIR/sheaf, else /tmp/sheaf-<uid>.
std::string RuntimeRoot();
/// \brief True if $SHEAF_RUNTIME_DIR names it: it may be another user's.
bool IsRuntimeRootChosen();
/// \brief Invalid unless `name` can be a cluster's: 1 to 64 letters, digits, '-', '_' or
/// '.', the first no '.'. It becomes part of paths.
arrow::Status CheckClusterName(const std::string& name);
/// \brief Path of the cluster file of cluster `name` on this host:
/// `<root>/<name>/cluster.toml`.
std::string ClusterFilePath(const std::string& name);
/// \brief Path of the copy that lies beside the cluster's memory.
std::string KeptClusterFilePath(const ClusterConfig& config);

}  // namespace sheaf::region
