// The home's own leases on objects of other homes whose bytes its objects refer to
// (docs/protocol.md O4).

#pragma once

#include <cstdint>
#include <map>
#include <memory>
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
  arrow::Result<std::shared_ptr<const directory::Record>> Acquire(const ObjectId& object);

  /// \brief Restart: what an adopted object of ours refers to stays leased by the cell
  /// that a former life wrote (R2, O5). Only fails for want of cells, if there is none.
  arrow::Status Adopt(const ObjectId& object);
  /// \brief After the last `Adopt`: other cells of former lives hold nothing.
  void ClearFormer();

  /// \brief End one `Acquire` or `Adopt` of `object`.
  void Release(const ObjectId& object);

  size_t num_leased() const { return leases_.size(); }

 private:
  struct Lease {
    lease::Cell cell;
    uint32_t references = 0;
    std::shared_ptr<const directory::Record> record;
  };
  arrow::Status Check(const ObjectId& object, bool is_new, Lease* lease);

  const region::Region* region_;
  lease::CellTable cells_;
  std::map<ObjectId, Lease> leases_;
  std::multimap<uint64_t, lease::Cell> former_;  ///< By packed lease.
};

/// \brief Invalid with reason stale generation.
arrow::Status StaleObject(const ObjectId& object, const char* why);

}  // namespace sheaf::daemon
