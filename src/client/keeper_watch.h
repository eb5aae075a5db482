// Whether what an object refers to at other homes is kept while it is leased
// (docs/protocol.md O4): the cells of its home count only where that is not off (F8).

#pragma once

#include <map>
#include <optional>

#include <arrow/result.h>

#include "region/admit_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief For one open of an object, whose home is the *keeper*. One thread.
class KeeperWatch {
 public:
  KeeperWatch(const region::Region& region, NodeId keeper)
      : region_(region), keeper_(keeper) {}

  /// \brief Before the first lease on an object of `home` is taken.
  void Note(SegmentId home);

  /// \brief Once all leases are taken, and settled: false if the keeper was off for the
  /// home of `reference`, which may have freed it without a look at the lease. LOAD! of
  /// one line of each home; of a slot of each reference where something has changed.
  arrow::Result<bool> IsKept(const ObjectId& reference);

 private:
  struct View {
    std::optional<region::AdmitLine> before;  ///< Of a home that was not attached: none.
    std::optional<region::AdmitLine> after;
  };

  const region::Region& region_;
  NodeId keeper_;
  std::map<SegmentId, View> views_;
};

}  // namespace sheaf::client
