// How much of one node's memory sessions and users hold, and may hold.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "alloc/range_map.h"
#include "region/cluster_config.h"

namespace sheaf::daemon {

/// \brief Whose something is: a session, and the user that it is, or was, of.
struct Holder {
  uint64_t session = 0;
  uint32_t user_id = 0;
};

/// \brief What the grants of a session and the tables that it sealed keep from being free
/// counts for the session, and for its user also after the session: each byte once,
/// however many of them lie on it. Keeps no account where there is no limit. Pure.
class Quotas {
 public:
  Quotas(const region::ClusterConfig& config, uint64_t segment_bytes);

  bool any() const { return limits_[0] != 0 || limits_[1] != 0; }

  /// \brief OutOfMemory with reason quota, naming it, what is used and what to do, if
  /// `holder` may not have a new extent for `size_bytes`.
  arrow::Status CheckGrant(const Holder& holder, uint64_t size_bytes) const;
  /// \brief The same for these ranges, of which it may hold some already.
  arrow::Status CheckRanges(const Holder& holder,
                            const std::vector<alloc::Range>& ranges) const;

  /// \brief A grant, or a table: granule-aligned, sorted, disjoint.
  void Add(const Holder& holder, const std::vector<alloc::Range>& ranges);
  /// \brief One that was added for `holder` is gone.
  void Drop(const Holder& holder, const std::vector<alloc::Range>& ranges);
  /// \brief The session is over; what it leaves is its user's.
  void EndSession(uint64_t session);
  /// \brief A grant that was added for user `from` is of `to`.
  void Move(uint32_t from, uint32_t to, const std::vector<alloc::Range>& ranges);

 private:
  enum Kind : uint8_t { kSession, kUser };
  using Account = alloc::RangeMap;  ///< All that is not free in it is held.

  arrow::Status Check(Kind kind, uint64_t id, uint64_t more_bytes) const;
  const Account* Find(Kind kind, uint64_t id) const;
  void Add(Kind kind, uint64_t id, const std::vector<alloc::Range>& ranges);
  void Drop(Kind kind, uint64_t id, const std::vector<alloc::Range>& ranges);

  uint64_t segment_bytes_;
  uint64_t limits_[2];
  std::map<uint64_t, Account> accounts_[2];  ///< By session, by user.
};

}  // namespace sheaf::daemon
