// Leases of sessions that may only read: their daemon writes the cells (docs/protocol.md
// L12).

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/home.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "lease/lease.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief The cells of all readers of one node, in pages of their sessions. What they
/// name is input; nothing that one asks for touches another's cells. The region and the
/// home outlive it. Single-threaded.
class ReaderLeases {
 public:
  ReaderLeases(region::Region* region, Home* home) : region_(region), home_(home) {}

  using CellKey = std::pair<uint32_t, uint32_t>;  ///< Page, index.

  /// \brief `session`, one of the home's, is new.
  void Begin(uint64_t session);
  /// \brief `session`, one of the home's, goes on, and knows of the leases in these cells
  /// only: any other one, whose reply was lost or which it let go of meanwhile, ends.
  void EndAllBut(uint64_t session, const std::set<CellKey>& known);
  /// \brief The home has ended the session, and cleared its pages.
  void Forget(uint64_t session);

  /// \brief What a greeting says that its session knows of.
  static std::set<CellKey> Known(const format::Hello& hello);

  /// \brief Answer `message` of a reader; false, and nothing happens, if it is about
  /// something else.
  bool Handle(uint64_t session, const format::Message& message, const ReplyFn& reply);

  /// \brief Write a lease on `object`: flushed and fenced on return (O1). Nobody has
  /// looked at the object: the reader does. KeyError with reason stale generation if
  /// there can be no such object, CapacityError if the session may hold no more.
  arrow::Result<format::LeaseCell> Take(uint64_t session, const ObjectId& object);

  /// \brief O6. Invalid with reason stale generation, and nothing changes, if the session
  /// holds no such lease.
  arrow::Status Drop(uint64_t session, const format::LeaseCell& cell);

 private:
  struct Reader {
    std::unique_ptr<lease::CellTable> cells;
    std::set<CellKey> held;
  };
  std::unique_ptr<lease::CellTable> MakeCells(uint64_t session,
                                              const std::vector<uint32_t>& pages);
  Reader& Find(uint64_t session);
  std::vector<uint8_t> AnswerTake(uint64_t session, uint64_t request_id,
                                  const format::ObjectKey* object);
  arrow::Result<uint32_t> AddPage(uint64_t session);

  region::Region* region_;
  Home* home_;
  std::map<uint64_t, Reader> readers_;
};

}  // namespace sheaf::daemon
