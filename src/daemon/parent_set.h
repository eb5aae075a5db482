// The objects whose bytes one seal request may share.

#pragma once

#include <map>
#include <memory>
#include <set>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range_map.h"
#include "daemon/coverage.h"
#include "daemon/foreign_leases.h"
#include "directory/directory.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Verified parents of one request, those of other homes leased while the set
/// lives. Lives shorter than the home's directory and leases.
class ParentSet {
 public:
  ParentSet(SegmentId own, const directory::HomeDirectory* directory,
            ForeignLeases* leases)
      : own_(own), directory_(directory), leases_(leases) {}
  ~ParentSet();
  ParentSet(const ParentSet&) = delete;
  ParentSet& operator=(const ParentSet&) = delete;

  /// \brief Stale if `object` is not there with this generation (Sealed or Bound; of this
  /// home also Retired).
  arrow::Status Add(const ObjectId& object);

  /// \brief The members that cover `needed` (sorted, disjoint, in `segment`); if they do
  /// not, the objects that they refer to are added too. Stale names the first byte that
  /// nobody covers.
  arrow::Result<Owners> Cover(SegmentId segment, const std::vector<alloc::Range>& needed);

  /// \brief The caller now holds the leases on `objects` and releases them itself.
  void KeepLeases(const std::vector<ObjectId>& objects);

 private:
  std::vector<Piece> PiecesIn(SegmentId segment) const;
  arrow::Status AddReferencesIn(SegmentId segment);
  arrow::Result<std::shared_ptr<const directory::Record>> FindOwn(
      const ObjectId& id) const;

  SegmentId own_;
  const directory::HomeDirectory* directory_;
  ForeignLeases* leases_;
  std::map<ObjectId, std::shared_ptr<const directory::Record>> members_;
  std::set<ObjectId> leased_;
};

}  // namespace sheaf::daemon
