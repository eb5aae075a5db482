#include "client/daemon_channel.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "client/call_points.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "sheaf/status.h"

namespace sheaf::client {
namespace {

constexpr std::chrono::milliseconds kReconnectPeriod{5};

}  // namespace

std::string IfStoppedText(int process_id) {
  const std::string process = std::to_string(process_id);
  return "if it is stopped, continue it (kill -CONT " + process +
         ") or end it (kill -9 " + process + ")";
}

arrow::Result<Reply> Reply::Make(platform::Frame frame) {
  Reply reply;
  reply.frame_ = std::move(frame);
  ARROW_ASSIGN_OR_RAISE(reply.message_, format::ParseMessage(reply.frame_.payload));
  return reply;
}

arrow::Result<platform::UniqueFd> Reply::TakeFd() {
  if (frame_.fds.size() != 1) {
    return arrow::Status::Invalid("the daemon sent ", frame_.fds.size(),
                                  " descriptors, expected one");
  }
  platform::UniqueFd fd = std::move(frame_.fds.front());
  frame_.fds.clear();
  return fd;
}

namespace {

arrow::Result<platform::UniqueFd> ConnectToDaemonOf(uint32_t user_id,
                                                    const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(platform::UniqueFd socket, platform::ConnectUnix(path));
  ARROW_ASSIGN_OR_RAISE(const platform::PeerCredentials peer,
                        platform::GetPeerCredentials(socket.get()));
  if (peer.user_id == user_id) return socket;
  return arrow::Status::IOError("user ", peer.user_id, " listens at ", path,
                                ", expected user ", user_id);
}

}  // namespace

arrow::Result<std::unique_ptr<DaemonChannel>> DaemonChannel::Connect(
    const std::string& path, uint32_t user_id) {
  ARROW_ASSIGN_OR_RAISE(platform::UniqueFd socket, ConnectToDaemonOf(user_id, path));
  return std::unique_ptr<DaemonChannel>(
      new DaemonChannel(std::move(socket), path, user_id));
}

void DaemonChannel::GoOn(Continuation continuation) {
  std::lock_guard lock(mutex_);
  continuation_ = std::move(continuation);
}

void DaemonChannel::GiveUp() {
  std::lock_guard lock(mutex_);
  continuation_.reset();
}

arrow::Result<Reply> DaemonChannel::Call(format::Body type, const BuildBody& body,
                                         std::span<const int> fds,
                                         const OnReply& on_reply,
                                         const std::function<void()>& first) {
  std::lock_guard lock(mutex_);
  if (first) first();
  auto reply = ExchangeOrRepeat({next_request_id_++, type, body, fds}, kReattachPatience);
  ARROW_RETURN_NOT_OK(reply.status());
  ARROW_RETURN_NOT_OK(format::ToStatus(reply->message()));
  if (on_reply) on_reply(reply->message());
  return reply;
}

arrow::Result<Reply> DaemonChannel::CallNow(format::Body type, const BuildBody& body,
                                            const std::function<void()>& first) {
  std::lock_guard lock(mutex_);
  first();
  ARROW_ASSIGN_OR_RAISE(Reply reply,
                        ExchangeOrRepeat({next_request_id_++, type, body, {}},
                                         std::chrono::nanoseconds(0)));
  ARROW_RETURN_NOT_OK(format::ToStatus(reply.message()));
  return reply;
}

arrow::Result<Reply> DaemonChannel::ExchangeOrRepeat(const Request& request,
                                                     std::chrono::nanoseconds patience) {
  auto reply = Exchange(request);
  if (!IsDisconnected(reply.status())) return reply;
  // Who has waited in vain does not wait again for every call.
  return Repeat(request, std::move(reply),
                has_waited_in_vain_ ? std::chrono::nanoseconds(0) : patience);
}

// Until a daemon answers, or there is no hope.
arrow::Result<Reply> DaemonChannel::Repeat(Request request, arrow::Result<Reply> reply,
                                           std::chrono::nanoseconds patience) {
  const auto deadline = platform::BootTime() + patience;
  request.is_repeated = true;
  while (continuation_ && IsDisconnected(reply.status())) {
    ARROW_RETURN_NOT_OK(final_);
    const arrow::Status status = Reconnect(*continuation_);
    if (status.ok()) {
      has_waited_in_vain_ = false;
      reply = Exchange(request);
      continue;
    }
    if (!IsDisconnected(status)) {
      final_ = MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDisconnected,
                          "the daemon at " + path_ +
                              " was lost, and its successor says: " + status.message());
      return final_;
    }
    if (!continuation_->may_come_back()) return status;
    if (platform::BootTime() > deadline) {
      has_waited_in_vain_ |= patience.count() != 0;
      return status.WithMessage("the daemon is gone, and no other came in its place (",
                                status.message(), "); start it again with: sheaf up");
    }
    platform::SleepFor(kReconnectPeriod);
  }
  return reply;
}

