// One framed stream on the event loop: reads as bytes come, writes as the peer takes
// them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include <arrow/status.h>

#include "daemon/event_loop.h"
#include "daemon/frame_reader.h"
#include "platform/file.h"
#include "platform/unix_socket.h"

namespace sheaf::daemon {

/// What a peer may leave unread: about a thousand replies. One that stopped reading is
/// dropped.
constexpr size_t kUnsentBytesMax = size_t{1} << 20;

/// \brief Owned by whoever talks to the peer; the loop outlives it. Loop thread only.
/// Both handlers are let go when it closes, so they may own it.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Ptr = std::shared_ptr<Connection>;
  struct Handlers {
    std::function<void(const Ptr&, platform::Frame)> on_frame;
    /// Once, when the peer or an error ended it; not after our own Close.
    std::function<void(const Ptr&, const arrow::Status& reason)> on_closed;
    /// Longer frames end the connection before memory is taken for them.
    uint32_t payload_size_max = platform::kFramePayloadMax;
  };

  static Ptr Start(EventLoop* loop, platform::UniqueFd socket, Handlers handlers);
  ~Connection();

  /// \brief From the next frame on. Nothing happens if closed.
  void SetHandlers(Handlers handlers);

  /// \brief Queue one frame. Nothing happens if closed; closes if the queue grows too
  /// long. `fd`, if valid, goes with it, and is then closed here.
  void Send(std::vector<uint8_t> payload, platform::UniqueFd fd = {});
  void Close();              ///< At once; what is unsent is lost.
  void CloseAfterSending();  ///< Takes no more frames; ends when the queue is empty.
  bool closed() const { return !socket_.valid(); }
  int fd() const { return socket_.get(); }

 private:
  Connection(EventLoop* loop, platform::UniqueFd socket, Handlers handlers);
  void AwaitFrames();
  void ReadFrames();
  void WriteLater();
  void WriteSome();
  arrow::Status TrySend();
  void Fail(const arrow::Status& reason);

  struct Unsent {
    std::vector<uint8_t> bytes;  ///< Header included.
    platform::UniqueFd fd;       ///< Travels with the first of them.
  };

  EventLoop* loop_;
  platform::UniqueFd socket_;
  std::unique_ptr<FdWatch> watch_;
  Handlers handlers_;
  FrameReader reader_;
  std::deque<Unsent> unsent_;
  size_t front_sent_bytes_ = 0;
  size_t unsent_bytes_ = 0;
  bool write_armed_ = false;  ///< At the end of this turn, or when the peer takes more.
  bool closing_ = false;
};

}  // namespace sheaf::daemon
