#include "daemon/remote_homes.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/macros.h>

#include "base/fault_point.h"
#include "base/math.h"
#include "base/plant.h"
#include "daemon/home.h"
#include "daemon/pending_requests.h"
#include "daemon/scheduler.h"
#include "daemon/transport.h"
#include "format/layout.h"
#include "format/message.h"
#include "platform/cache.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

using format::Body;

bool IsForHomes(Body type) {
  return type == Body::GrantRequest || type == Body::ReturnRequest ||
         type == Body::SealRequest;
}

arrow::Status IsLost(const std::string& text) {
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost, text);
}

}  // namespace

RemoteHomes::RemoteHomes(region::Region* region, Home* home, Transport* transport,
                         Scheduler* scheduler)
    : region_(region),
      home_(home),
      transport_(transport),
      scheduler_(scheduler),
      last_census_(home->last_session()) {}

// One whose memory is not there yet never granted any.
void RemoteHomes::Start() {
  for (uint32_t k = 0; k < region_->num_segments(); ++k) {
    if (NodeId{k} == region_->node() || region_->segment({k}) == nullptr) continue;
    remotes_[{k}].is_due = true;
    Tell({k});
  }
}

void RemoteHomes::OnSessionEnded() {
  for (auto& [node, remote] : remotes_) {
    if (!remote.may_have_guests) continue;
    remote.is_due = true;
    Tell(node);
  }
}

void RemoteHomes::Refresh() { OnSessionEnded(); }

arrow::Status RemoteHomes::CheckHome(NodeId node) const {
  if (node.value >= region_->num_segments() || node == region_->node()) {
    return arrow::Status::Invalid("node ", node.value, " is no other node of a cluster ",
                                  "with nodes 0 to ", region_->num_segments() - 1);
  }
  const region::Segment* segment = region_->segment({node.value});
  if (segment == nullptr) {  // it may have come up since the last look
    ARROW_UNUSED(region_->AttachMissing());
    segment = region_->segment({node.value});
  }
  bool is_down = segment == nullptr;
  if (!is_down) {
    const auto line = region::PeekIncarnation(*segment);
    is_down = line && line->state != static_cast<uint32_t>(format::NodeState::kUp);
  }
  const bool is_off = region::LoadAdmitLine(region_->own_segment(), node).is_off();
  if (!is_down) return is_off ? NodeIsOff(node) : arrow::Status::OK();
  return IsLost("node " + std::to_string(node.value) +
                " is down: start it again with: sheaf up");
}

struct RemoteHomes::Call {
  uint64_t session = 0;
  uint32_t user_id = 0;
  uint64_t request_id = 0;  ///< The session's: it names the request at the home.
  NodeId home;
  std::vector<uint8_t> message;
  bool is_repeated = false;
  uint64_t census = 0;  ///< The last one before it was sent.
  std::chrono::nanoseconds sent_at{0};
  ReplyFn reply;
};

arrow::Result<RemoteHomes::CallPtr> RemoteHomes::MakeCall(
    const format::Message& message) const {
  const auto& body = *message.body_as<format::HomeRequest>();
  ARROW_RETURN_NOT_OK(CheckHome({body.node()}));
  if (body.message() == nullptr) return arrow::Status::Invalid("an empty request");
  std::vector<uint8_t> bytes(body.message()->begin(), body.message()->end());
  ARROW_ASSIGN_OR_RAISE(const format::Message* request, format::ParseMessage(bytes));
  if (request->is_reply() || request->request_id() == 0 ||
      !IsForHomes(request->body_type())) {
    return arrow::Status::Invalid("a session may not send ",
                                  format::EnumNameBody(request->body_type()),
                                  " to another home");
  }
  format::SetRequestId(&bytes, message.request_id());
  auto call = std::make_shared<Call>();
  call->request_id = message.request_id();
  call->home = {body.node()};
  call->message = std::move(bytes);
  call->is_repeated = message.is_repeated();
  return call;
}

// What the other daemon made of it: its session takes it as from this one.
arrow::Result<std::vector<uint8_t>> RemoteHomes::ReadReply(
    uint64_t request_id, const arrow::Result<const format::Message*>& reply) const {
  ARROW_RETURN_NOT_OK(reply.status());
  ARROW_ASSIGN_OR_RAISE(const auto* body, format::BodyAs<format::GuestReply>(**reply));
  if (body->message() == nullptr) return arrow::Status::Invalid("an empty reply");
  std::vector<uint8_t> bytes(body->message()->begin(), body->message()->end());
  ARROW_ASSIGN_OR_RAISE(const format::Message* message, format::ParseMessage(bytes));
  if (!message->is_reply() || message->request_id() != request_id) {
    return arrow::Status::Invalid("a reply to another request");
  }
  // P1: to an incarnation that this node is no more. Nobody knows of it: it comes back.
  const auto* grant = message->body_as<format::GrantReply>();
  if (grant != nullptr && grant->incarnation() != home_->incarnation()) {
    return IsLost("this node was withdrawn while it was granted memory: try again");
  }
  return bytes;
}

void RemoteHomes::Handle(uint64_t session, uint32_t user_id,
                         const format::Message& message, const ReplyFn& reply) {
  const auto call = MakeCall(message);
  if (!call.ok()) {
    return reply(format::MakeOutcomeReply(message.request_id(), call.status()));
  }
  (*call)->session = session;
  (*call)->user_id = user_id;
  (*call)->reply = reply;
  Send(*call);
}

