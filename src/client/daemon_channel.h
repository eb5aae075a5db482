// Requests of this process to its node's daemon, one at a time.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/message.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"

namespace sheaf::client {

/// \brief A reply, verified; the message views the payload.
class Reply {
 public:
  static arrow::Result<Reply> Make(platform::Frame frame);
  const format::Message& message() const { return *message_; }
  /// \brief The one descriptor that came with it, once; Invalid if there was another
  /// number of them.
  arrow::Result<platform::UniqueFd> TakeFd();

 private:
  platform::Frame frame_;
  const format::Message* message_ = nullptr;
};

/// How long a call waits for a daemon that died to be started anew (docs/protocol.md
/// L13).
constexpr std::chrono::seconds kReattachPatience{10};
/// How long a daemon that listens may take to answer a greeting.
constexpr std::chrono::seconds kGreetingPatience{10};

/// \brief What to do about a daemon that runs and says nothing, as errors say it.
std::string IfStoppedText(int process_id);

/// \brief Connection to the daemon of one node, and to the next one when that dies.
/// Thread-safe: requests take turns. Without `GoOn` every call fails with reason
/// disconnected once the daemon is gone.
class DaemonChannel {
 public:
  using BuildBody =
      std::function<flatbuffers::Offset<void>(flatbuffers::FlatBufferBuilder*)>;
  using OnReply = std::function<void(const format::Message&)>;
  using CallFn = std::function<arrow::Result<Reply>(format::Body, const BuildBody&,
                                                    std::span<const int> fds)>;

  /// \brief What makes a session of a connection, and whether there is hope.
  struct Continuation {
    /// Greets over a new connection by the given call. Any other error than disconnected
    /// is final: the session cannot go on.
    std::function<arrow::Status(const CallFn&)> greet;
    /// False if the daemon ended on purpose: nobody need wait for the next.
    std::function<bool()> may_come_back;
  };

  /// \brief Connect to the socket at `path`; reason disconnected if nobody listens there,
  /// IOError if another user than `user_id` does.
  static arrow::Result<std::unique_ptr<DaemonChannel>> Connect(
      const std::string& path, uint32_t user_id = platform::CurrentUserId());

  /// \brief From now on a call that finds the daemon dead waits `kReattachPatience` for
  /// the next one, goes on with the session there, and sends its request again, marked as
  /// repeated (P4). After that it fails with reason disconnected; the next call tries
  /// anew, once.
  void GoOn(Continuation continuation);
  void GiveUp();  ///< No more of that.

  /// \brief Send a request and wait for its reply. A reply that reports a failure becomes
  /// that status; `on_reply` sees any other one before the next request or greeting is
  /// sent. `first` runs before anything is sent, greetings included, and after all that
  /// others sent. Reason timeout if a greeting is not answered in kGreetingPatience.
  arrow::Result<Reply> Call(format::Body type, const BuildBody& body,
                            std::span<const int> fds = {}, const OnReply& on_reply = {},
                            const std::function<void()>& first = {});

  /// \brief The same, but nobody waits: a daemon that died and has no successor yet is
  /// reason disconnected at once.
  arrow::Result<Reply> CallNow(format::Body type, const BuildBody& body,
                               const std::function<void()>& first);

 private:
  DaemonChannel(platform::UniqueFd socket, std::string path, uint32_t user_id)
      : socket_(std::move(socket)), path_(std::move(path)), user_id_(user_id) {}
  struct Request {
    uint64_t id;
    format::Body type;
    const BuildBody& body;
    std::span<const int> fds;
    bool is_repeated = false;
  };
  arrow::Result<Reply> Exchange(const Request& request);
  arrow::Result<Reply> ExchangeFrames(const Request& request);
  arrow::Result<platform::Frame> ReceiveReply(format::Body type);
  arrow::Result<Reply> ExchangeOrRepeat(const Request& request,
                                        std::chrono::nanoseconds patience);
  arrow::Result<Reply> Repeat(Request request, arrow::Result<Reply> reply,
                              std::chrono::nanoseconds patience);
  arrow::Status Reconnect(const Continuation& continuation);

  std::mutex mutex_;
  platform::UniqueFd socket_;
  std::string path_;
  uint32_t user_id_;
  uint64_t next_request_id_ = 1;
  std::optional<Continuation> continuation_;
  bool has_waited_in_vain_ = false;  ///< And nobody answered since.
  arrow::Status final_;              ///< Why the session cannot go on.
};

}  // namespace sheaf::client
