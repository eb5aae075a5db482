// Leases: cells in the reader's own node's segment that keep a home from reclaiming an
// object (docs/protocol.md L3, L5, O1-O6, G1).

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/layout.h"
#include "platform/cache.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::lease {

/// \brief One cell of this session's pages: page number and cell index in it.
struct Cell {
  uint32_t page = 0;
  uint32_t index = 0;
};

/// Words of a page: 0 is the high-water mark of its cells (exclusive), 1 the session,
/// then its last put, and whose guest it is; cells follow the header line.
constexpr uint32_t kPageMarkWord = 0;
constexpr uint32_t kPageSessionWord = 1;
constexpr uint32_t kPagePutRequestWord = 2;
constexpr uint32_t kPagePutSlotWord = 3;
constexpr uint32_t kPagePutGenerationWord = 4;
constexpr uint32_t kPagePutVersionWord = 5;
constexpr uint32_t kPageGuestSessionWord = 6;  ///< Of a guest session: at its own node.
constexpr uint32_t kPageGuestNodeWord = 7;     ///< 0: of a session of this node.
constexpr uint32_t kPageHeaderWords = format::kLineBytes / sizeof(uint64_t);

/// \brief The cells of one session. Single writer process; thread-safe inside it.
/// Invariant LEASE-1: only cells below the page's high-water mark are ever non-zero, and
/// the mark has left this node (class B: is in memory) before the first cell above the
/// old mark is stored.
class CellTable {
 public:
  /// Asks the node's daemon for one more active page; returns its number. Called by one
  /// thread at a time, while no lock is held that `Clear` needs.
  using MorePagesFn = std::function<arrow::Result<uint32_t>()>;

  /// `pages` are active pages of this session, all of their cells clear. `settle_class`
  /// is the cluster's; the default is right for every class, but waits D in each `Write`
  /// of class C.
  CellTable(region::Segment* own_segment, const std::vector<uint32_t>& pages,
            MorePagesFn more_pages,
            platform::SettleClass settle_class = platform::SettleClass::kOrdered);

  /// \brief Pages of a former life of this session, before the first `Write`: the leases
  /// in them stay where they are (O5), and are the caller's to clear.
  struct Written {
    uint64_t lease = 0;  ///< Packed.
    Cell cell;
  };
  std::vector<Written> AdoptPages(const std::vector<uint32_t>& pages);

  /// \brief Write a lease of `object` in a free cell (lowest first), flush, fence (class
  /// B: settle): steps O1 "store own cell, FLUSH, FENCE". KeyError with reason stale
  /// generation if `object` has one that a cell cannot hold; the error of `more_pages` if
  /// no page is to be had.
  arrow::Result<Cell> Write(const ObjectId& object);

  /// \brief Wait until a written cell is in memory, whatever the settle class.
  void Settle(const Cell& cell);

  /// \brief O6: clear and flush (no fence). The cell may be reused at once.
  void Clear(const Cell& cell);

  uint32_t cells_in_use() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// \brief What a session is told of a put that others could see, if it asks again (P4).
struct LastPut {
  uint64_t request = 0;  ///< Of the session; 0 none.
  uint32_t slot = 0;
  uint64_t generation = 0;
  uint32_t version_sequence = 0;  ///< 0 when unnamed.
};

/// \brief Whom a guest session stands for: a session of another node, whose segment was
/// formatted at that epoch.
struct GuestName {
  NodeId node;
  uint64_t format_epoch = 0;
  uint64_t session = 0;
  auto operator<=>(const GuestName&) const = default;
};

/// \brief Daemon side: hand pages of the own segment to sessions (L5). One per daemon,
/// single-threaded. Writes `IncarnationLine::lease_pages_used`.
class PageTable {
 public:
  /// \brief Adopt the pages that are active in `own_segment`, which must outlive this
  /// object. One that names no session is not used again, and its leases stay.
  explicit PageTable(region::Segment* own_segment);
  /// \brief Activate a cleared page for `session` (1 to 2^63 - 1): allocated, zeroed,
  /// flushed; then its word. CapacityError if all `lease_pages_max` are in use,
  /// OutOfMemory if the page's memory is not there. That of a guest has its name,
  /// settled.
  arrow::Result<uint32_t> Activate(uint64_t session,
                                   const std::optional<GuestName>& guest = std::nullopt);
  /// \brief Whose guest `session` is, as its page says. Input, as all in that part.
  std::optional<GuestName> GuestOf(uint64_t session) const;
  /// \brief Clear all cells of `session`, flush, fence, and deactivate its pages (D2).
  void Release(uint64_t session);
  /// \brief O6: flush all active pages (the sweep).
  void FlushPages();
  /// \brief Sessions that hold pages: after a restart, those to attach again or to
  /// release.
  std::vector<uint64_t> Sessions() const;
  std::vector<uint32_t> PagesOf(uint64_t session) const;  ///< In order.

  /// \brief Note the last put of `session`, unless a later request is noted; nothing if
  /// it has no page. In ordinary memory of the node: for its next daemon, not for other
  /// nodes; that of a guest, who outlives a reboot, is flushed.
  void NotePut(uint64_t session, const LastPut& put);
  /// \brief Note nothing any more, if `request` is the last.
  void ForgetPut(uint64_t session, uint64_t request);
  /// \brief Input: the session can write there, too.
  LastPut LastPutOf(uint64_t session) const;

 private:
  uint64_t* Word(uint32_t page) const;
  void ClearCells(uint32_t page, uint64_t session);
  void StoreGuest(uint32_t page, const GuestName& guest);

  region::Segment* segment_;
  std::vector<uint64_t> sessions_;  ///< [lease_pages_max], 0 = free
};

/// \brief The set of leases that some node holds on objects of one home, as packed cells.
using LeasedSet = std::unordered_set<uint64_t>;

/// \brief G1: LOAD! page tables and active cells of every segment, except of nodes that
/// `home` knows to be off (F8); the cells whose home is `home`. Called after GRACE and
/// after Region::AttachMissing: a segment that does not exist yet holds no lease on what
/// was Retired before. IOError if some segment cannot be read (then nothing may be
/// reclaimed).
arrow::Result<LeasedSet> ScanLeases(const region::Region& region, SegmentId home);
arrow::Result<LeasedSet> ScanLeases(const region::SegmentList& segments, SegmentId home);

/// \brief Number of cells that lease an object, by packed cell; no entry if there is
/// none.
using LeaseCounts = std::unordered_map<uint64_t, uint32_t>;

/// \brief What all cells in the cluster lease, from one scan (for display; a snapshot).
arrow::Result<LeaseCounts> CountLeases(const region::Region& region);
arrow::Result<LeaseCounts> CountLeases(const region::SegmentList& segments);

/// \brief Number of cells in the cluster that lease `object` (for display; a snapshot).
arrow::Result<uint32_t> CountLeases(const region::Region& region, const ObjectId& object);
arrow::Result<uint32_t> CountLeases(const region::SegmentList& segments,
                                    const ObjectId& object);

}  // namespace sheaf::lease
