#include "client/lease_cells.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "client/daemon_channel.h"
#include "format/layout.h"
#include "format/message.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "platform/process.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::client {

namespace {

arrow::Status MakeWritable(const region::Segment& segment, uint32_t page) {
  region::Part& leases = segment.leases();
  const uint64_t begin = page * format::kLeasePageBytes;
  const uint64_t end = RoundUp(begin + format::kLeasePageBytes, platform::PageBytes());
  const uint64_t first = RoundDown(begin, platform::PageBytes());
  return leases.SetWritable(first, std::min(end, leases.size_bytes()) - first,
                            /*writable=*/true);
}

}  // namespace

arrow::Result<std::unique_ptr<OwnCells>> OwnCells::Make(
    region::Segment* own_segment, const std::vector<uint32_t>& pages,
    lease::CellTable::MorePagesFn more_pages, platform::SettleClass settle_class) {
  for (const uint32_t page : pages) {
    ARROW_RETURN_NOT_OK(MakeWritable(*own_segment, page));
  }
  const auto more_writable = [own_segment,
                              more = std::move(more_pages)]() -> arrow::Result<uint32_t> {
    ARROW_ASSIGN_OR_RAISE(const uint32_t page, more());
    ARROW_RETURN_NOT_OK(MakeWritable(*own_segment, page));
    return page;
  };
  return std::unique_ptr<OwnCells>(
      new OwnCells(own_segment, pages, more_writable, settle_class));
}

arrow::Result<lease::Cell> DaemonCells::Write(const ObjectId& object) {
  const format::ObjectKey key = format::ToKey(object);
  ARROW_ASSIGN_OR_RAISE(const Reply reply,
                        daemon_->Call(
                            format::Body::LeaseRequest,
                            [&](flatbuffers::FlatBufferBuilder* builder) {
                              return format::CreateLeaseRequest(*builder, &key).Union();
                            },
                            {},
                            [this](const format::Message& message) {
                              const auto* lease = message.body_as<format::LeaseReply>();
                              if (lease == nullptr || lease->cell() == nullptr) return;
                              known_.emplace(lease->cell()->page(),
                                             lease->cell()->index());
                            }));
  ARROW_ASSIGN_OR_RAISE(const auto* lease,
                        format::BodyAs<format::LeaseReply>(reply.message()));
  const format::LeaseCell* cell = lease->cell();
  if (cell == nullptr || cell->page() >= segment_->header().lease_pages_max ||
      cell->index() >= format::kLeaseCellsPerPage) {
    return arrow::Status::Invalid("the daemon names no lease cell that there is");
  }
  return lease::Cell{cell->page(), cell->index()};
}

// Any process of the node can: the line is in caches that they share.
void DaemonCells::Settle(const lease::Cell& cell) {
  const uint64_t* word =
      segment_->LeasePage(cell.page) + lease::kPageHeaderWords + cell.index;
  segment_->leases().cache()->Settle(word, sizeof(*word));
}

void DaemonCells::Clear(const lease::Cell& cell) {
  // No error can be told to anyone. Without a daemon the next greeting says it all; one
  // that refuses takes the lease back with the session.
  static_cast<void>(daemon_->CallNow(
      format::Body::DropLeaseRequest,
      [&](flatbuffers::FlatBufferBuilder* builder) {
        const format::LeaseCell dropped(cell.page, cell.index);
        return format::CreateDropLeaseRequest(*builder, &dropped).Union();
      },
      [&] { known_.erase({cell.page, cell.index}); }));
}

std::vector<format::LeaseCell> DaemonCells::Known() const {
  std::vector<format::LeaseCell> cells;
  cells.reserve(known_.size());
  for (const auto& [page, index] : known_) cells.emplace_back(page, index);
  return cells;
}

}  // namespace sheaf::client
