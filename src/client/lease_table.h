// The leases of one session: taken once per object, found again by address.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include <arrow/result.h>

#include "directory/directory.h"
#include "lease/lease.h"
#include "platform/owner_process.h"
#include "sheaf/types.h"

namespace sheaf::client {

class Session;

/// \brief Keeps one object from being reclaimed (docs/protocol.md O1-O6), and the session
/// with its mappings. Ends when its last holder, usually a `Buffer`, is gone.
class ObjectLease {
 public:
  ObjectLease(std::shared_ptr<Session> session, const ObjectId& object, lease::Cell cell,
              const format::Slot& slot);
  ~ObjectLease();
  ObjectLease(const ObjectLease&) = delete;
  ObjectLease& operator=(const ObjectLease&) = delete;

  const ObjectId& object() const { return object_; }
  /// The slot as the re-check read it: the only fields to use (O2).
  const format::Slot& slot() const { return slot_; }
  Session& session() const { return *session_; }

 private:
  friend class LeaseTable;
  platform::OwnerProcess owner_;
  std::shared_ptr<Session> session_;
  ObjectId object_;
  lease::Cell cell_;
  format::Slot slot_;
  std::vector<GlobalRange> ranges_;  ///< Registered in the table.
};

/// \brief What a table that was opened holds: its object, and those that the object
/// refers to and the table needs.
class TableLease {
 public:
  TableLease(std::shared_ptr<ObjectLease> object,
             std::vector<std::shared_ptr<ObjectLease>> references)
      : object_(std::move(object)), references_(std::move(references)) {}

 private:
  // In this order: what an object refers to is let go before the object (O4).
  std::shared_ptr<ObjectLease> object_;
  std::vector<std::shared_ptr<ObjectLease>> references_;
};

/// \brief Finds a live lease by object or by an address that it covers. Thread-safe.
class LeaseTable {
 public:
  /// \brief Lease `object`, or give the lease that this session already holds. Reason
  /// stale generation if the object is not there or not readable (any more), held or not.
  arrow::Result<std::shared_ptr<ObjectLease>> Take(
      const std::shared_ptr<Session>& session, const ObjectId& object);

  /// \brief Lease an object that another object, leased by the caller, refers to (O4).
  /// Its home may have retired it since: the referring object's home keeps it from being
  /// freed. Never the lease that `Take` gives, and never registered: it refers to
  /// nothing, so that records that refer to each other make no cycle of leases.
  arrow::Result<std::shared_ptr<ObjectLease>> TakeReference(
      const std::shared_ptr<Session>& session, const ObjectId& object);

  /// \brief Remember what `lease` covers, its own bytes and those it refers to. Once per
  /// lease; later calls with the same lease do nothing.
  void Register(const std::shared_ptr<ObjectLease>& lease,
                std::vector<GlobalRange> ranges);

  /// \brief A live lease that covers all of `range`, or nullptr.
  std::shared_ptr<ObjectLease> FindCovering(const GlobalRange& range) const;

 private:
  friend class ObjectLease;
  using ByObject = std::unordered_map<ObjectId, std::weak_ptr<ObjectLease>>;
  std::shared_ptr<ObjectLease> FindHeld(const ByObject& leases,
                                        const ObjectId& object) const;
  std::shared_ptr<ObjectLease> Keep(ByObject* leases, std::shared_ptr<ObjectLease> lease);
  void Forget(const ObjectLease& lease);

  using ByBegin =
      std::multimap<GlobalAddress, std::pair<GlobalRange, std::weak_ptr<ObjectLease>>>;
  mutable std::mutex mutex_;
  ByObject opened_;
  ByObject referred_;
  ByBegin by_begin_;
  uint64_t longest_range_bytes_ = 0;  ///< How far back a covering range can begin.
};

}  // namespace sheaf::client
