#include "daemon/warm_memory.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include <arrow/status.h>

#include "alloc/range.h"

namespace sheaf::daemon {

arrow::Status WarmMemory::Warm(const alloc::Range& range) {
  uint64_t cursor = range.offset;
  while (cursor < range.end()) {
    auto next = warm_.upper_bound(cursor);
    if (next != warm_.begin()) {
      const auto before = std::prev(next);
      if (before->second > cursor) {
        cursor = before->second;
        continue;
      }
    }
    const uint64_t end =
        next == warm_.end() ? range.end() : std::min(range.end(), next->first);
    ARROW_RETURN_NOT_OK(WarmGap(cursor, end));
    cursor = end;
  }
  return arrow::Status::OK();
}

// [begin, end) is wholly cold.
arrow::Status WarmMemory::WarmGap(uint64_t begin, uint64_t end) {
  ARROW_RETURN_NOT_OK(data_->Allocate(begin, end - begin));
  warm_bytes_ += end - begin;
  const auto next = warm_.lower_bound(end);
  if (next != warm_.end() && next->first == end) {
    end = next->second;
    warm_.erase(next);
  }
  const auto after = warm_.upper_bound(begin);
  if (after != warm_.begin() && std::prev(after)->second == begin) {
    std::prev(after)->second = end;
  } else {
    warm_.emplace(begin, end);
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::daemon
