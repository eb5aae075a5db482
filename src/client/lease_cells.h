// Who writes the lease cells of a session: it itself, or, for one that may only read, its
// daemon.

#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include <arrow/result.h>

#include "client/daemon_channel.h"
#include "format/message.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief The cells of one session (docs/protocol.md O1, O6). Thread-safe.
class LeaseCells {
 public:
  LeaseCells() = default;
  virtual ~LeaseCells() = default;
  LeaseCells(const LeaseCells&) = delete;
  LeaseCells& operator=(const LeaseCells&) = delete;

  /// \brief Have a lease of `object` written, flushed and fenced (class B: settled) on
  /// return. KeyError with reason stale generation if no object is ever so.
  virtual arrow::Result<lease::Cell> Write(const ObjectId& object) = 0;
  /// \brief Wait until a written cell is in memory, whatever the settle class.
  virtual void Settle(const lease::Cell& cell) = 0;
  /// \brief After all reads of the object.
  virtual void Clear(const lease::Cell& cell) = 0;
};

/// \brief In pages that this session may write, and which alone it maps so: a stray store
/// must not clear the lease of another.
class OwnCells : public LeaseCells {
 public:
  /// As of lease::CellTable; the pages may still be read-only.
  static arrow::Result<std::unique_ptr<OwnCells>> Make(
      region::Segment* own_segment, const std::vector<uint32_t>& pages,
      lease::CellTable::MorePagesFn more_pages, platform::SettleClass settle_class);
  arrow::Result<lease::Cell> Write(const ObjectId& object) override {
    return table_.Write(object);
  }
  void Settle(const lease::Cell& cell) override { table_.Settle(cell); }
  void Clear(const lease::Cell& cell) override { table_.Clear(cell); }

 private:
  OwnCells(region::Segment* own_segment, const std::vector<uint32_t>& pages,
           lease::CellTable::MorePagesFn more_pages, platform::SettleClass settle_class)
      : table_(own_segment, pages, std::move(more_pages), settle_class) {}
  lease::CellTable table_;
};

/// \brief By request (L12). A cell that is cleared while the daemon is away ends when the
/// session goes on with the next one: nobody waits for it.
class DaemonCells : public LeaseCells {
 public:
  /// Both outlive it.
  DaemonCells(DaemonChannel* daemon, const region::Segment* own_segment)
      : daemon_(daemon), segment_(own_segment) {}
  arrow::Result<lease::Cell> Write(const ObjectId& object) override;
  void Settle(const lease::Cell& cell) override;
  void Clear(const lease::Cell& cell) override;

  /// \brief What a greeting that goes on with the session names. Only while it is sent.
  std::vector<format::LeaseCell> Known() const;

 private:
  DaemonChannel* daemon_;
  const region::Segment* segment_;
  /// Changed and read only while the channel handles a reply, greets, or is about to
  /// send: a daemon that is greeted knows of these cells and of no others.
  std::set<std::pair<uint32_t, uint32_t>> known_;
};

}  // namespace sheaf::client
