#include "client/daemon_channel.h"

#include <cstdint>
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

arrow::Result<Reply> Reply::Make(std::vector<uint8_t> payload) {
  Reply reply;
  reply.payload_ = std::move(payload);
  ARROW_ASSIGN_OR_RAISE(reply.message_, format::ParseMessage(reply.payload_));
  return reply;
}

arrow::Result<std::unique_ptr<DaemonChannel>> DaemonChannel::Connect(
    const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(platform::UniqueFd socket, platform::ConnectUnix(path));
  ARROW_ASSIGN_OR_RAISE(const platform::PeerCredentials peer,
                        platform::GetPeerCredentials(socket.get()));
  if (peer.user_id != platform::CurrentUserId()) {
    return arrow::Status::IOError("user ", peer.user_id, " listens at ", path,
                                  ", we are user ", platform::CurrentUserId());
  }
  return std::unique_ptr<DaemonChannel>(new DaemonChannel(std::move(socket), path));
}

arrow::Result<Reply> DaemonChannel::Call(format::Body type, const BuildBody& body,
                                         std::span<const int> fds) {
  flatbuffers::FlatBufferBuilder builder;
  const auto offset = body(&builder);
  std::lock_guard lock(mutex_);
  if (!socket_.valid()) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDisconnected,
                      "the connection to the daemon at " + path_ + " was lost before");
  }
  const uint64_t request_id = next_request_id_++;
  PassCallPoint(type, CallStep::kBeforeRequest);
  auto reply = Exchange(request_id,
                        format::FinishRequest(&builder, request_id, type, offset), fds);
  PassCallPoint(type, CallStep::kAfterReply);
  // A stream out of step cannot be used again.
  if (!reply.ok()) socket_ = platform::UniqueFd();
  ARROW_RETURN_NOT_OK(reply.status());
  ARROW_RETURN_NOT_OK(format::ToStatus(reply->message()));
  return reply;
}

arrow::Result<Reply> DaemonChannel::Exchange(uint64_t request_id,
                                             std::span<const uint8_t> payload,
                                             std::span<const int> fds) {
  ARROW_RETURN_NOT_OK(platform::SendFrame(socket_.get(), payload, fds));
  PassCallPoint(format::GetMessage(payload.data())->body_type(), CallStep::kAfterRequest);
  ARROW_ASSIGN_OR_RAISE(platform::Frame frame, platform::ReceiveFrame(socket_.get()));
  ARROW_ASSIGN_OR_RAISE(Reply reply, Reply::Make(std::move(frame.payload)));
  if (!reply.message().is_reply() || reply.message().request_id() != request_id) {
    return arrow::Status::Invalid("the daemon at ", path_, " answered request ",
                                  reply.message().request_id(), ", expected ",
                                  request_id);
  }
  return reply;
}

}  // namespace sheaf::client