void RemoteHomes::Send(const CallPtr& call) {
  call->sent_at = scheduler_->Now();
  call->census = last_census_;
  Remote& remote = remotes_[call->home];
  remote.may_have_guests = true;
  remote.was_used = true;
  flatbuffers::FlatBufferBuilder builder;
  const auto guest = format::CreateGuestRequestDirect(
      builder, home_->incarnation(), home_->format_epoch(), call->session, call->user_id,
      &call->message, call->census);
  transport_->Request(
      call->home,
      format::FinishRequest(&builder, transport_->NextRequestId(), Body::GuestRequest,
                            guest.Union(), call->is_repeated),
      [this, call, alive = std::weak_ptr<bool>(alive_)](
          const arrow::Result<const format::Message*>& answer) {
        if (!alive.expired()) OnAnswer(call, answer);
      });
}

void RemoteHomes::OnAnswer(const CallPtr& call,
                           const arrow::Result<const format::Message*>& answer) {
  if (IsNodeLost(answer.status()) && IsWorthAsking(*call)) {
    call->is_repeated = true;
    return Send(call);
  }
  auto bytes = ReadReply(call->request_id, answer);
  call->reply(bytes.ok() ? *std::move(bytes)
                         : format::MakeOutcomeReply(call->request_id, bytes.status()));
  if (home_->HasSession(call->session)) return;
  // What it got was for nobody.
  remotes_[call->home].may_have_guests = true;
  remotes_[call->home].is_due = true;
  Tell(call->home);
}

// It took too long for one message, as where a put waits for a leader, or a census went
// past it; not so for a request whose outcome somebody wants to know.
bool RemoteHomes::IsWorthAsking(const Call& call) const {
  const bool was_passed = remotes_.at(call.home).last_census > call.census;
  return (was_passed || scheduler_->Now() - call.sent_at >= kRequestDeadline) &&
         home_->HasSession(call.session) && CheckHome(call.home).ok() &&
         region::LoadAdmitLine(region_->own_segment(), call.home).incarnation != 0;
}

void RemoteHomes::Tell(NodeId node) {
  Remote& remote = remotes_[node];
  if (remote.is_asked || !remote.is_due) return;
  remote.is_asked = true;
  remote.is_due = false;
  remote.was_used = false;
  remote.last_census = ++last_census_;
  const std::vector<uint64_t> sessions(home_->sessions().begin(),
                                       home_->sessions().end());
  flatbuffers::FlatBufferBuilder builder;
  const auto census = format::CreateGuestsRequestDirect(
      builder, home_->incarnation(), home_->format_epoch(), home_->last_session(),
      &sessions, &remote.settled, remote.last_census);
  transport_->Request(node,
                      format::FinishRequest(&builder, transport_->NextRequestId(),
                                            Body::GuestsRequest, census.Union()),
                      [this, node, alive = std::weak_ptr<bool>(alive_)](
                          const arrow::Result<const format::Message*>& reply) {
                        if (!alive.expired()) OnTold(node, reply);
                      });
}

void RemoteHomes::OnTold(NodeId node,
                         const arrow::Result<const format::Message*>& reply) {
  Remote& remote = remotes_[node];
  arrow::Status status = reply.status();
  const format::GuestsReply* body = nullptr;
  if (status.ok()) body = (*reply)->body_as<format::GuestsReply>();
  if (status.ok() && body == nullptr) status = arrow::Status::Invalid("another reply");
  if (status.ok()) status = Settle(node, *body);
  if (!status.ok()) {
    remote.is_due = true;
    scheduler_->After(kCensusRetryPeriod,
                      [this, node, alive = std::weak_ptr<bool>(alive_)] {
                        if (alive.expired()) return;
                        remotes_[node].is_asked = false;
                        Tell(node);
                      });
    return;
  }
  remote.is_asked = false;
  Tell(node);
}

// D3: any process of the node can do it for one that is dead.
arrow::Status RemoteHomes::Settle(NodeId node, const format::GuestsReply& reply) {
  Remote& remote = remotes_[node];
  remote.may_have_guests = reply.guests() != 0 || remote.was_used;
  if (reply.unsettled() == nullptr || reply.unsettled()->size() == 0) {
    remote.settled.clear();  // All is free. Before, what was settled once stays so.
    return arrow::Status::OK();
  }
  const region::Part& data = region_->segment({node.value})->data();
  PassFaultPoint("daemon.guests.before-settle");
  for (const format::GuestExtent* extent : *reply.unsettled()) {
    if (!FitsWithin(extent->offset(), extent->size_bytes(), data.size_bytes())) {
      return arrow::Status::Invalid("node ", node.value, " names an extent at ",
                                    extent->offset(), "+", extent->size_bytes());
    }
    if (!Planted("no-settle-remote")) {
      data.cache()->Settle(data.data() + extent->offset(), extent->size_bytes());
    }
    remote.settled.emplace_back(extent->grant(), 0, extent->generation());
  }
  PassFaultPoint("daemon.guests.after-settle");
  remote.is_due = true;
  return arrow::Status::OK();
}

}  // namespace sheaf::daemon
