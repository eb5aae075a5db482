// The home of one segment: its grants, objects, sessions and leases. No messages, no
// timers.

#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type_fwd.h>

#include "codec/codec.h"
#include "daemon/coverage.h"
#include "daemon/foreign_leases.h"
#include "daemon/guest_table.h"
#include "daemon/home_life.h"
#include "daemon/node_lines.h"
#include "daemon/parent_set.h"
#include "daemon/quotas.h"
#include "daemon/scheduler.h"
#include "daemon/space.h"
#include "directory/directory.h"
#include "lease/lease.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Lease pages that a new session begins with.
constexpr int kFirstLeasePages = 2;

/// \brief What a session asks to be sealed; all of it input.
struct SealInput {
  uint64_t request = 0;  ///< Of the session: names the put.
  std::shared_ptr<arrow::Buffer> descriptor;
  std::string name;  ///< Empty: unnamed.
  bool keep = false;
  bool is_prepared = false;  ///< Under its name, and not put yet.
  std::vector<ObjectId> parents;
  int64_t now_unix_ns = 0;
};

/// \brief All state of one home, changed by one thread. What it is told is checked
/// against what it wrote itself (docs/protocol.md L11); a call that fails has changed
/// nothing. `region` and `clock` outlive it. Invariant HOME-1: every byte of a Sealed,
/// Bound or Retired object has a reference in the range map, or lies in an object of
/// another home on which this home holds a lease.
class Home {
 public:
  /// \brief The home of `region`'s own segment: new, or with all that a former life left
  /// there (R1 to R3): objects, grants, and sessions of which nobody knows yet whether
  /// their processes live.
  static arrow::Result<std::unique_ptr<Home>> Make(region::Region* region,
                                                   const Scheduler* clock,
                                                   const HomeLife& life);
  /// \brief What of the segment could not be adopted, one sentence each; empty as a rule.
  /// Until it is repaired no memory is granted.
  const std::vector<std::string>& problems() const { return problems_; }

  // Sessions. Ids rise, also over lives.
  struct NewSession {
    uint64_t id = 0;
    std::vector<uint32_t> lease_pages;
  };
  /// \brief Of a user (default: whose the segment is), who holds what it is granted.
  arrow::Result<NewSession> OpenSession(std::optional<uint32_t> user_id = std::nullopt);
  /// \brief Say whose an adopted session is; until then it is of the segment's user.
  void AdoptUser(uint64_t session, uint32_t user_id);
  const std::set<uint64_t>& sessions() const { return sessions_; }
  /// \brief A guest session too.
  bool HasSession(uint64_t session) const {
    return sessions_.contains(session) || guests_.Has(session);
  }
  uint64_t last_session() const { return last_session_; }  ///< None has a higher number.
  std::vector<uint32_t> LeasePagesOf(uint64_t session) const;
  /// \brief Everything that `session` held comes back: open ranges (settled, D3), lease
  /// pages (D2), unnamed objects that are not kept.
  arrow::Status EndSession(uint64_t session);
  arrow::Result<uint32_t> AddLeasePage(uint64_t session);

  // Guest sessions: all that is said of sessions holds for them; their nodes end them.
  const GuestTable& guests() const { return guests_; }
  /// \brief The guest session of that name, a new one if there is none.
  arrow::Result<uint64_t> OpenGuest(const GuestName& name, uint32_t user_id);
  /// \brief As Grant, once for each request, however often it comes and over restarts of
  /// either daemon. What an earlier one was granted and the session knows nothing of,
  /// since its reply was lost, comes back.
  arrow::Result<Granted> Grant(uint64_t guest, const GuestGrant& what);
  std::vector<Granted> ExtentsOf(uint64_t guest) const;
  uint64_t LastPutRequestOf(uint64_t session) const;  ///< Of those noted (P4); 0 none.

  // Grants.
  /// \brief Reason quota if the session or its user may hold no more.
  arrow::Result<Granted> Grant(uint64_t session, uint64_t size_bytes,
                               uint64_t wish_bytes = 0);
  arrow::Status Return(uint64_t session, const GrantId& id);
  /// \brief The session lives on, and knows of these grants only: any other was never
  /// used, or is used no more, and comes back.
  arrow::Status ReturnAllBut(uint64_t session, const std::set<GrantId>& known);

