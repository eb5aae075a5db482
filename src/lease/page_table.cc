#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/fault_point.h"
#include "base/math.h"
#include "format/layout.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "region/region.h"

namespace sheaf::lease {
namespace {

constexpr uint32_t kPageWords = format::kLeasePageBytes / sizeof(uint64_t);
/// Of a page that is active for no session: a damaged word. Nobody can end the leases
/// there, which count for as long as it stays so.
constexpr uint64_t kUnknownSession = format::kLeasePageActive;

// Beyond it are a node's number and a mark that there is one.
constexpr uint64_t kGuestEpochMask = 0xFFFFFFFF;
constexpr uint32_t kGuestNodeShift = 32;
constexpr uint64_t kGuestMark = uint64_t{1} << 63;

}  // namespace

PageTable::PageTable(region::Segment* own_segment)
    : segment_(own_segment), sessions_(own_segment->header().lease_pages_max) {
  const auto marks = region::ReadMarks(*segment_);
  const uint64_t used = marks.ok() ? marks->lease_pages : sessions_.size();
  if (used == 0) return;
  segment_->control().cache()->Invalidate(Word(0), used * sizeof(uint64_t));
  for (uint32_t page = 0; page < used; ++page) {
    const uint64_t word = platform::SharedWord(Word(page)).LoadAcquire();
    if ((word & format::kLeasePageActive) == 0) continue;
    const uint64_t session = word & ~format::kLeasePageActive;
    sessions_[page] = session != 0 ? session : kUnknownSession;
  }
}

uint64_t* PageTable::Word(uint32_t page) const {
  return segment_->ControlLine(segment_->layout().page_table) + page;
}

arrow::Result<uint32_t> PageTable::Activate(uint64_t session,
                                            const std::optional<GuestName>& guest) {
  SHEAF_CHECK(session != 0 && (session & format::kLeasePageActive) == 0);
  const auto free = std::ranges::find(sessions_, uint64_t{0});
  if (free == sessions_.end()) {
    return arrow::Status::CapacityError("all ", sessions_.size(),
                                        " lease pages of segment ", segment_->id().value,
                                        " are in use");
  }
  const auto page = CheckedCast<uint32_t>(free - sessions_.begin());
  ARROW_RETURN_NOT_OK(segment_->leases().Allocate(page * format::kLeasePageBytes,
                                                  format::kLeasePageBytes));
  PassFaultPoint("daemon.lease-page.before-cells");
  ClearCells(page, session);
  if (guest) StoreGuest(page, *guest);
  segment_->leases().cache()->Settle(segment_->LeasePage(page), format::kLeasePageBytes);
  PassFaultPoint("daemon.lease-page.after-cells");
  region::UpdateIncarnation(segment_, [page](format::IncarnationLine* line) {
    line->lease_pages_used = std::max<uint64_t>(line->lease_pages_used, page + 1);
  });
  PassFaultPoint("daemon.lease-page.after-mark");
  region::StoreControlWord(segment_, Word(page), format::kLeasePageActive | session);
  PassFaultPoint("daemon.lease-page.after-word");
  *free = session;
  return page;
}

/// Whoever clears owns the page: its session is not yet told of it, or dead.
void PageTable::ClearCells(uint32_t page, uint64_t session) {
  uint64_t* words = segment_->LeasePage(page);
  for (uint32_t i = 0; i < kPageWords; ++i) {
    platform::SharedWord(words + i).StoreRelease(i == kPageSessionWord ? session : 0);
  }
}

void PageTable::StoreGuest(uint32_t page, const GuestName& guest) {
  SHEAF_CHECK((guest.format_epoch & ~kGuestEpochMask) == 0);
  uint64_t* words = segment_->LeasePage(page);
  platform::SharedWord(words + kPageGuestSessionWord).StoreRelease(guest.session);
  platform::SharedWord(words + kPageGuestNodeWord)
      .StoreRelease(kGuestMark | uint64_t{guest.node.value} << kGuestNodeShift |
                    guest.format_epoch);
}

std::optional<GuestName> PageTable::GuestOf(uint64_t session) const {
  const auto page = std::ranges::find(sessions_, session);
  if (page == sessions_.end()) return std::nullopt;
  uint64_t* words = segment_->LeasePage(static_cast<uint32_t>(page - sessions_.begin()));
  const uint64_t word = platform::SharedWord(words + kPageGuestNodeWord).LoadAcquire();
  if ((word & kGuestMark) == 0) return std::nullopt;
  const uint64_t node = (word & ~kGuestMark) >> kGuestNodeShift;
  if (node >= segment_->header().nodes_max || node == segment_->id().value) {
    return std::nullopt;
  }
  return GuestName{{static_cast<uint32_t>(node)},
                   word & kGuestEpochMask,
                   platform::SharedWord(words + kPageGuestSessionWord).LoadAcquire()};
}

void PageTable::Release(uint64_t session) {
  // Damaged grants and records may name such a session, too.
  if (session == 0 || session == kUnknownSession) return;
  platform::CacheControl* cache = segment_->leases().cache();
  for (uint32_t page = 0; page < sessions_.size(); ++page) {
    if (sessions_[page] != session) continue;
    ClearCells(page, 0);
    cache->Flush(segment_->LeasePage(page), format::kLeasePageBytes);
    cache->Fence();
    PassFaultPoint("daemon.lease-page.after-clear");
    region::StoreControlWord(segment_, Word(page), 0);
    sessions_[page] = 0;
  }
}

void PageTable::FlushPages() {
  PassFaultPoint("daemon.sweep.before-flush");
  platform::CacheControl* cache = segment_->leases().cache();
  for (uint32_t page = 0; page < sessions_.size(); ++page) {
    if (sessions_[page] == 0) continue;
    uint64_t* words = segment_->LeasePage(page);
    const uint64_t mark = platform::SharedWord(words + kPageMarkWord).LoadAcquire();
    const uint64_t used =
        kPageHeaderWords + std::min<uint64_t>(mark, format::kLeaseCellsPerPage);
    cache->Flush(words, used * sizeof(uint64_t));
  }
  cache->Fence();
  PassFaultPoint("daemon.sweep.after-flush");
}

std::vector<uint32_t> PageTable::PagesOf(uint64_t session) const {
  std::vector<uint32_t> pages;
  for (uint32_t page = 0; page < sessions_.size(); ++page) {
    if (sessions_[page] == session) pages.push_back(page);
  }
  return pages;
}

// The request last: a daemon that dies here has noted nothing, and the next one looks at
// what is visible.
void PageTable::NotePut(uint64_t session, const LastPut& put) {
  const auto page = std::ranges::find(sessions_, session);
  if (page == sessions_.end() || put.request <= LastPutOf(session).request) return;
  uint64_t* words = segment_->LeasePage(static_cast<uint32_t>(page - sessions_.begin()));
  platform::SharedWord(words + kPagePutRequestWord).StoreRelease(0);
  platform::SharedWord(words + kPagePutSlotWord).StoreRelease(put.slot);
  platform::SharedWord(words + kPagePutGenerationWord).StoreRelease(put.generation);
  platform::SharedWord(words + kPagePutVersionWord).StoreRelease(put.version_sequence);
  platform::SharedWord(words + kPagePutRequestWord).StoreRelease(put.request);
  if (!GuestOf(session)) return;
  segment_->leases().cache()->Flush(words, format::kLineBytes);
  segment_->leases().cache()->Fence();
}

void PageTable::ForgetPut(uint64_t session, uint64_t request) {
  for (const uint32_t page : PagesOf(session)) {
    uint64_t* const words = segment_->LeasePage(page);
    platform::SharedWord noted(words + kPagePutRequestWord);
    if (noted.LoadAcquire() != request) continue;
    noted.StoreRelease(0);
    // A guest outlives a boot of this node: the note must not.
    if (GuestOf(session)) segment_->leases().cache()->Settle(words, format::kLineBytes);
  }
}

// A page that was activated later may come before the one with the last note.
LastPut PageTable::LastPutOf(uint64_t session) const {
  LastPut last;
  for (const uint32_t page : PagesOf(session)) {
    uint64_t* words = segment_->LeasePage(page);
    const uint64_t request =
        platform::SharedWord(words + kPagePutRequestWord).LoadAcquire();
    if (request <= last.request) continue;
    last.request = request;
    last.slot = static_cast<uint32_t>(
        platform::SharedWord(words + kPagePutSlotWord).LoadAcquire());
    last.generation = platform::SharedWord(words + kPagePutGenerationWord).LoadAcquire();
    last.version_sequence = static_cast<uint32_t>(
        platform::SharedWord(words + kPagePutVersionWord).LoadAcquire());
  }
  return last;
}

std::vector<uint64_t> PageTable::Sessions() const {
  std::vector<uint64_t> sessions(sessions_);
  std::ranges::sort(sessions);
  const auto repeated = std::ranges::unique(sessions);
  sessions.erase(repeated.begin(), repeated.end());
  std::erase(sessions, uint64_t{0});
  std::erase(sessions, kUnknownSession);
  return sessions;
}

}  // namespace sheaf::lease
