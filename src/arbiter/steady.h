// For how long etcd has been saying the same.

#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace sheaf::arbiter {

/// \brief One look at etcd says little: a lease expires while its holder is about to
/// renew it, and an etcd that has lost all knows nobody for a while. Who acts on what it
/// says looks again and again until that is old enough. Looks that are further apart than
/// `gap_max` may have missed something between them: the time begins anew. One thread.
class Steady {
 public:
  using Time = std::chrono::nanoseconds;

  explicit Steady(Time gap_max) : gap_max_(gap_max) {}

  /// \brief It is so at `now`; `what` tells it from any other state. Returns for how long
  /// it was so at every look.
  Time Look(Time now, std::string what) {
    if (!last_ || now - *last_ > gap_max_ || what != what_) first_ = now;
    last_ = now;
    what_ = std::move(what);
    return now - first_;
  }
  /// \brief It is not so, or nobody knows.
  void Reset() { last_.reset(); }

 private:
  Time gap_max_;
  Time first_{0};
  std::optional<Time> last_;
  std::string what_;
};

}  // namespace sheaf::arbiter
