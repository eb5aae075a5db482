#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/math.h"
#include "base/mutex.h"
#include "base/plant.h"
#include "format/layout.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "platform/shared_word.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::lease {
namespace {

/// Cells by which a page's high-water mark rises: one line of them.
constexpr uint32_t kMarkStep = format::kLineBytes / sizeof(uint64_t);
constexpr auto kCellsPerPage = static_cast<uint32_t>(format::kLeaseCellsPerPage);

}  // namespace

/// Cells are numbered through all pages, in the order in which the pages came.
struct CellTable::Impl {
  Impl(region::Segment* own_segment, MorePagesFn ask_for_page,
       platform::SettleClass node_settle_class)
      : segment(own_segment),
        more_pages(std::move(ask_for_page)),
        settle_class(node_settle_class) {}

  void AddPage(uint32_t page) SHEAF_REQUIRES(mutex) {
    SHEAF_CHECK(page < segment->header().lease_pages_max);
    const bool is_new = page_ordinals.emplace(page, pages.size()).second;
    SHEAF_CHECK(is_new);
    pages.push_back(page);
    is_taken.resize(pages.size() * kCellsPerPage);
  }

  Cell CellOf(uint32_t number) const SHEAF_REQUIRES(mutex) {
    return {pages[number / kCellsPerPage], number % kCellsPerPage};
  }

  uint64_t* WordOf(const Cell& cell) const {
    return segment->LeasePage(cell.page) + kPageHeaderWords + cell.index;
  }

  /// Makes earlier stores to the word's line visible to other nodes before any later
  /// access.
  void Publish(uint64_t* word) {
    platform::CacheControl* cache = segment->leases().cache();
    cache->Flush(word, sizeof(*word));
    cache->Fence();
    if (settle_class == platform::SettleClass::kOrdered) {
      cache->Settle(word, sizeof(*word));
    }
  }

  Cell MarkTaken(uint32_t number) SHEAF_REQUIRES(mutex) {
    is_taken[number] = true;
    ++in_use;
    return CellOf(number);
  }

  /// The lowest free cell, below its page's mark; nothing if all pages are full.
  std::optional<Cell> Take() SHEAF_EXCLUDES(mutex) {
    const MutexLock lock(&mutex);
    if (!cleared.empty()) {
      const uint32_t number = cleared.top();
      cleared.pop();
      return MarkTaken(number);
    }
    if (num_fresh == pages.size() * kCellsPerPage) return std::nullopt;
    const Cell cell = MarkTaken(num_fresh++);
    if (cell.index % kMarkStep == 0) {  // LEASE-1
      uint64_t* mark = segment->LeasePage(cell.page) + kPageMarkWord;
      platform::SharedWord(mark).StoreRelease(cell.index + kMarkStep);
      Publish(mark);
    }
    return cell;
  }

  void GiveBack(const Cell& cell) SHEAF_EXCLUDES(mutex) {
    const MutexLock lock(&mutex);
    const auto page = page_ordinals.find(cell.page);
    SHEAF_CHECK(page != page_ordinals.end() && cell.index < kCellsPerPage);
    const auto number = CheckedCast<uint32_t>(page->second * kCellsPerPage + cell.index);
    SHEAF_CHECK(is_taken[number]);
    is_taken[number] = false;
    cleared.push(number);
    --in_use;
  }

  region::Segment* const segment;
  const MorePagesFn more_pages;
  const platform::SettleClass settle_class;

  Mutex grow_mutex;  ///< Held while `more_pages` runs. Locked before `mutex`.
  mutable Mutex mutex;
  std::vector<uint32_t> pages SHEAF_GUARDED_BY(mutex);
  /// page -> index in `pages`
  std::unordered_map<uint32_t, size_t> page_ordinals SHEAF_GUARDED_BY(mutex);
  /// Numbers of cells that were used before, lowest first.
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> cleared
      SHEAF_GUARDED_BY(mutex);
  /// Cells from this number on were never used.
  uint32_t num_fresh SHEAF_GUARDED_BY(mutex) = 0;
  /// By number. The words themselves cannot tell: every session of the node may store
  /// there.
  std::vector<bool> is_taken SHEAF_GUARDED_BY(mutex);
  uint32_t in_use SHEAF_GUARDED_BY(mutex) = 0;
};

