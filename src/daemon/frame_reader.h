// Frames out of a stream socket that is never waited for.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <arrow/result.h>

#include "platform/file.h"
#include "platform/unix_socket.h"

namespace sheaf::daemon {

/// No message of a peer carries more descriptors; what comes above is refused.
constexpr size_t kFdsPerFrameMax = 4;

/// \brief Puts the frames of one socket together as their bytes arrive. Bytes are the
/// peer's: sizes are checked before memory is taken, and memory grows only with what
/// really came.
class FrameReader {
 public:
  /// \brief The next whole frame, or nothing if the socket has no more bytes now.
  /// Disconnected at the end of the stream; Invalid if a header is malformed or announces
  /// more than `payload_size_max`, or too many descriptors came. After an error the
  /// stream is of no use.
  arrow::Result<std::optional<platform::Frame>> Next(
      int socket_fd, uint32_t payload_size_max = platform::kFramePayloadMax);

 private:
  arrow::Result<size_t> Receive(int socket_fd, uint8_t* bytes, size_t size_bytes);
  arrow::Result<bool> FillHeader(int socket_fd, uint32_t payload_size_max);
  arrow::Result<bool> FillPayload(int socket_fd);

  std::array<uint8_t, sizeof(platform::FrameHeader)> header_{};
  size_t header_received_ = 0;
  uint32_t payload_size_bytes_ = 0;
  size_t payload_received_ = 0;
  platform::Frame frame_;
};

}  // namespace sheaf::daemon