  // Objects of this home.
  /// \brief Free -> Sealed, after every guard of docs/protocol.md section 4 and O4.
  /// Invalid with reason stale generation if a byte is neither in a grant of `session`
  /// nor in a live parent.
  arrow::Result<ObjectId> Seal(uint64_t session, const SealInput& input);
  /// \brief A put that others can see, or could.
  struct Put {
    ObjectId object;
    uint32_t version = 0;  ///< 0 when unnamed.
  };
  /// \brief `request` of `session` is done, and visible: called before anything else
  /// happens, so that a daemon that dies first leaves it to the next one to note (P4).
  void NotePut(uint64_t session, uint64_t request, const Put& put);
  /// \brief It will be undone: before its object is Retired.
  void ForgetPut(uint64_t session, uint64_t request);
  /// \brief What was noted of `request`, if it is the last put of `session`: for a
  /// request that is repeated. The object may be gone since.
  std::optional<Put> FindPut(uint64_t session, uint64_t request) const;
  /// \brief -> Retired, settled. Invalid unless `name` is the object's ("" if it has
  /// none); stale if it is gone or Retired already. `remover`: which request does it.
  arrow::Status Retire(const ObjectId& object, const std::string& name,
                       uint32_t remover = 0);
  /// \brief Let an unnamed or prepared object outlive its session, or not; else Invalid.
  arrow::Status SetKept(const ObjectId& object, bool kept);
  directory::HomeDirectory& directory() { return directory_; }

  // Reclaim (G1).
  /// \brief Free every Retired object past its GRACE that no cell names. One scan serves
  /// all. Returns how many were freed; IOError, and none is, if some segment cannot be
  /// read.
  arrow::Result<size_t> Reclaim();
  size_t num_retired() const { return retired_.size(); }
  /// \brief When every object that is Retired now is past its GRACE.
  std::chrono::nanoseconds grace_end() const;
  void FlushLeasePages() { pages_.FlushPages(); }  ///< O6

  Statistics statistics() const;
  uint64_t incarnation() const { return life_.incarnation; }
  uint64_t format_epoch() const { return region_->own_segment().header().format_epoch; }
  void SetIncarnation(uint64_t incarnation);  ///< Of new grants, from now on (F6).
  SegmentId segment() const { return region_->own_segment().id(); }
  const Space& space() const { return space_; }
  size_t num_foreign_leases() const { return foreign_.num_leased(); }
  ForeignLeases& foreign_leases() { return foreign_; }

 private:
  Home(region::Region* region, const Scheduler* clock, const HomeLife& life);
  arrow::Status Adopt();
  void AdoptObjects();
  arrow::Status AdoptReferences();
  void AdoptSessions();
  void AdoptQuotas();
  Holder HolderOf(uint64_t session) const;
  Holder HolderOf(const directory::Record& record) const;
  arrow::Status TakeBack(uint64_t session, const GrantId& id, bool is_dead);
  void AdoptPuts();
  arrow::Status CheckSession(uint64_t session) const;
  uint64_t NewId();
  template <typename TryFn>
  arrow::Result<Granted> GrantWithin(uint64_t session, uint64_t size_bytes,
                                     uint64_t wish_bytes, const TryFn& try_grant);
  arrow::Result<std::shared_ptr<const codec::Descriptor>> Verify(
      const SealInput& input) const;
  arrow::Status CheckOwnRanges(uint64_t session,
                               const std::vector<alloc::Range>& granules,
                               ParentSet* parents);
  arrow::Result<Owners> CoverForeign(const std::vector<GlobalRange>& ranges,
                                     ParentSet* parents);
  arrow::Status MarkRetired(const ObjectId& object, uint32_t remover = 0);
  arrow::Status Free(const ObjectId& object);

  region::Region* region_;
  const Scheduler* clock_;
  HomeLife life_;
  uint64_t last_session_;
  std::set<uint64_t> sessions_;
  std::set<uint64_t> former_creators_;  ///< Adopted records name them: above this life.
  std::map<uint64_t, uint32_t> other_users_;  ///< By session: of other users'.
  Quotas quotas_;
  lease::PageTable pages_;
  GuestTable guests_;
  Space space_;
  directory::HomeDirectory directory_;
  ForeignLeases foreign_;
  std::map<ObjectId, std::chrono::nanoseconds> retired_;  ///< End of GRACE.
  std::vector<std::string> problems_;
};

/// \brief GRACE of the home on this memory: 0, or 2D in class C (docs/protocol.md section
/// 1).
std::chrono::nanoseconds GraceOf(const region::ClusterConfig& config);

}  // namespace sheaf::daemon