static_assert(kCellsPerPage % kMarkStep == 0, "the last mark of a page is its end");

CellTable::CellTable(region::Segment* own_segment, const std::vector<uint32_t>& pages,
                     MorePagesFn more_pages, platform::SettleClass settle_class)
    : impl_(std::make_shared<Impl>(own_segment, std::move(more_pages), settle_class)) {
  const MutexLock lock(&impl_->mutex);
  for (const uint32_t page : pages) impl_->AddPage(page);
}

std::vector<CellTable::Written> CellTable::AdoptPages(
    const std::vector<uint32_t>& pages) {
  const MutexLock lock(&impl_->mutex);
  std::vector<Written> written;
  for (const uint32_t page : pages) {
    impl_->AddPage(page);
    // From now on any cell may be used (LEASE-1).
    uint64_t* mark = impl_->segment->LeasePage(page) + kPageMarkWord;
    platform::SharedWord(mark).StoreRelease(kCellsPerPage);
    impl_->Publish(mark);
    for (uint32_t i = 0; i < kCellsPerPage; ++i) {
      const uint32_t number = impl_->num_fresh++;
      const Cell cell = impl_->CellOf(number);
      const uint64_t lease = platform::SharedWord(impl_->WordOf(cell)).LoadAcquire();
      if (lease == 0) {
        impl_->cleared.push(number);
      } else {
        written.push_back({lease, impl_->MarkTaken(number)});
      }
    }
  }
  return written;
}

arrow::Result<Cell> CellTable::Write(const ObjectId& object) {
  if ((object.generation & format::kGenerationLowMask) == 0) {
    // Ids come in handles, requests and records.
    return MakeStatus(
        arrow::StatusCode::KeyError, ErrorReason::kStaleGeneration,
        "no object ever has generation " + std::to_string(object.generation));
  }
  std::optional<Cell> cell = impl_->Take();
  while (!cell) {
    const MutexLock grow_lock(&impl_->grow_mutex);
    cell = impl_->Take();  // Another thread may have got a page meanwhile.
    if (cell) break;
    ARROW_ASSIGN_OR_RAISE(const uint32_t page, impl_->more_pages());
    const MutexLock lock(&impl_->mutex);
    impl_->AddPage(page);
  }
  uint64_t* word = impl_->WordOf(*cell);
  const uint64_t lease =
      format::PackLeaseCell(object.segment.value, object.slot, object.generation);
  if (Planted("no-fence")) {
    platform::SharedWord(word).StoreRelease(lease);
    impl_->segment->leases().cache()->Flush(word, sizeof(*word));
    return *cell;
  }
  // Fenced: the caller's re-check of the slot comes after it, as the home's scan after
  // Retired.
  platform::SharedWord(word).StoreFenced(lease);
  impl_->Publish(word);
  return *cell;
}

void CellTable::Settle(const Cell& cell) {
  const uint64_t* word = impl_->WordOf(cell);
  impl_->segment->leases().cache()->Settle(word, sizeof(*word));
}

void CellTable::Clear(const Cell& cell) {
  uint64_t* word = impl_->WordOf(cell);
  platform::SharedWord(word).StoreRelease(0);  // After all reads of the object.
  impl_->segment->leases().cache()->Flush(word, sizeof(*word));
  impl_->GiveBack(cell);
}

uint32_t CellTable::cells_in_use() const {
  const MutexLock lock(&impl_->mutex);
  return impl_->in_use;
}

}  // namespace sheaf::lease
