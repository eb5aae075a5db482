#include "platform/unix_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "platform/file.h"
#include "sheaf/status.h"

namespace sheaf::platform {
namespace {

static_assert(std::endian::native == std::endian::little,
              "frame headers go out as they are");
static_assert(sizeof(FrameHeader) == 8);

/// Connections that may wait for accept: one per client process of a node that starts at
/// once.
constexpr int kListenBacklog = 128;

/// Room that is made ahead of a payload's bytes: a peer that only announces takes no
/// more.
constexpr size_t kPayloadStepBytes = size_t{256} << 10;

using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;

arrow::Status Disconnected(const std::string& what) {
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDisconnected, what);
}

arrow::Result<struct sockaddr_un> AddressOf(const std::string& path) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return arrow::Status::Invalid("socket path of ", path.size(), " bytes: 1 to ",
                                  sizeof(address.sun_path) - 1, " are possible: ", path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

const struct sockaddr* Generic(const struct sockaddr_un& address) {
  return reinterpret_cast<const struct sockaddr*>(&address);
}

arrow::Result<UniqueFd> NewSocket(int flags) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd.valid()) return OsError("cannot make", "a UNIX socket");
  return fd;
}

/// Makes room for a new listener: removes a socket file behind which nobody listens.
arrow::Status RemoveStaleSocket(const std::string& path,
                                const struct sockaddr_un& address) {
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? arrow::Status::OK() : OsError("cannot look at", path);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return arrow::Status::AlreadyExists(path, " is there and is not a socket");
  }
  ARROW_ASSIGN_OR_RAISE(const UniqueFd probe, NewSocket(SOCK_NONBLOCK));
  const int result = ::connect(probe.get(), Generic(address), sizeof(address));
  if (result == 0 || errno == EAGAIN) {
    return arrow::Status::AlreadyExists("somebody listens at ", path);
  }
  if (errno != ECONNREFUSED) return OsError("cannot probe socket", path);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return OsError("cannot replace the stale socket", path);
  }
  return arrow::Status::OK();
}

/// Waits until `fd` is ready for `events`, at most until `deadline`.
arrow::Status WaitReady(int fd, int16_t events, const Deadline& deadline) {
  for (;;) {
    int wait_ms = -1;
    if (deadline.has_value()) {
      // Rounded up, so that the last wait does not end before the deadline and spin.
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now());
      wait_ms = static_cast<int>(std::clamp<int64_t>(left.count(), 0, INT_MAX));
    }
    struct pollfd poll = {fd, events, 0};
    const int ready = ::poll(&poll, 1, wait_ms);
    if (ready > 0) return arrow::Status::OK();
    if (ready < 0 && errno != EINTR) return OsError("cannot wait for", "a socket");
    if (deadline.has_value() && Clock::now() >= *deadline) {
      return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kTimeout,
                        "no whole frame arrived in time");
    }
  }
}

/// Room for the descriptors of one message.
struct FdControl {
  alignas(struct cmsghdr) std::array<char, CMSG_SPACE(kFrameFdsMax * sizeof(int))> bytes;
};

void AttachFds(std::span<const int> fds, FdControl* control, struct msghdr* message) {
  if (fds.empty()) return;
  control->bytes.fill(0);
  message->msg_control = control->bytes.data();
  message->msg_controllen = CMSG_SPACE(fds.size_bytes());
  struct cmsghdr* header = CMSG_FIRSTHDR(message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
}

/// Takes ownership of every descriptor that came with `message`, also of a malformed one.
void CollectFds(struct msghdr* message, std::vector<UniqueFd>* fds) {
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

/// Fills `bytes` from the stream; descriptors that arrive with them go to `fds`.
arrow::Status ReceiveExactly(int fd, std::span<uint8_t> bytes, const Deadline& deadline,
                             std::vector<UniqueFd>* fds) {
  while (!bytes.empty()) {
    FdControl control;
    struct iovec part = {bytes.data(), bytes.size()};
    struct msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    const ssize_t got = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == ECONNRESET) return Disconnected("the peer reset the connection");
      if (errno != EAGAIN) return OsError("cannot receive from", "a socket");
      ARROW_RETURN_NOT_OK(WaitReady(fd, POLLIN, deadline));
      continue;
    }
    CollectFds(&message, fds);
    if (got == 0) return Disconnected("the peer closed the connection");
    if ((message.msg_flags & MSG_CTRUNC) != 0 || fds->size() > kFrameFdsMax) {
      return arrow::Status::Invalid("more than ", kFrameFdsMax,
                                    " descriptors in a frame");
    }
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
  return arrow::Status::OK();
}

arrow::Result<Frame> ReceiveFrameOrFail(int socket_fd, const Deadline& deadline,
                                        bool* started) {
  FrameHeader header;
  Frame frame;
  const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(&header), sizeof(header));
  ARROW_RETURN_NOT_OK(ReceiveExactly(socket_fd, bytes.first(1), deadline, &frame.fds));
  *started = true;
  ARROW_RETURN_NOT_OK(ReceiveExactly(socket_fd, bytes.subspan(1), deadline, &frame.fds));
  if (header.magic != kFrameMagic) {
    return arrow::Status::Invalid("frame begins with ", header.magic, ", not with ",
                                  kFrameMagic);
  }
  if (header.payload_size_bytes > kFramePayloadMax) {
    return arrow::Status::Invalid("frame of ", header.payload_size_bytes,
                                  " bytes, at most ", kFramePayloadMax);
  }
  while (frame.payload.size() < header.payload_size_bytes) {
    const size_t received = frame.payload.size();
    frame.payload.resize(std::min<size_t>(
        header.payload_size_bytes, received + std::max(kPayloadStepBytes, received)));
    ARROW_RETURN_NOT_OK(ReceiveExactly(
        socket_fd, std::span(frame.payload).subspan(received), deadline, &frame.fds));
  }
  return frame;
}

}  // namespace

