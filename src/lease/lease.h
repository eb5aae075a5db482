// Leases: cells in the reader's own node's segment that keep a home from reclaiming an object (PROTOCOL.md L3, L5, O1-O6, G1).

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::lease {

/// \brief One cell of this session's pages: page number and cell index in it.
struct Cell {
  uint32_t page = 0;
  uint32_t index = 0;
};

/// \brief The cells of one session. Single writer process; thread-safe inside it.
/// Invariant LEASE-1: only cells below the page's high-water mark are ever non-zero, and the mark
/// is in memory before the first cell above the old mark is.
class CellTable {
 public:
  /// Asks the node's daemon for one more active page; returns its number.
  using MorePagesFn = std::function<arrow::Result<uint32_t>()>;

  CellTable(region::Segment* own_segment, std::vector<uint32_t> pages, MorePagesFn more_pages);

  /// \brief Write a lease of `object` in a free cell (lowest first), flush, fence (class B: settle):
  /// steps O1 "store own cell, FLUSH, FENCE". CapacityError if no page is to be had.
  arrow::Result<Cell> Write(const ObjectId& object);

  /// \brief O6: clear and flush (no fence). The cell may be reused at once.
  void Clear(const Cell& cell);

  uint32_t cells_in_use() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// \brief Daemon side: hand pages of the own segment to sessions (L5). Single process.
class PageTable {
 public:
  explicit PageTable(region::Segment* own_segment);
  /// \brief Activate a cleared page for `session`: allocated, zeroed, flushed; then its word.
  /// CapacityError if all `lease_pages_max` are in use.
  arrow::Result<uint32_t> Activate(uint64_t session);
  /// \brief Clear all cells of `session`, flush, fence, and deactivate its pages (D2).
  void Release(uint64_t session);
  /// \brief O6: flush all active pages (the sweep).
  void FlushPages();

 private:
  region::Segment* segment_;
  std::vector<uint64_t> sessions_;  ///< [lease_pages_max], 0 = free
};

/// \brief The set of leases that some node holds on objects of one home, as packed cells.
using LeasedSet = std::unordered_set<uint64_t>;

/// \brief G1: LOAD! page tables and active cells of every segment; the cells whose home is `home`.
/// Called after GRACE. IOError if some segment cannot be read (then nothing may be reclaimed).
arrow::Result<LeasedSet> ScanLeases(const region::Region& region, SegmentId home);

/// \brief Number of cells in the cluster that lease `object` (for display; a snapshot).
arrow::Result<uint32_t> CountLeases(const region::Region& region, const ObjectId& object);

}  // namespace sheaf::lease
