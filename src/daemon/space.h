// All bytes of the own segment's data part: granted, sealed or free.

#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range_map.h"
#include "daemon/grant_table.h"
#include "daemon/guest_table.h"
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
  /// \brief Adopt the grants that the lines in memory record (R3). `node` with session 0
  /// is whom new grants are given to: the own node's current incarnation.
  Space(region::Segment* own_segment, const GrantOwner& node);

  /// \brief Whose the grants of other nodes are, `guests` says. Once, before any other
  /// grant, when the home knows all of its own sessions: no guest is given the number of
  /// one.
  void AdoptGuests(GuestTable* guests);

  void SetOwner(const GrantOwner& node) { node_ = node; }  ///< Of new grants.

  /// \brief Adopt the ranges of a live object, after all grants: one reference on each.
  /// If they are malformed that is a problem, and nothing changes.
  void AdoptObject(const std::vector<alloc::Range>& ranges);

  /// \brief What could not be adopted, one sentence each; empty as a rule. Whose bytes
  /// such grants and objects occupied is not known: no memory should be granted then.
  std::vector<std::string> problems() const;

  /// \brief Grant at least `size_bytes` to `session`, `wish_bytes` if that is easy to
  /// have: allocated, recorded and settled
  /// (P1). Invalid for 0 bytes; OutOfMemory if no free range fits or the memory is not
  /// there; nothing is granted then.
  arrow::Result<Granted> Grant(uint64_t session, uint64_t size_bytes,
                               uint64_t wish_bytes = 0);
  /// \brief The same for a guest session: the line says whose it is there (L10), who is
  /// `incarnation` of its node, and by which request it was asked for.
  arrow::Result<Granted> GrantGuest(const GrantOwner& owner, uint64_t session,
                                    uint64_t size_bytes, uint64_t wish_bytes);
  /// \brief Who holds a grant, as its line says.
  arrow::Result<GrantOwner> OwnerOf(const GrantId& id) const;

  /// \brief Take back a grant whose writer has settled its open ranges. Stale, and
  /// nothing changes, if `session` does not hold it.
  arrow::Status Return(uint64_t session, const GrantId& id);

  /// \brief The same for a writer that cannot: flush and settle first what it may have
  /// left in this node's caches (D3).
  arrow::Status ReturnOfDead(uint64_t session, const GrantId& id);

  /// \brief The extent of a grant; Invalid with reason stale generation if it is gone.
  arrow::Result<alloc::Range> ExtentOf(const GrantId& id) const;
  /// \brief True if `session` holds `grant` now.
  bool Holds(uint64_t session, uint32_t grant) const;
  std::vector<uint64_t> Sessions() const;  ///< Those that hold grants, in order.
  std::vector<GrantId> GrantsOf(uint64_t session) const;

  /// \brief Touch the whole data part now (--prealloc).
  arrow::Status WarmAll();
  /// \brief Touch one extent: from the start it can be seen which pages back the data.
  arrow::Status WarmFirst();

  alloc::RangeMap& ranges() { return ranges_; }
  const alloc::RangeMap& ranges() const { return ranges_; }
  uint32_t num_grants() const { return grants_.num_owned(); }
  const WarmMemory& warm() const { return warm_; }

 private:
  arrow::Result<GrantId> Record(uint32_t grant, const GrantOwner& owner,
                                const alloc::Range& extent);
  void SettleOpenRanges(uint32_t grant);

  region::Segment* segment_;
  GrantOwner node_;
  alloc::RangeMap ranges_;
  GrantTable grants_;
  WarmMemory warm_;
  std::map<uint64_t, std::set<uint32_t>> of_session_;
  std::vector<std::string> problems_;
};

}  // namespace sheaf::daemon
