// One process' attachment to its node: connection, mapped region, pool, lease cells.

#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>

#include "alloc/region_memory_pool.h"
#include "client/daemon_channel.h"
#include "client/home_pools.h"
#include "client/lease_cells.h"
#include "client/lease_table.h"
#include "client/node_notes.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/owner_process.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief Everything that outlives a `Store` as long as a table or pool buffer of it
/// lives. Held by the store and by each lease; a store that is dropped while pool buffers
/// live hands it to `Linger`. Thread-safe. Its destructor says goodbye to the daemon,
/// which takes back all else.
class Session : public std::enable_shared_from_this<Session> {
 public:
  static arrow::Result<std::shared_ptr<Session>> Connect(const ConnectOptions& options);
  ~Session();

  /// \brief Keep `session` alive until its pool is empty; called when its store is
  /// dropped. Memory goes back to the home as it becomes free, the rest of the session
  /// when the next store of this process connects or is dropped.
  static void Linger(std::shared_ptr<Session> session);

  /// \brief Invalid in a forked child: its connection and cells belong to the parent.
  arrow::Status CheckProcess() const;

  DaemonChannel& daemon() { return *daemon_; }
  const region::Region& region() const { return *region_; }
  alloc::RegionMemoryPool& pool() { return pools_->own().pool(); }
  HomePools& pools() { return *pools_; }
  LeaseCells& cells() { return *cells_; }
  NodeNotes& notes() { return *notes_; }
  LeaseTable& leases() { return leases_; }
  uint64_t id() const { return id_; }

  /// \brief Called when a put is over, with how it ended. What is free in the pool stays
  /// there for the next put only while the home has plenty.
  void DidPut(const arrow::Status& status);

  /// \brief F7: true if `home` honours this node. One that was withdrawn, or has just
  /// come up, is honoured within a few heartbeats: waited for.
  bool IsHonouredBy(const region::Segment& home) const;

  /// \brief Reason node lost if what is mapped as `segment` is not its node's memory any
  /// more: it was given up since. For what looks like that: not on a fast path.
  arrow::Status CheckMapped(const region::Segment& segment) const;

  /// \brief Map segments that appeared since; cheap when nothing is missing.
  arrow::Status AttachMissing() { return region_->AttachMissing(); }

 private:
  Session() = default;
  arrow::Status Attach(NodeId node, uint32_t user_id, bool relocate);
  arrow::Result<std::string> LockSession(const std::string& folder);
  arrow::Status BeginSession(NodeId node, uint32_t user_id);
  arrow::Status AttachRegion(NodeId node, uint32_t user_id, bool relocate);
  arrow::Status MakeCells();
  arrow::Status Continue(const DaemonChannel::CallFn& call);
  arrow::Result<platform::UniqueFd> RequestPart(SegmentId segment, region::PartKind kind);
  arrow::Result<Reply> SendHello(const DaemonChannel::CallFn& call,
                                 const std::string& lock_name);
  bool IsOwnNodeDown() const;
  arrow::Result<uint32_t> RequestLeasePage();

  // In order of construction: what is below uses what is above.
  platform::OwnerProcess owner_;
  int process_id_ = 0;
  region::ClusterConfig config_;
  format::Access access_ = format::Access::Owner;
  uint64_t id_ = 0;
  uint64_t format_epoch_ = 0;  ///< Of the own segment, as the daemon says; 0: not yet.
  std::vector<uint32_t> lease_pages_;
  std::shared_ptr<region::Region> region_;
  std::unique_ptr<DaemonChannel> daemon_;
  /// Tell the daemon that a forked child may live (D1): one of the two.
  std::optional<platform::FileLock> lock_;
  platform::UniqueFd lock_of_daemon_;  ///< Made by it, if we may not.
  std::unique_ptr<NodeNotes> notes_;
  std::unique_ptr<LeaseCells> cells_;
  DaemonCells* cells_of_daemon_ = nullptr;  ///< The same, if the daemon writes them.
  LeaseTable leases_;
  std::unique_ptr<HomePools> pools_;
};

}  // namespace sheaf::client
