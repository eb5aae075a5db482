// Whole messages over a channel, of any length up to a limit.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "ring/ring.h"

namespace sheaf::ring {

/// \brief Queues messages until there is room for them, and puts those that arrive
/// together again. Nothing is lost while both sides live: a full ring is waited for. One
/// thread.
class Link {
 public:
  /// Longer messages end the session before memory is taken for them.
  Link(std::unique_ptr<Channel> channel, size_t message_bytes_max);

  /// \brief Send `message` when its turn comes, in this session or not at all.
  void Queue(std::vector<uint8_t> message);
  /// Of messages that wait, whole or in part.
  size_t queued_bytes() const { return queued_bytes_; }

  struct Turn {
    /// The peer, or its channel, is new: what was queued before is forgotten, and what
    /// was sent may be lost.
    bool is_new_session = false;
    /// Something arrived: there may be more, call again.
    bool has_read = false;
    /// The peer may wait for what was written: let it look.
    bool has_written = false;
    std::vector<std::vector<uint8_t>> messages;
  };
  /// \brief Send what there is room for and take what has arrived, some of it. Invalid,
  /// once, if the peer wrote what no sender writes: it is refused from then on.
  arrow::Result<Turn> Advance();
  /// \brief Send what there is room for, in the session that there is. True if the peer
  /// is to look.
  bool SendQueued();

  /// \brief As of Channel.
  void SetAwake(bool is_awake) { channel_->SetAwake(is_awake); }
  bool IsPeerAwake() const { return channel_->IsPeerAwake(); }

  /// \brief Number of the session that messages are sent and received in; 0 none yet.
  uint64_t session() const { return session_; }
  /// \brief Why there can be no session, see Channel.
  const arrow::Status& peer_status() const { return channel_->peer_status(); }

 private:
  arrow::Status Take(Turn* turn);
  void SendSome();

  std::unique_ptr<Channel> channel_;
  const size_t message_bytes_max_;
  uint64_t session_ = 0;
  std::deque<std::vector<uint8_t>> queue_;
  size_t queued_bytes_ = 0;
  size_t sent_of_first_ = 0;
  std::vector<uint8_t> begun_;  ///< A message of which more frames come.
};

}  // namespace sheaf::ring
