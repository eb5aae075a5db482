// The last replies to one session: a request that is repeated is not done twice.

#pragma once

#include <cstdint>
#include <deque>
#include <map>
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
    return under_way_.insert_or_assign(request_id, true).second ? Seen::kNew
                                                                : Seen::kUnderWay;
  }

  /// \brief The session has another connection, over which it has asked for nothing yet.
  void GoOn() {
    for (auto& [request_id, is_awaited] : under_way_) is_awaited = false;
  }

  /// \brief True if the session asked over the connection that it has now. If it has not,
  /// it asks again, or has given up.
  bool IsAwaited(uint64_t request_id) const {
    const auto found = under_way_.find(request_id);
    return found != under_way_.end() && found->second;
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
  std::map<uint64_t, bool> under_way_;  ///< True: awaited.
};

}  // namespace sheaf::daemon
