#include "daemon/connection.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "daemon/event_loop.h"
#include "daemon/send_points.h"
#include "platform/file.h"
#include "platform/unix_socket.h"

namespace sheaf::daemon {
namespace {

/// Frames of one peer that are handled before the others have their turn.
constexpr int kFramesPerTurn = 16;

}  // namespace

Connection::Ptr Connection::Start(EventLoop* loop, platform::UniqueFd socket,
                                  Handlers handlers) {
  Ptr connection(new Connection(loop, std::move(socket), std::move(handlers)));
  connection->AwaitFrames();
  return connection;
}

Connection::Connection(EventLoop* loop, platform::UniqueFd socket, Handlers handlers)
    : loop_(loop),
      socket_(std::move(socket)),
      watch_(loop->Watch(socket_.get())),
      handlers_(std::move(handlers)) {}

Connection::~Connection() = default;

void Connection::SetHandlers(Handlers handlers) {
  if (!closed()) handlers_ = std::move(handlers);
}

void Connection::AwaitFrames() {
  watch_->WhenReadable([this] { ReadFrames(); });
}

void Connection::ReadFrames() {
  const auto self = shared_from_this();  // a handler may drop the last other owner
  for (int i = 0; i < kFramesPerTurn; ++i) {
    auto next = reader_.Next(socket_.get(), handlers_.payload_size_max);
    if (!next.ok()) return Fail(next.status());
    std::optional<platform::Frame> frame = *std::move(next);
    if (!frame) break;
    if (closing_) continue;
    // A copy: a handler that closes the connection must not destroy itself while it runs.
    const auto on_frame = handlers_.on_frame;
    on_frame(self, *std::move(frame));
    if (closed()) return;
  }
  AwaitFrames();
}

void Connection::Send(std::vector<uint8_t> payload, platform::UniqueFd fd) {
  if (closed() || closing_) return;
  platform::FrameHeader header;
  header.payload_size_bytes = CheckedCast<uint32_t>(payload.size());
  std::vector<uint8_t> frame(sizeof(header) + payload.size());
  std::memcpy(frame.data(), &header, sizeof(header));
  std::memcpy(frame.data() + sizeof(header), payload.data(), payload.size());
  unsent_bytes_ += frame.size();
  unsent_.push_back({std::move(frame), std::move(fd)});
  WriteLater();
  if (unsent_bytes_ <= kUnsentBytesMax) return;
  closing_ = true;
  loop_->AtTurnEnd([self = shared_from_this()] {
    self->Fail(arrow::Status::CapacityError("the peer left more than ", kUnsentBytesMax,
                                            " bytes unread"));
  });
}

// Keeps the connection alive until then, also one that is closing and that nobody owns
// any more.
void Connection::WriteLater() {
  if (std::exchange(write_armed_, true)) return;
  loop_->AtTurnEnd([self = shared_from_this()] {
    if (!self->closed()) self->WriteSome();
  });
}

void Connection::CloseAfterSending() {
  closing_ = true;
  if (unsent_.empty()) Close();
}

void Connection::Close() {
  watch_.reset();
  socket_ = platform::UniqueFd();
  unsent_.clear();
  unsent_bytes_ = 0;
  handlers_ = {};
}

void Connection::Fail(const arrow::Status& reason) {
  const auto self = shared_from_this();
  const auto on_closed = handlers_.on_closed;
  Close();
  if (on_closed) on_closed(self, reason);
}

// Sends until the queue is empty or the peer takes no more.
arrow::Status Connection::TrySend() {
  while (!unsent_.empty()) {
    const Unsent& frame = unsent_.front();
    const auto message = std::span(frame.bytes).subspan(sizeof(platform::FrameHeader));
    if (front_sent_bytes_ == 0) PassSendPoint(message, SendStep::kBefore);
    ARROW_ASSIGN_OR_RAISE(
        const size_t size,
        platform::SendSome(socket_.get(),
                           std::span(frame.bytes).subspan(front_sent_bytes_),
                           front_sent_bytes_ == 0 ? frame.fd.get() : -1));
    if (size == 0) return arrow::Status::OK();
    front_sent_bytes_ += size;
    unsent_bytes_ -= size;
    if (front_sent_bytes_ < frame.bytes.size()) continue;
    PassSendPoint(message, SendStep::kAfter);
    unsent_.pop_front();
    front_sent_bytes_ = 0;
  }
  return arrow::Status::OK();
}

void Connection::WriteSome() {
  const auto self = shared_from_this();
  write_armed_ = false;
  if (const arrow::Status status = TrySend(); !status.ok()) return Fail(status);
  if (!unsent_.empty()) {
    write_armed_ = true;
    watch_->WhenWritable([this] { WriteSome(); });
  } else if (closing_) {
    Close();
  }
}

}  // namespace sheaf::daemon
