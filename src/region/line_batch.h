// LOAD! of many lines at once, as of one line in each segment: one fence, and loads that
// wait for memory side by side instead of one after the other.

#pragma once

#include <cstddef>

#include "platform/cache.h"
#include "region/region.h"

namespace sheaf::region {

/// \brief Lines that are dropped together. After `Fence` plain loads see what other nodes
/// wrote before the line was dropped, or later: each load is one LOAD!, and nothing is
/// said about the order among them. All parts of a region are memory of one kind, so one
/// fence serves all.
class LineBatch {
 public:
  void Drop(const Part& part, const void* address, size_t size_bytes) {
    part.cache()->Flush(address, size_bytes);
    cache_ = part.cache();
  }

  void Fence() {
    if (cache_ != nullptr) cache_->Fence();
    cache_ = nullptr;
  }

 private:
  platform::CacheControl* cache_ =
      nullptr;  ///< Of a part in which something was dropped.
};

}  // namespace sheaf::region