arrow::Status DaemonChannel::Reconnect(const Continuation& continuation) {
  ARROW_ASSIGN_OR_RAISE(socket_, ConnectToDaemonOf(user_id_, path_));
  arrow::Status status =
      continuation.greet([this](format::Body type, const BuildBody& body,
                                std::span<const int> fds) -> arrow::Result<Reply> {
        ARROW_ASSIGN_OR_RAISE(Reply reply,
                              Exchange({next_request_id_++, type, body, fds}));
        ARROW_RETURN_NOT_OK(format::ToStatus(reply.message()));
        return reply;
      });
  if (!status.ok()) socket_ = platform::UniqueFd();
  // It may be continued, or another one come in its place.
  if (IsTimeout(status)) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDisconnected,
                      status.message());
  }
  return status;
}

arrow::Result<Reply> DaemonChannel::Exchange(const Request& request) {
  if (!socket_.valid()) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDisconnected,
                      "the connection to the daemon at " + path_ + " was lost before");
  }
  PassCallPoint(request.type, CallStep::kBeforeRequest);
  auto reply = ExchangeFrames(request);
  PassCallPoint(request.type, CallStep::kAfterReply);
  // A stream out of step cannot be used again.
  if (!reply.ok()) socket_ = platform::UniqueFd();
  return reply;
}

// A greeting changes nothing that anyone waits for: a daemon that is stopped is no reason
// to wait for ever. What comes after it may take long, or wait for what others do.
arrow::Result<platform::Frame> DaemonChannel::ReceiveReply(format::Body type) {
  if (type != format::Body::Hello) return platform::ReceiveFrame(socket_.get());
  auto frame = platform::ReceiveFrame(socket_.get(), kGreetingPatience);
  if (!IsTimeout(frame.status())) return frame;
  ARROW_ASSIGN_OR_RAISE(const auto peer, platform::GetPeerCredentials(socket_.get()));
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kTimeout,
                    "the daemon at " + path_ + " (process " +
                        std::to_string(peer.process_id) + ") does not answer; " +
                        IfStoppedText(peer.process_id) +
                        " and start it again with: sheaf up");
}

arrow::Result<Reply> DaemonChannel::ExchangeFrames(const Request& request) {
  flatbuffers::FlatBufferBuilder builder;
  const auto offset = request.body(&builder);
  ARROW_RETURN_NOT_OK(
      platform::SendFrame(socket_.get(),
                          format::FinishRequest(&builder, request.id, request.type,
                                                offset, request.is_repeated),
                          request.fds));
  PassCallPoint(request.type, CallStep::kAfterRequest);
  for (;;) {
    ARROW_ASSIGN_OR_RAISE(platform::Frame frame, ReceiveReply(request.type));
    ARROW_ASSIGN_OR_RAISE(Reply reply, Reply::Make(std::move(frame)));
    const uint64_t answered = reply.message().request_id();
    if (reply.message().is_reply() && answered == request.id) return reply;
    // One that was repeated over a new connection may be answered twice there: what was
    // under way then, and its repetition.
    if (reply.message().is_reply() && answered < request.id) continue;
    return arrow::Status::Invalid("the daemon at ", path_, " answered request ", answered,
                                  ", expected ", request.id);
  }
}

}  // namespace sheaf::client
