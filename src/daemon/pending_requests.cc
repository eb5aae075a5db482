#include "daemon/pending_requests.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/transport.h"
#include "format/message.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

arrow::Status NodeLost(NodeId node, const std::string& why) {
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                    "node " + std::to_string(node.value) + " " + why);
}

arrow::Status NodeIsOff(NodeId node) {
  return NodeLost(node,
                  "was declared off: it takes part again once its daemon is started "
                  "(sheaf up)");
}

void PendingRequests::Add(NodeId node, std::vector<uint8_t> message, ReplyCallback done) {
  const uint64_t id = format::GetMessage(message.data())->request_id();
  auto& of_node = pending_[node];
  if (of_node.size() >= kRequestsMax) {
    return Refuse(node, "has too many requests unanswered", std::move(done));
  }
  of_node[id] = {std::move(message), std::move(done)};
  scheduler_->After(
      kRequestDeadline, [this, node, id, alive = std::weak_ptr<bool>(alive_)] {
        if (alive.expired()) return;
        Complete(node, id,
                 NodeLost(node,
                          "does not answer: if its daemon is down, start it again with: "
                          "sheaf up"));
      });
}

void PendingRequests::Refuse(NodeId node, const std::string& why, ReplyCallback done) {
  scheduler_->After(std::chrono::nanoseconds(0),
                    [node, why, done = std::move(done)] { done(NodeLost(node, why)); });
}

bool PendingRequests::IsEmpty(NodeId node) const {
  const auto found = pending_.find(node);
  return found == pending_.end() || found->second.empty();
}

void PendingRequests::BeginSession(NodeId node) {
  for (auto& [id, pending] : pending_[node]) {
    if (pending.state == State::kSent) pending.state = State::kSentBefore;
  }
}

void PendingRequests::SendUnsent(
    NodeId node, const std::function<void(const std::vector<uint8_t>&)>& send) {
  for (auto& [id, pending] : pending_[node]) {
    if (pending.state == State::kSent) continue;
    if (pending.state == State::kSentBefore) format::MarkRepeated(&pending.message);
    pending.state = State::kSent;
    send(pending.message);
  }
}

void PendingRequests::Complete(NodeId node, uint64_t request_id,
                               const arrow::Result<const format::Message*>& reply) {
  auto& of_node = pending_[node];
  const auto found = of_node.find(request_id);
  if (found == of_node.end()) return;  // Answered before, or given up.
  const ReplyCallback done = std::move(found->second.done);
  of_node.erase(found);
  if (!reply.ok()) return done(reply.status());
  if (const arrow::Status status = format::ToStatus(**reply); !status.ok()) {
    return done(status);
  }
  done(reply);
}

void PendingRequests::Fail(NodeId node, const arrow::Status& status) {
  for (auto& [id, pending] : std::exchange(pending_[node], {})) pending.done(status);
}

}  // namespace sheaf::daemon
