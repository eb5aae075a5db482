// The region as one process sees it: every segment's three parts, mapped, with the cache
// operations their memory needs.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/control_layout.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "platform/file.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::region {

enum class Role : uint8_t {
  kClient,     ///< Control read-only; leases and data readable, own lease pages and own
               ///< extents writable once they are made so (SetWritable).
  kDaemon,     ///< As client, and the own segment's control writable.
  kReader,     ///< All of it read-only.
  kInspector,  ///< As daemon, on copies of the own control and leases. Not for sim.
};

enum class PartKind : uint8_t { kControl, kLeases, kData };
const char* ToString(PartKind kind);

/// \brief Another user's files come from its daemon; `open` is KeyError if there are
/// none.
struct PartSource {
  uint32_t user_id = 0;  ///< Whose they are.
  std::function<arrow::Result<platform::UniqueFd>(SegmentId, PartKind)> open;
};

struct AttachOptions {
  NodeId node;
  Role role = Role::kClient;
  bool relocate = false;  ///< Do not try the common base address (tests).
  std::optional<PartSource> source = std::nullopt;  ///< None: the files are this user's.
  bool own_only = false;  ///< The others are left to AttachMissing.
};

/// \brief One mapped part. Bytes that other nodes write must be read after
/// `cache()->Invalidate` (LOAD! of docs/protocol.md); what other nodes read must be
/// flushed through `cache()`.
class Part {
 public:
  virtual ~Part() = default;
  uint8_t* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }
  platform::CacheControl* cache() const { return cache_; }

  /// \brief Really allocate a range, so that no access there can raise SIGBUS. The part's
  /// home daemon only. OutOfMemory if the memory is not there; nothing changes then.
  virtual arrow::Status Allocate(uint64_t offset, uint64_t size_bytes) = 0;

  /// \brief Make a page-aligned range of a data or leases part writable or read-only in
  /// this process.
  virtual arrow::Status SetWritable(uint64_t offset, uint64_t size_bytes,
                                    bool writable) = 0;

 protected:
  uint8_t* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  platform::CacheControl* cache_ = nullptr;  ///< Owned by the derived part.
};

/// \brief One node's share of the region, as this process maps it.
class Segment {
 public:
  Segment(SegmentId id, const format::SegmentHeader& header,
          std::unique_ptr<Part> control, std::unique_ptr<Part> leases,
          std::unique_ptr<Part> data);
  SegmentId id() const { return id_; }
  const format::SegmentHeader& header() const { return header_; }  ///< A checked copy.
  const format::ControlLayout& layout() const { return layout_; }
  Part& control() const { return *control_; }
  Part& leases() const { return *leases_; }
  Part& data() const { return *data_; }

  /// Address of a control line; `offset` is from the start of the control part.
  uint64_t* ControlLine(uint64_t offset) const;
  uint64_t* NodeLine(format::NodeLine line) const;
  uint64_t* SlotLine(uint32_t slot) const;
  uint64_t* GrantLine(uint32_t grant) const;
  uint64_t* LeasePage(uint32_t page) const;

 private:
  SegmentId id_;
  format::SegmentHeader header_;
  format::ControlLayout layout_;
  std::unique_ptr<Part> control_;
  std::unique_ptr<Part> leases_;
  std::unique_ptr<Part> data_;
};

/// \brief All segments, mapped by one process of one node. Addresses stay valid until
/// destruction; whoever hands out pointers into it keeps it alive by shared_ptr.
/// Thread-safe after Attach.
class Region {
 public:
  /// \brief Map every segment of `config` that exists. The own node's must exist; others
  /// may appear later and are attached by `AttachMissing`. IOError or Invalid (wrong
  /// magic, version, cluster, user) says which segment, what was found, and what to do;
  /// not of a node that any home says is off (F8).
  static arrow::Result<std::shared_ptr<Region>> Attach(const ClusterConfig& config,
                                                       const AttachOptions& options);
  ~Region();

  const ClusterConfig& config() const { return config_; }
  NodeId node() const { return options_.node; }
  uint32_t num_segments() const { return config_.nodes; }

