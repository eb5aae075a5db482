#include "daemon/reader_leases.h"

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/fault_point.h"
#include "daemon/access.h"
#include "daemon/home.h"
#include "daemon/transport.h"
#include "format/layout.h"
#include "format/message.h"
#include "lease/lease.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

std::unique_ptr<lease::CellTable> ReaderLeases::MakeCells(
    uint64_t session, const std::vector<uint32_t>& pages) {
  return std::make_unique<lease::CellTable>(
      &region_->own_segment(), pages, [this, session] { return AddPage(session); },
      region_->config().settle_class);
}

void ReaderLeases::Begin(uint64_t session) {
  readers_[session].cells = MakeCells(session, home_->LeasePagesOf(session));
}

// Of a session that a former daemon served the first time: with the leases it wrote.
ReaderLeases::Reader& ReaderLeases::Find(uint64_t session) {
  Reader& reader = readers_[session];
  if (reader.cells != nullptr) return reader;
  reader.cells = MakeCells(session, {});
  for (const auto& [lease, cell] :
       reader.cells->AdoptPages(home_->LeasePagesOf(session))) {
    reader.held.insert({cell.page, cell.index});
  }
  return reader;
}

void ReaderLeases::EndAllBut(uint64_t session, const std::set<CellKey>& known) {
  Reader& reader = Find(session);
  std::erase_if(reader.held, [&](const CellKey& cell) {
    if (known.contains(cell)) return false;
    reader.cells->Clear({cell.first, cell.second});
    return true;
  });
}

void ReaderLeases::Forget(uint64_t session) { readers_.erase(session); }

std::set<ReaderLeases::CellKey> ReaderLeases::Known(const format::Hello& hello) {
  std::set<CellKey> known;
  if (hello.leases() == nullptr) return known;
  for (const format::LeaseCell* cell : *hello.leases()) {
    known.insert({cell->page(), cell->index()});
  }
  return known;
}

bool ReaderLeases::Handle(uint64_t session, const format::Message& message,
                          const ReplyFn& reply) {
  const uint64_t id = message.request_id();
  if (const auto* request = message.body_as<format::LeaseRequest>()) {
    reply(AnswerTake(session, id, request->object()));
    return true;
  }
  if (const auto* request = message.body_as<format::DropLeaseRequest>()) {
    arrow::Status status = request->cell() == nullptr
                               ? arrow::Status::Invalid("drop of no lease")
                               : Drop(session, *request->cell());
    // The first time it was done, by a daemon that died before its reply.
    if (message.is_repeated() && IsStaleGeneration(status)) status = arrow::Status::OK();
    reply(format::MakeOutcomeReply(id, status));
    return true;
  }
  return false;
}

std::vector<uint8_t> ReaderLeases::AnswerTake(uint64_t session, uint64_t request_id,
                                              const format::ObjectKey* object) {
  if (object == nullptr) {
    return format::MakeOutcomeReply(request_id,
                                    arrow::Status::Invalid("lease of nothing"));
  }
  const auto cell = Take(session, format::FromKey(*object));
  if (!cell.ok()) return format::MakeOutcomeReply(request_id, cell.status());
  flatbuffers::FlatBufferBuilder builder;
  const auto body = format::CreateLeaseReply(builder, &*cell);
  return format::FinishReply(&builder, request_id, format::Body::LeaseReply,
                             body.Union());
}

arrow::Result<uint32_t> ReaderLeases::AddPage(uint64_t session) {
  if (home_->LeasePagesOf(session).size() < kReaderPagesMax) {
    return home_->AddLeasePage(session);
  }
  return arrow::Status::CapacityError(
      "this session, of another user, holds leases on ",
      kReaderPagesMax * format::kLeaseCellsPerPage,
      " tables, which is all that one may: close some, or connect once more");
}

arrow::Result<format::LeaseCell> ReaderLeases::Take(uint64_t session,
                                                    const ObjectId& object) {
  const region::Segment* home = region_->segment(object.segment);
  if (home == nullptr) {  // its node may have come up since
    const arrow::Status attached = region_->AttachMissing();
    home = region_->segment(object.segment);
    if (home == nullptr) ARROW_RETURN_NOT_OK(attached);
  }
  if (home == nullptr || object.slot >= home->header().slots_max) {
    return MakeStatus(arrow::StatusCode::KeyError, ErrorReason::kStaleGeneration,
                      "there is no object " + std::to_string(object.segment.value) + ":" +
                          std::to_string(object.slot));
  }
  Reader& reader = Find(session);
  PassFaultPoint("daemon.reader-lease.before-cell");
  ARROW_ASSIGN_OR_RAISE(const lease::Cell cell, reader.cells->Write(object));
  PassFaultPoint("daemon.reader-lease.after-cell");
  const bool is_new = reader.held.insert({cell.page, cell.index}).second;
  SHEAF_CHECK(is_new);
  return format::LeaseCell{cell.page, cell.index};
}

arrow::Status ReaderLeases::Drop(uint64_t session, const format::LeaseCell& cell) {
  Reader& reader = Find(session);
  if (reader.held.erase({cell.page(), cell.index()}) == 0) {
    return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                      "session " + std::to_string(session) + " holds no lease in cell " +
                          std::to_string(cell.page()) + ":" +
                          std::to_string(cell.index()));
  }
  PassFaultPoint("daemon.reader-lease.before-clear");
  reader.cells->Clear({cell.page(), cell.index()});
  PassFaultPoint("daemon.reader-lease.after-clear");
  return arrow::Status::OK();
}

}  // namespace sheaf::daemon
