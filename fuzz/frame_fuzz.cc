// Any bytes as the stream of a socket: both readers of frames, the daemon's and the
// client's, take the same frames out of it, refuse it at the same place, and let no
// descriptor get lost.
//
// Input: how many descriptors come with the first byte, how many bytes are sent at a
// time, then the stream.
//
// Decoders: src/daemon/frame_reader.cc src/platform/unix_socket.cc

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "base/check.h"
#include "daemon/frame_reader.h"
#include "fuzz/input.h"
#include "platform/file.h"
#include "platform/unix_socket.h"
#include "sheaf/status.h"

namespace {

using sheaf::platform::Frame;
using sheaf::platform::UniqueFd;

/// More than a frame may carry to a daemon, so that the limit is seen.
constexpr size_t kFdsMax = sheaf::daemon::kFdsPerFrameMax + 2;

/// What a reader made of the stream.
struct Frames {
  std::vector<std::vector<uint8_t>> payloads;
  std::vector<size_t> fd_counts;
  arrow::Status end;

  void Add(const Frame& frame) {
    payloads.push_back(frame.payload);
    fd_counts.push_back(frame.fds.size());
  }
  bool operator==(const Frames& other) const {
    return payloads == other.payloads && fd_counts == other.fd_counts &&
           end.code() == other.end.code() &&
           sheaf::IsDisconnected(end) == sheaf::IsDisconnected(other.end);
  }
};

struct Stream {
  std::span<const uint8_t> bytes;
  size_t step_bytes = 1;
  size_t num_fds = 0;
};

struct SocketPair {
  UniqueFd reader;
  UniqueFd writer;
};

SocketPair MakeSocketPair() {
  std::array<int, 2> fds{};
  SHEAF_CHECK(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

/// Sends `bytes`, and with them `num_fds` descriptors. False if the reader is gone.
bool Send(int fd, std::span<const uint8_t> bytes, size_t num_fds) {
  alignas(struct cmsghdr) std::array<char, CMSG_SPACE(kFdsMax * sizeof(int))> control{};
  struct iovec part = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (num_fds > 0) {
    std::array<int, kFdsMax> fds{};
    fds.fill(STDERR_FILENO);
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), num_fds * sizeof(int));
  }
  return ::sendmsg(fd, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

/// The daemon's reader: called whenever some bytes came.
Frames ReadAsDaemon(const Stream& stream) {
  SocketPair sockets = MakeSocketPair();
  sheaf::daemon::FrameReader reader;
  Frames frames;
  const auto take = [&] {
    for (;;) {
      auto next = reader.Next(sockets.reader.get());
      if (!next.ok()) {
        frames.end = next.status();
        return false;
      }
      const std::optional<Frame> frame = *std::move(next);
      if (!frame) return true;
      frames.Add(*frame);
    }
  };
  for (size_t sent = 0; sent < stream.bytes.size(); sent += stream.step_bytes) {
    const size_t step = std::min(stream.step_bytes, stream.bytes.size() - sent);
    SHEAF_CHECK(Send(sockets.writer.get(), stream.bytes.subspan(sent, step),
                     sent == 0 ? stream.num_fds : 0));
    if (!take()) return frames;
  }
  sockets.writer = UniqueFd();
  while (take()) {
  }
  return frames;
}

/// The client's reader, which waits: all bytes are there before it begins.
Frames ReadAsClient(const Stream& stream) {
  SocketPair sockets = MakeSocketPair();
  Frames frames;
  if (!stream.bytes.empty()) {
    SHEAF_CHECK(Send(sockets.writer.get(), stream.bytes, stream.num_fds));
  }
  sockets.writer = UniqueFd();
  for (;;) {
    const auto frame = sheaf::platform::ReceiveFrame(sockets.reader.get());
    if (!frame.ok()) {
      frames.end = frame.status();
      return frames;
    }
    frames.Add(*frame);
  }
}

/// The lowest free descriptor: the same before and after, if none was lost.
int LowestFreeFd() { return UniqueFd(::dup(STDERR_FILENO)).get(); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kStreamMax = 65536;  // Fits into the socket at once.
  const int lowest = LowestFreeFd();
  sheaf::fuzz::Input input(data, std::min(size, kStreamMax));
  Stream stream;
  stream.num_fds = input.Next<uint8_t>() % (kFdsMax + 1);
  stream.step_bytes = size_t{input.Next<uint8_t>()} + 1;
  stream.bytes = input.TakeRest();
  const Frames daemon = ReadAsDaemon(stream);
  const Frames client = ReadAsClient(stream);
  if (stream.num_fds <= sheaf::daemon::kFdsPerFrameMax) {
    SHEAF_CHECK(daemon == client);
  } else if (!stream.bytes.empty()) {
    SHEAF_CHECK(daemon.payloads.empty() && daemon.end.IsInvalid());
  }
  SHEAF_CHECK(LowestFreeFd() == lowest);
  return 0;
}
