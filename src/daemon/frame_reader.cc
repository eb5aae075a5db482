#include "daemon/frame_reader.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"
#include "platform/unix_socket.h"
#include "sheaf/status.h"

namespace sheaf::daemon {
namespace {

/// Room that is made ahead of a payload's bytes: a peer that only announces takes no
/// more.
constexpr size_t kPayloadStepBytes = size_t{256} << 10;

arrow::Status Disconnected(const char* what) {
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDisconnected, what);
}

// Takes ownership of all descriptors that came with `message`.
void CollectFds(struct msghdr* message, std::vector<platform::UniqueFd>* fds) {
  for (struct cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr;
       header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      fds->emplace_back(fd);
    }
  }
}

}  // namespace

// Bytes received; 0 if there are none now.
arrow::Result<size_t> FrameReader::Receive(int socket_fd, uint8_t* bytes,
                                           size_t size_bytes) {
  alignas(struct cmsghdr) std::array<char, CMSG_SPACE(kFdsPerFrameMax * sizeof(int))>
      control;
  struct iovec part = {bytes, size_bytes};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t size = 0;
  do {
    size = ::recvmsg(socket_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) {
    if (errno == EAGAIN) return 0;
    if (errno == ECONNRESET) return Disconnected("the peer reset the connection");
    return platform::OsError("cannot receive from", "a socket");
  }
  CollectFds(&message, &frame_.fds);
  if (size == 0) return Disconnected("the peer closed the connection");
  if ((message.msg_flags & MSG_CTRUNC) != 0 || frame_.fds.size() > kFdsPerFrameMax) {
    return arrow::Status::Invalid("more than ", kFdsPerFrameMax,
                                  " descriptors in a frame");
  }
  return static_cast<size_t>(size);
}

arrow::Result<bool> FrameReader::FillHeader(int socket_fd, uint32_t payload_size_max) {
  while (header_received_ < header_.size()) {
    ARROW_ASSIGN_OR_RAISE(const size_t size,
                          Receive(socket_fd, header_.data() + header_received_,
                                  header_.size() - header_received_));
    if (size == 0) return false;
    header_received_ += size;
    if (header_received_ < header_.size()) continue;
    platform::FrameHeader header;
    std::memcpy(&header, header_.data(), sizeof(header));
    if (header.magic != platform::kFrameMagic) {
      return arrow::Status::Invalid("frame begins with ", header.magic, ", expected ",
                                    platform::kFrameMagic);
    }
    if (header.payload_size_bytes > payload_size_max) {
      return arrow::Status::Invalid("frame of ", header.payload_size_bytes,
                                    " bytes, at most ", payload_size_max);
    }
    payload_size_bytes_ = header.payload_size_bytes;
  }
  return true;
}

arrow::Result<bool> FrameReader::FillPayload(int socket_fd) {
  while (payload_received_ < payload_size_bytes_) {
    if (frame_.payload.size() == payload_received_) {
      frame_.payload.resize(std::min<size_t>(
          payload_size_bytes_,
          payload_received_ + std::max(kPayloadStepBytes, payload_received_)));
    }
    ARROW_ASSIGN_OR_RAISE(const size_t size,
                          Receive(socket_fd, frame_.payload.data() + payload_received_,
                                  frame_.payload.size() - payload_received_));
    if (size == 0) return false;
    payload_received_ += size;
  }
  return true;
}

arrow::Result<std::optional<platform::Frame>> FrameReader::Next(
    int socket_fd, uint32_t payload_size_max) {
  ARROW_ASSIGN_OR_RAISE(const bool has_header, FillHeader(socket_fd, payload_size_max));
  if (!has_header) return std::nullopt;
  ARROW_ASSIGN_OR_RAISE(const bool has_payload, FillPayload(socket_fd));
  if (!has_payload) return std::nullopt;
  header_received_ = 0;
  payload_received_ = 0;
  return std::exchange(frame_, {});
}

}  // namespace sheaf::daemon
