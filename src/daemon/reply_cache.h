// The last replies to one session: a request that is repeated is not done twice.

#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <utility>
#include <vector>

namespace sheaf::daemon {

/// \brief By request id, which the session never uses for two requests. Single-threaded.
class ReplyCache {
 public:
  enum class Seen : uint8_t { kNew, kUnderWay, kAnswered };

  /// \brief What is known of `request_id`; a new one is under way from now on. A request
  /// that is under way will be answered once: let its repetition be.
  Seen Begin(uint64_t request_id) {
    if (Find(request_id) != nullptr) return Seen::kAnswered;
    return under_way_.insert(request_id).second ? Seen::kNew : Seen::kUnderWay;
  }

  void Answer(uint64_t request_id, std::vector<uint8_t> reply) {
    under_way_.erase(request_id);
    replies_.emplace_back(request_id, std::move(reply));
    if (replies_.size() > kRepliesMax) replies_.pop_front();
  }

  /// \brief `request_id` was answered, and would be done anew if it came again.
  void Forget(uint64_t request_id) { under_way_.erase(request_id); }

  /// \brief The reply to an answered request, or null.
  const std::vector<uint8_t>* Find(uint64_t request_id) const {
    for (const auto& [id, reply] : replies_) {
      if (id == request_id) return &reply;
    }
    return nullptr;
  }

 private:
  /// A client waits for each reply: it can have lost no more than those to its threads.
  static constexpr size_t kRepliesMax = 16;

  std::deque<std::pair<uint64_t, std::vector<uint8_t>>> replies_;
  std::set<uint64_t> under_way_;
};

}  // namespace sheaf::daemon
