// Which requests removed objects of a home, for those that come again: their answer may
// have been lost.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <unordered_map>

#include "sheaf/types.h"

namespace sheaf::daemon {

/// Whoever asks again does so within seconds: so many are not removed meanwhile.
constexpr size_t kRemovalsKept = size_t{1} << 16;

/// \brief The last removals of a home. An object is removed once, by one request.
class RecentRemovals {
 public:
  /// \brief `remover` did it; 0: nobody who would ask again.
  void Add(const ObjectId& object, uint32_t remover) {
    if (remover == 0 || !removers_.emplace(object, remover).second) return;
    oldest_first_.push_back(object);
    if (oldest_first_.size() <= kRemovalsKept) return;
    removers_.erase(oldest_first_.front());
    oldest_first_.pop_front();
  }

  /// \brief True if just this request removed `object`.
  bool Has(const ObjectId& object, uint32_t remover) const {
    const auto found = removers_.find(object);
    return found != removers_.end() && found->second == remover;
  }

 private:
  std::unordered_map<ObjectId, uint32_t> removers_;
  std::deque<ObjectId> oldest_first_;
};

}  // namespace sheaf::daemon
