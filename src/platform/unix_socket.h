// Framed messages over UNIX stream sockets, with descriptors. Blocking; the daemon's loop
// has its own reader.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"

namespace sheaf::platform {

/// Before each message: {magic 4 B, payload size 4 B}, little-endian.
constexpr uint32_t kFrameMagic = 0x31464853;  // "SHF1"
constexpr uint32_t kFramePayloadMax = (uint32_t{64} << 20) + (uint32_t{1} << 20);
/// Linux passes no more descriptors in one message (SCM_MAX_FD).
constexpr size_t kFrameFdsMax = 253;
struct FrameHeader {
  uint32_t magic = kFrameMagic;
  uint32_t payload_size_bytes = 0;
};

struct Frame {
  std::vector<uint8_t> payload;
  std::vector<UniqueFd> fds;
};

/// \brief Connect to the socket at `path`. Disconnected (IOError) if nobody listens
/// there.
arrow::Result<UniqueFd> ConnectUnix(const std::string& path);

/// \brief Listen at `path` (mode 0600). A socket file that nobody listens on is replaced;
/// AlreadyExists if somebody does. Who may be called twice at once for one path holds a
/// FileLock.
arrow::Result<UniqueFd> ListenUnix(const std::string& path);

/// \brief User id and pid of the peer (SO_PEERCRED), and its groups (SO_PEERGROUPS), as
/// they were when it connected.
struct PeerCredentials {
  uint32_t user_id = 0;
  int process_id = 0;
  std::vector<uint32_t> group_ids;
};
arrow::Result<PeerCredentials> GetPeerCredentials(int socket_fd);

/// \brief Send one frame whole; never raises SIGPIPE. Disconnected if the peer is gone,
/// Invalid (and nothing sent) above the limits.
arrow::Status SendFrame(int socket_fd, std::span<const uint8_t> payload,
                        std::span<const int> fds = {});

/// \brief Send as many of `bytes` as the peer takes now, the descriptor `fd` (-1: none)
/// with the first; 0 if it takes none. Never raises SIGPIPE.
arrow::Result<size_t> SendSome(int socket_fd, std::span<const uint8_t> bytes, int fd);

/// \brief Receive one frame whole. Disconnected at end of stream, Timeout after
/// `timeout`, Invalid if the header is malformed or the payload too large. After an error
/// in the middle of a frame the connection is shut down: nobody knows where the next
/// frame would begin.
arrow::Result<Frame> ReceiveFrame(
    int socket_fd, std::optional<std::chrono::milliseconds> timeout = std::nullopt);

}  // namespace sheaf::platform
