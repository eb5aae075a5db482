// A set of integers held as intervals.

#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>

namespace sheaf::alloc {

/// \brief Half-open intervals, joined where they touch. Operations cost O(log n),
/// whatever the length of an interval. Not thread-safe.
class IntervalSet {
 public:
  /// \brief Returns how many of [begin, end) were not in the set.
  uint64_t Insert(uint64_t begin, uint64_t end) {
    uint64_t known = 0;
    auto it = FirstEndingAtOrAfter(begin);
    uint64_t joined_begin = begin;
    uint64_t joined_end = end;
    while (it != ends_.end() && it->first <= end) {
      known +=
          std::min(it->second, end) - std::min(std::max(it->first, begin), it->second);
      joined_begin = std::min(joined_begin, it->first);
      joined_end = std::max(joined_end, it->second);
      it = ends_.erase(it);
    }
    ends_.emplace_hint(it, joined_begin, joined_end);
    return end - begin - known;
  }

  bool Contains(uint64_t value) const { return EndOfIntervalAt(value) > value; }

  /// \brief True if any of [begin, end) is in the set.
  bool Overlaps(uint64_t begin, uint64_t end) const {
    return FirstDifference(begin, end) < end || Contains(begin);
  }

  /// \brief The first value in (begin, end) that is in the set if `begin` is not, or the
  /// reverse; `end` if there is none.
  uint64_t FirstDifference(uint64_t begin, uint64_t end) const {
    const uint64_t interval_end = EndOfIntervalAt(begin);
    if (interval_end > begin) return std::min(interval_end, end);
    const auto next = ends_.upper_bound(begin);
    return next == ends_.end() ? end : std::min(next->first, end);
  }

 private:
  // The end of the interval that holds `value`; `value` if none does.
  uint64_t EndOfIntervalAt(uint64_t value) const {
    const auto next = ends_.upper_bound(value);
    if (next == ends_.begin()) return value;
    return std::max(value, std::prev(next)->second);
  }

  std::map<uint64_t, uint64_t>::iterator FirstEndingAtOrAfter(uint64_t value) {
    const auto next = ends_.upper_bound(value);
    if (next == ends_.begin()) return next;
    const auto before = std::prev(next);
    return before->second >= value ? before : next;
  }

  std::map<uint64_t, uint64_t> ends_;  // By begin.
};

}  // namespace sheaf::alloc
