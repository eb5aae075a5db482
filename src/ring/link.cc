#include "ring/link.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "ring/ring.h"

namespace sheaf::ring {
namespace {

/// Of one call: others of the loop have their turn, too.
constexpr int kFramesPerTurn = 8;

}  // namespace

Link::Link(std::unique_ptr<Channel> channel, size_t message_bytes_max)
    : channel_(std::move(channel)), message_bytes_max_(message_bytes_max) {}

void Link::Queue(std::vector<uint8_t> message) {
  queued_bytes_ += message.size();
  queue_.push_back(std::move(message));
}

arrow::Result<Link::Turn> Link::Advance() {
  Turn turn;
  const uint64_t session = channel_->Poll();
  if (session != session_) {
    session_ = session;
    queue_.clear();
    queued_bytes_ = sent_of_first_ = 0;
    begun_.clear();
    turn.is_new_session = true;
  }
  ARROW_RETURN_NOT_OK(Take(&turn));
  SendSome();
  turn.has_written = channel_->TakeHasWritten();
  return turn;
}

bool Link::SendQueued() {
  SendSome();
  return channel_->TakeHasWritten();
}

arrow::Status Link::Take(Turn* turn) {
  for (int i = 0; i < kFramesPerTurn; ++i) {
    ARROW_ASSIGN_OR_RAISE(auto frame, channel_->Receive());
    if (!frame) break;
    turn->has_read = true;
    if (begun_.size() + frame->bytes.size() > message_bytes_max_) {
      begun_.clear();
      channel_->Refuse();
      return arrow::Status::Invalid("a message of more than ", message_bytes_max_,
                                    " bytes came through a ring");
    }
    begun_.insert(begun_.end(), frame->bytes.begin(), frame->bytes.end());
    if (!frame->goes_on) turn->messages.push_back(std::exchange(begun_, {}));
  }
  channel_->Acknowledge();
  return arrow::Status::OK();
}

void Link::SendSome() {
  while (!queue_.empty()) {
    const std::span<const uint8_t> rest =
        std::span(queue_.front()).subspan(sent_of_first_);
    const size_t size = std::min(rest.size(), Channel::kFrameBytesMax);
    if (!channel_->Send(rest.first(size), size < rest.size())) return;
    sent_of_first_ += size;
    if (size < rest.size()) continue;
    queued_bytes_ -= queue_.front().size();
    queue_.pop_front();
    sent_of_first_ = 0;
  }
}

}  // namespace sheaf::ring