arrow::Result<UniqueFd> ConnectUnix(const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(const struct sockaddr_un address, AddressOf(path));
  ARROW_ASSIGN_OR_RAISE(UniqueFd fd, NewSocket(0));
  int result = 0;
  do {
    result = ::connect(fd.get(), Generic(address), sizeof(address));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return fd;
  if (errno == ENOENT || errno == ECONNREFUSED) {
    return Disconnected("nobody listens at " + path);
  }
  return OsError("cannot connect to", path);
}

arrow::Result<UniqueFd> ListenUnix(const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(const struct sockaddr_un address, AddressOf(path));
  ARROW_RETURN_NOT_OK(RemoveStaleSocket(path, address));
  ARROW_ASSIGN_OR_RAISE(UniqueFd fd, NewSocket(0));
  // The file gets the mode of the socket: at no moment may others connect.
  if (::fchmod(fd.get(), 0600) != 0) return OsError("cannot set the mode of", path);
  if (::bind(fd.get(), Generic(address), sizeof(address)) != 0) {
    if (errno == EADDRINUSE) {
      return arrow::Status::AlreadyExists("somebody listens at ", path);
    }
    return OsError("cannot bind", path);
  }
  if (::listen(fd.get(), kListenBacklog) != 0) return OsError("cannot listen at", path);
  return fd;
}

arrow::Result<PeerCredentials> GetPeerCredentials(int socket_fd) {
  struct ucred peer = {};
  socklen_t size = sizeof(peer);
  if (::getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return OsError("cannot ask who is behind", "a socket");
  }
  PeerCredentials credentials{peer.uid, peer.pid, {}};
  // The kernel says how many there are if there is too little room for them.
  socklen_t groups_size = 0;
  while (::getsockopt(socket_fd, SOL_SOCKET, SO_PEERGROUPS, credentials.group_ids.data(),
                      &groups_size) != 0) {
    if (errno != ERANGE) return OsError("cannot ask for the groups of", "a peer");
    credentials.group_ids.resize(groups_size / sizeof(uint32_t));
  }
  static_assert(sizeof(gid_t) == sizeof(uint32_t));
  credentials.group_ids.resize(groups_size / sizeof(uint32_t));
  credentials.group_ids.push_back(peer.gid);
  return credentials;
}

arrow::Status SendFrame(int socket_fd, std::span<const uint8_t> payload,
                        std::span<const int> fds) {
  if (payload.size() > kFramePayloadMax || fds.size() > kFrameFdsMax) {
    return arrow::Status::Invalid("frame of ", payload.size(), " bytes and ", fds.size(),
                                  " descriptors, at most ", kFramePayloadMax, " and ",
                                  kFrameFdsMax);
  }
  FrameHeader header;
  header.payload_size_bytes = CheckedCast<uint32_t>(payload.size());
  const size_t total = sizeof(header) + payload.size();
  FdControl control;
  for (size_t sent = 0; sent < total;) {
    const size_t header_sent = std::min(sent, sizeof(header));
    const size_t payload_sent = sent - header_sent;
    std::array<struct iovec, 2> parts = {
        iovec{reinterpret_cast<uint8_t*>(&header) + header_sent,
              sizeof(header) - header_sent},
        iovec{const_cast<uint8_t*>(payload.data()) + payload_sent,
              payload.size() - payload_sent}};
    struct msghdr message = {};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    if (sent == 0)
      AttachFds(fds, &control, &message);  // They travel with the first byte.
    const ssize_t size = ::sendmsg(socket_fd, &message, MSG_NOSIGNAL);
    if (size >= 0) {
      sent += static_cast<size_t>(size);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET) return Disconnected("the peer is gone");
    if (errno != EAGAIN) return OsError("cannot send to", "a socket");
    ARROW_RETURN_NOT_OK(WaitReady(socket_fd, POLLOUT, std::nullopt));
  }
  return arrow::Status::OK();
}

arrow::Result<size_t> SendSome(int socket_fd, std::span<const uint8_t> bytes, int fd) {
  FdControl control;
  struct iovec part = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) AttachFds({&fd, 1}, &control, &message);
  for (;;) {
    const ssize_t size = ::sendmsg(socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size >= 0) return static_cast<size_t>(size);
    if (errno == EAGAIN) return 0;
    if (errno != EINTR) return OsError("cannot send to", "a socket");
  }
}

arrow::Result<Frame> ReceiveFrame(int socket_fd,
                                  std::optional<std::chrono::milliseconds> timeout) {
  Deadline deadline;
  if (timeout.has_value()) deadline = Clock::now() + *timeout;
  bool started = false;
  arrow::Result<Frame> frame = ReceiveFrameOrFail(socket_fd, deadline, &started);
  // Where the next frame begins is unknown now: end the connection rather than guess.
  if (!frame.ok() && started) ::shutdown(socket_fd, SHUT_RDWR);
  return frame;
}

}  // namespace sheaf::platform
