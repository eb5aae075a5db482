// What was asked of other daemons and is not answered yet, whatever carries it.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/scheduler.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// A request that is not answered by then fails with reason node lost.
constexpr std::chrono::seconds kRequestDeadline{10};
/// Requests to one peer that may be under way; more fail at once.
constexpr size_t kRequestsMax = 1024;

/// \brief Status of reason node lost: "node <node> <why>".
arrow::Status NodeLost(NodeId node, const std::string& why);
/// \brief The same, of one that is off: it need not be asked.
arrow::Status NodeIsOff(NodeId node);

/// \brief Requests by node and id. Each is sent once in each session with its node, as
/// long as it is not answered, and says then that it is repeated (docs/protocol.md M3).
/// Callbacks never run inside a call but Complete and Fail. The scheduler outlives it.
class PendingRequests {
 public:
  explicit PendingRequests(Scheduler* scheduler) : scheduler_(scheduler) {}

  /// \brief Await the reply to `message`, until its deadline. If the node has too many,
  /// `done` is told so, later.
  void Add(NodeId node, std::vector<uint8_t> message, ReplyCallback done);
  /// \brief Tell `done` later that `node` is lost, and why.
  void Refuse(NodeId node, const std::string& why, ReplyCallback done);

  bool IsEmpty(NodeId node) const;

  /// \brief What was sent to `node` may be lost: all is to be sent again.
  void BeginSession(NodeId node);
  /// \brief Give `send` what was not sent in this session.
  void SendUnsent(NodeId node,
                  const std::function<void(const std::vector<uint8_t>&)>& send);

  /// \brief What came in answer to a request, if it is still awaited.
  void Complete(NodeId node, uint64_t request_id,
                const arrow::Result<const format::Message*>& reply);
  /// \brief Nothing that `node` was asked for will be answered.
  void Fail(NodeId node, const arrow::Status& status);

 private:
  enum class State : uint8_t { kNew, kSent, kSentBefore };
  struct Pending {
    std::vector<uint8_t> message;
    ReplyCallback done;
    State state = State::kNew;
  };

  Scheduler* scheduler_;
  std::map<NodeId, std::map<uint64_t, Pending>> pending_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
