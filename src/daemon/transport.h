// Requests between daemons, whatever carries them.

#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <arrow/result.h>

#include "format/message.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// Once, with the verified reply (valid during the call) or with what went wrong: the
/// peer's own error, or reason node lost.
using ReplyCallback = std::function<void(const arrow::Result<const format::Message*>&)>;

/// Sends the reply to one request; may be called later, once. Nothing happens if the peer
/// is gone.
using ReplyFn = std::function<void(std::vector<uint8_t>)>;

/// \brief Requests are delivered at least once while the peer answers before the
/// deadline: handlers are idempotent (docs/protocol.md M3). One thread; callbacks never
/// run inside `Request`.
class Transport {
 public:
  using Handler =
      std::function<void(NodeId from, const format::Message&, const ReplyFn&)>;

  virtual ~Transport() = default;

  /// \brief An id for the next request; rises.
  uint64_t NextRequestId() { return ++last_request_id_; }

  /// \brief Send a finished request message (its id from `NextRequestId`) to `node`, not
  /// our own.
  virtual void Request(NodeId node, std::vector<uint8_t> message, ReplyCallback done) = 0;

  /// \brief Whom requests of other nodes go to. Set once, before the first arrives.
  virtual void Serve(Handler handler) = 0;

 private:
  uint64_t last_request_id_ = 0;
};

}  // namespace sheaf::daemon
