// The home's own leases on objects of other homes whose bytes its objects refer to
// (docs/protocol.md O4).

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/directory.h"
#include "lease/lease.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief One cell for each leased object, however many of our objects refer to it. The
/// region and the page table outlive it. Single-threaded.
class ForeignLeases {
 public:
  /// `home_session` owns the pages that new cells lie in; those of former lives are in
  /// `former_pages`.
  ForeignLeases(const region::Region* region, lease::PageTable* pages,
                uint64_t home_session, const std::vector<uint32_t>& former_pages);

  /// \brief Lease `object` (O1, O2) and read its record: copied and verified. Stale if it
  /// is not readable now, unless it was leased here while it was; nothing is held then.
  /// One that is Retired waits: see TakeHeld.
  arrow::Result<std::shared_ptr<const directory::Record>> Acquire(const ObjectId& object);

  /// A cell of a seal that waits.
  struct Held {
    ObjectId object;
    uint64_t number = 0;       ///< Of the cell; none has it again.
    bool is_doubtful = false;  ///< Its object's home may have missed it.
  };
  /// \brief All cells of a seal that `Acquire` refused something for, as Retired. Those
  /// of the refused are in memory, settled, but a scan that is under way may have passed
  /// them. Whatever the home answers to a message that is sent now, no scan that began
  /// before that can free an object afterwards: `Trust` it then, and `Acquire` it again
  /// (O4). The others are sure already. All stay until `Abandon`, whoever releases them:
  /// sure once is sure then. Empty if nothing was refused so since the last call.
  std::vector<Held> TakeHeld();
  /// \brief The home has answered since.
  void Trust(const Held& held);
  /// \brief Does not wait any more: its cell is cleared if nothing has acquired it.
  void Abandon(const Held& held);

  /// \brief Restart: what an adopted object of ours refers to stays leased by the cell
  /// that a former life wrote (R2, O5). Only fails for want of cells, if there is none.
  arrow::Status Adopt(const ObjectId& object);
  /// \brief After the last `Adopt`: other cells of former lives hold nothing.
  void ClearFormer();

  /// \brief End one `Acquire` or `Adopt` of `object`.
  void Release(const ObjectId& object);
  /// \brief As Release, by a seal that is over: if something was refused to it as
  /// Retired the cell is there for `TakeHeld`.
  void Leave(const ObjectId& object);

  size_t num_leased() const { return leases_.size(); }
  /// \brief Homes of which an object was let go of since the last call.
  std::set<SegmentId> TakeLetGo() { return std::exchange(let_go_, {}); }

 private:
  struct Lease {
    lease::Cell cell;
    uint64_t number = 0;
    uint32_t references = 0;
    uint32_t waiting = 0;  ///< Seals that hold it.
    /// No scan can miss it: the object was readable, or its home has answered, since.
    bool is_sure = false;
    std::shared_ptr<const directory::Record> record;
  };
  using LeaseMap = std::map<ObjectId, Lease>;
  arrow::Status Check(const ObjectId& object, Lease* lease);
  Held Hold(LeaseMap::value_type* lease, bool is_doubtful);
  void ClearIfUnused(LeaseMap::iterator lease);

  const region::Region* region_;
  lease::CellTable cells_;
  LeaseMap leases_;
  std::set<ObjectId> doubtful_;  ///< Not told yet.
  std::set<ObjectId> left_;      ///< Beside those.
  std::set<SegmentId> let_go_;   ///< Not told yet.
  uint64_t last_number_ = 0;
  std::multimap<uint64_t, lease::Cell> former_;  ///< By packed lease.
};

/// \brief Invalid with reason stale generation.
arrow::Status StaleObject(const ObjectId& object, const char* why);

}  // namespace sheaf::daemon