  /// \brief Segment `id`, or nullptr if it does not exist (yet).
  Segment* segment(SegmentId id) const;
  Segment& own_segment() const;
  /// \brief Map segments that came into being since. One that is there and cannot be
  /// mapped is an error, unless its node is off for the own home (F8); one that is not
  /// costs a stat.
  arrow::Status AttachMissing();
  /// \brief Map again what was formatted anew since; true if there was any. Pointers into
  /// a former life stay valid. Daemons only: a client may hold tables of it.
  bool AttachAnew();

  /// \brief Where a range lies in this process; nullptr if not in a mapped segment.
  uint8_t* Resolve(const GlobalRange& range) const;

  /// \brief Which global address the bytes have, if they lie inside one data part.
  std::optional<GlobalAddress> Locate(const void* address, uint64_t size_bytes) const;

 private:
  Region(ClusterConfig config, AttachOptions options);
  using Problems = std::vector<std::pair<SegmentId, arrow::Status>>;
  Problems Map(bool own_only);  ///< Why some that are there cannot be mapped.

  ClusterConfig config_;
  AttachOptions options_;
  std::mutex attach_mutex_;  ///< One AttachMissing at a time; guards `owned_`.
  std::vector<std::unique_ptr<Segment>> owned_;  ///< Also of former lives.
  /// [nodes], index = segment id; each is null until attached.
  std::vector<std::atomic<Segment*>> segments_;
};

/// \brief Create (or take over and re-format) the segment of `node`: files, header with a
/// format epoch above `last_epoch` and that of what is there, all other control lines
/// zero. The caller holds its lock. Invalid for files that are not Sheaf's, of another
/// user or version, which stay untouched; OutOfMemory if the control part does not fit;
/// AlreadyExists if another host formats its window.
arrow::Status FormatSegment(const ClusterConfig&, NodeId node, uint64_t last_epoch = 0);

enum class SegmentOrigin : uint8_t {
  kFormatted,  ///< New: nothing is in it.
  kKept,       ///< As its last daemon left it.
};

/// \brief Have the segment of `node` ready for its daemon, who holds its lock: the one of
/// this cluster that is there, or else a new one, above `last_epoch`. What is there but
/// cannot be used (another cluster's, version's or user's, of other sizes, with a damaged
/// header) is Invalid, saying why and what to do, and stays untouched.
arrow::Result<SegmentOrigin> PrepareSegment(const ClusterConfig& config, NodeId node,
                                            uint64_t last_epoch = 0);

/// \brief Remove the files of `node`'s segment, if any, and its folder if that is empty.
/// The caller holds its lock. Invalid, removing nothing, if FormatSegment would refuse.
arrow::Status RemoveSegment(const ClusterConfig& config, NodeId node);

/// \brief The lock of `node`'s segment, which its daemon holds while it lives, beside the
/// memory. AlreadyExists, naming the process and how to end it, if a daemon lives.
arrow::Result<platform::FileLock> LockSegment(const ClusterConfig& config, NodeId node);

/// \brief Bytes that this host's nodes have taken when all of their data is granted.
uint64_t FullBytes(const ClusterConfig& config);

/// \brief Prepare `config.memory_folder` on this host. One that exists is used as it is
/// (IOError if it is not private), else one is made, for shm with a tmpfs of its own with
/// huge pages if this user may mount one. OutOfMemory, naming what is needed and free, if
/// all of the memory is wanted now (prealloc) and does not fit; nothing stays then.
arrow::Status PrepareMemoryFolder(const ClusterConfig& config);

/// \brief True if there is a segment, of whatever cluster, of a node that this host may
/// run.
bool HasSegments(const ClusterConfig& config);

/// \brief Remove the segments there, of this cluster or of a former one of this user, and
/// the folder if PrepareMemoryFolder made it and nothing else is in it; segments of other
/// hosts' nodes stay. AlreadyExists, and nothing is removed, if a daemon lives there,
/// naming it. Invalid if a segment is not ours: it stays, the others go.
arrow::Status RemoveMemoryFolder(const ClusterConfig& config);

}  // namespace sheaf::region
