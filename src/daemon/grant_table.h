// Which session may write which extent: the grant lines of the own segment
// (docs/protocol.md L2, L10, P1).

#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "format/checksum.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Names one grant, for ever: its line is reused, the generation never is.
struct GrantId {
  uint32_t grant = 0;
  uint64_t generation = 0;
  auto operator<=>(const GrantId&) const = default;
};

struct GrantOwner {
  NodeId node;
  uint64_t incarnation = 0;
  uint64_t session = 0;
  uint64_t request = 0;  ///< Of another node's session: by which it asked. Else 0.
  auto operator<=>(const GrantOwner&) const = default;
};

/// \brief The lines and the home's own copy of them. One per daemon, single-threaded.
/// Invariant GRANT-1: a line is in memory as Owned before anyone is told of the grant,
/// and as Free before its extent can be granted again. So an update that a crash cut
/// short leaves the grant free: nobody was told of it yet, or its writer asked to return
/// it.
class GrantTable {
 public:
  struct Entry {
    uint64_t generation =
        0;  ///< Of the current owner, or of the last one; 0 before the first.
    bool owned = false;
    GrantOwner owner;
    alloc::Range extent;
  };

  /// \brief Adopt the lines in `own_segment` (R1): all are settled again.
  explicit GrantTable(region::Segment* own_segment);

  /// \brief Damaged lines, one sentence each. Which extents they hold is not known: no
  /// memory of this segment should be granted then.
  const std::vector<std::string>& problems() const { return problems_; }

  /// \brief The line that `Own` may use next: the lowest free one. CapacityError if there
  /// is none. Changes nothing.
  arrow::Result<uint32_t> NextFree() const;

  /// \brief Free -> Owned with the next generation, settled.
  arrow::Result<GrantId> Own(uint32_t grant, const GrantOwner& owner,
                             const alloc::Range& extent);

  /// \brief Owned -> Free, settled. Stale if `id` is not owned.
  arrow::Status Free(const GrantId& id);

  /// \brief Repair: all lines free, damaged ones for ever, settled. Nobody may hold a
  /// grant.
  arrow::Status FreeAll();

  /// \brief The entry behind `id` if it is owned; Invalid with reason stale generation if
  /// not.
  arrow::Result<Entry> Find(const GrantId& id) const;

  /// \brief What `grant` is now; a free entry for a line that was never used.
  Entry Get(uint32_t grant) const;
  std::vector<uint32_t> Owned() const;  ///< In order.

  uint32_t num_owned() const { return num_owned_; }

 private:
  void Store(uint32_t grant, const Entry& entry);
  void Adopt();
  void AdoptLine(uint32_t grant, const format::LineWords& words);

  region::Segment* segment_;
  std::vector<Entry> entries_;  ///< Up to the highest line ever used.
  std::set<uint32_t> free_;     ///< Of `entries_`, those that may be used again.
  uint32_t num_owned_ = 0;
  std::vector<std::string> problems_;
  std::vector<uint32_t> damaged_;
};

}  // namespace sheaf::daemon
