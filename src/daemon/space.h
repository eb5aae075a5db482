// All bytes of the own segment's data part: granted, sealed or free.

#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range_map.h"
#include "daemon/grant_table.h"
#include "daemon/warm_memory.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

struct Granted {
  GrantId id;
  alloc::Range extent;
};

/// \brief Grants and reference counts of one home, kept in step with the grant lines and
/// with the memory that exists. Single-threaded.
class Space {
 public:
  /// `owner` with session 0 is whom grants are given to: the own node's current
  /// incarnation.
  Space(region::Segment* own_segment, const GrantOwner& node);

  /// \brief Grant at least `size_bytes` to `session`: allocated, recorded and settled
  /// (P1). Invalid for 0 bytes; OutOfMemory if no free range fits or the memory is not
  /// there; nothing is granted then.
  arrow::Result<Granted> Grant(uint64_t session, uint64_t size_bytes);

  /// \brief Take back a grant whose writer has settled its open ranges. Stale, and
  /// nothing changes, if `session` does not hold it.
  arrow::Status Return(uint64_t session, const GrantId& id);

  /// \brief Take back all grants of a dead session, after flushing and settling what it
  /// may have left in this node's caches (D3).
  arrow::Status ReturnAll(uint64_t session);

  /// \brief True if `session` holds `grant` now.
  bool Holds(uint64_t session, uint32_t grant) const;

  /// \brief Touch the whole data part now (--prealloc).
  arrow::Status WarmAll();
  /// \brief Touch one extent: from the start it can be seen which pages back the data.
  arrow::Status WarmFirst();

  alloc::RangeMap& ranges() { return ranges_; }
  const alloc::RangeMap& ranges() const { return ranges_; }
  uint32_t num_grants() const { return grants_.num_owned(); }
  const WarmMemory& warm() const { return warm_; }

 private:
  arrow::Result<GrantId> Record(uint32_t grant, uint64_t session,
                                const alloc::Range& extent);
  void SettleOpenRanges(uint32_t grant);

  region::Segment* segment_;
  GrantOwner node_;
  alloc::RangeMap ranges_;
  GrantTable grants_;
  WarmMemory warm_;
  std::map<uint64_t, std::set<uint32_t>> of_session_;
};

}  // namespace sheaf::daemon
