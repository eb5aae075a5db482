// Requests of this process to its node's daemon, one at a time.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <arrow/result.h>

#include "format/message.h"
#include "platform/file.h"

namespace sheaf::client {

/// \brief A reply, verified; the message views the payload.
class Reply {
 public:
  static arrow::Result<Reply> Make(std::vector<uint8_t> payload);
  const format::Message& message() const { return *message_; }

 private:
  std::vector<uint8_t> payload_;
  const format::Message* message_ = nullptr;
};

/// \brief Connection to one daemon. Thread-safe: requests take turns. Once the daemon is
/// gone every call fails with reason disconnected.
class DaemonChannel {
 public:
  using BuildBody =
      std::function<flatbuffers::Offset<void>(flatbuffers::FlatBufferBuilder*)>;

  /// \brief Connect to the socket at `path`; reason disconnected if nobody listens there,
  /// IOError if another user does.
  static arrow::Result<std::unique_ptr<DaemonChannel>> Connect(const std::string& path);

  /// \brief Send a request and wait for its reply. A reply that reports a failure becomes
  /// that status.
  arrow::Result<Reply> Call(format::Body type, const BuildBody& body,
                            std::span<const int> fds = {});

 private:
  DaemonChannel(platform::UniqueFd socket, std::string path)
      : socket_(std::move(socket)), path_(std::move(path)) {}
  arrow::Result<Reply> Exchange(uint64_t request_id, std::span<const uint8_t> payload,
                                std::span<const int> fds);

  std::mutex mutex_;
  platform::UniqueFd socket_;
  std::string path_;
  uint64_t next_request_id_ = 1;
};

}  // namespace sheaf::client
