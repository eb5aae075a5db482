#include "daemon/guest_server.h"

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/grant_table.h"
#include "daemon/guest_table.h"
#include "daemon/home.h"
#include "daemon/log.h"
#include "daemon/membership.h"
#include "daemon/reclaimer.h"
#include "daemon/session_service.h"
#include "daemon/space.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "region/admit_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

using format::Body;

std::vector<uint8_t> MakeGuestReply(uint64_t request_id,
                                    const std::vector<uint8_t>& message) {
  flatbuffers::FlatBufferBuilder builder;
  const auto body = format::CreateGuestReplyDirect(builder, &message).Union();
  return format::FinishReply(&builder, request_id, Body::GuestReply, body);
}

arrow::Status HasEnded(NodeId node, uint64_t session) {
  return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                    "session " + std::to_string(session) + " of node " +
                        std::to_string(node.value) + " has ended");
}

}  // namespace

GuestServer::GuestServer(const region::Region* region, Home* home,
                         const Membership* membership, SessionService* service,
                         Reclaimer* reclaimer)
    : region_(region),
      home_(home),
      membership_(membership),
      service_(service),
      reclaimer_(reclaimer) {}

bool GuestServer::Census::IsOver(const GuestName& name) const {
  return name.format_epoch != format_epoch ||
         (name.session <= last_session && !sessions.contains(name.session));
}

void GuestServer::Adopt() {
  for (uint32_t k = 0; k < region_->num_segments(); ++k) {
    if (region::LoadAdmitLine(region_->own_segment(), {k}).is_off()) EndAll({k});
  }
}

void GuestServer::EndAll(NodeId node) {
  for (const uint64_t id : home_->guests().Of(node)) End(id);
  reclaimer_->Kick();
}

void GuestServer::End(uint64_t id) {
  LogIfError("cannot end a session of another node", home_->EndSession(id));
  guests_.erase(id);
}

bool GuestServer::Handle(NodeId from, const format::Message& message,
                         const ReplyFn& reply) {
  const uint64_t id = message.request_id();
  if (message.body_type() == Body::GuestRequest) {
    const arrow::Status status = OnRequest(from, message, reply);
    if (!status.ok()) reply(format::MakeOutcomeReply(id, status));
    return true;
  }
  const auto* census = message.body_as<format::GuestsRequest>();
  if (census == nullptr) return false;
  const arrow::Status status = CheckIncarnation(from, census->incarnation());
  reply(status.ok() ? OnCensus(from, message) : format::MakeOutcomeReply(id, status));
  return true;
}

// F3: an incarnation that is withdrawn changes nothing here.
arrow::Status GuestServer::CheckIncarnation(NodeId from, uint64_t incarnation) const {
  if (incarnation != 0 && membership_->admitted(from) == incarnation) {
    return arrow::Status::OK();
  }
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                    "node " + std::to_string(region_->node().value) +
                        " does not honour node " + std::to_string(from.value) +
                        " as incarnation " + std::to_string(incarnation) + ": try again");
}

arrow::Status GuestServer::OnRequest(NodeId from, const format::Message& message,
                                     const ReplyFn& reply) {
  const auto& body = *message.body_as<format::GuestRequest>();
  ARROW_RETURN_NOT_OK(CheckIncarnation(from, body.incarnation()));
  const GuestName name{from, body.format_epoch(), body.session()};
  if (name.format_epoch >> 32 != 0) {
    return arrow::Status::Invalid("format epoch ", name.format_epoch);
  }
  const auto census = censuses_.find(from);
  if (census != censuses_.end() && census->second.IsOver(name)) {
    return HasEnded(from, name.session);
  }
  // Its node was told since what it has here, and asks no more when that was nothing.
  if (census != censuses_.end() &&
      census->second.IsAfter(body.incarnation(), body.census())) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                      "a request that is older than a census of its node: try again");
  }
  if (body.message() == nullptr) return arrow::Status::Invalid("an empty request");
  std::vector<uint8_t> bytes(body.message()->begin(), body.message()->end());
  ARROW_ASSIGN_OR_RAISE(const format::Message* request, format::ParseMessage(bytes));
  const Body type = request->body_type();
  if (request->is_reply() || request->request_id() == 0 ||
      (type != Body::GrantRequest && type != Body::ReturnRequest &&
       type != Body::SealRequest)) {
    return arrow::Status::Invalid("a session of another node may not send ",
                                  format::EnumNameBody(type));
  }
  ARROW_ASSIGN_OR_RAISE(const uint64_t id, home_->OpenGuest(name, body.user_id()));
  const auto [found, is_new] = guests_.try_emplace(id);
  Guest& guest = found->second;
  if (is_new) guest.last_request = home_->LastPutRequestOf(id);
  if (request->request_id() < guest.last_request) {
    return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                      "a request that is older than another one of its session");
  }
  if (request->request_id() == guest.last_request && !guest.last_reply.empty()) {
    reply(MakeGuestReply(message.request_id(), guest.last_reply));
    return arrow::Status::OK();
  }
  const bool is_repeated =
      request->request_id() == guest.last_request && guest.is_under_way;
  if (!is_repeated) guest.waiting.clear();
  guest.waiting.emplace_back(message.request_id(), reply);
  if (is_repeated) return arrow::Status::OK();
  guest.last_request = request->request_id();
  guest.last_reply.clear();
  guest.is_under_way = true;
  return Do(id, body.incarnation(), std::move(bytes), *request);
}

// Each may have been done by a former life of this daemon.
arrow::Status GuestServer::Do(uint64_t id, uint64_t incarnation,
                              std::vector<uint8_t> bytes,
                              const format::Message& request) {
  format::MarkRepeated(&bytes);
  const auto answer = [this, id, request_id = request.request_id(),
                       alive = std::weak_ptr<bool>(alive_)](std::vector<uint8_t> reply) {
    if (!alive.expired()) Answer(id, request_id, std::move(reply));
  };
  return service_->HandleGuest(id, incarnation, *format::GetMessage(bytes.data()),
                               answer);
}

void GuestServer::Answer(uint64_t id, uint64_t request_id, std::vector<uint8_t> reply) {
  const auto found = guests_.find(id);
  if (found == guests_.end() || found->second.last_request != request_id) return;
  Guest& guest = found->second;
  guest.is_under_way = false;
  guest.last_reply = std::move(reply);
  const auto waiting = std::exchange(guest.waiting, {});
  for (const auto& [message_id, tell] : waiting) {
    tell(MakeGuestReply(message_id, guest.last_reply));
  }
}

// D3: what is not said to be settled is named, and freed when it is.
std::vector<uint8_t> GuestServer::OnCensus(NodeId from, const format::Message& message) {
  const auto& body = *message.body_as<format::GuestsRequest>();
  Census census{
      body.incarnation(), body.format_epoch(), body.number(), body.last_session(), {}};
  // All it says is true for ever, but a newer one said more: of sessions that it does not
  // know, requests that come late would be served again.
  const auto known = censuses_.find(from);
  if (known != censuses_.end() &&
      known->second.IsAfter(census.incarnation, census.number)) {
    return format::MakeOutcomeReply(
        message.request_id(),
        MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                   "a census that is older than another one of its node"));
  }
  if (body.sessions() != nullptr) {
    census.sessions.insert(body.sessions()->begin(), body.sessions()->end());
  }
  std::set<GrantId> settled;
  if (body.settled() != nullptr) {
    for (const format::GrantKey* key : *body.settled()) {
      settled.insert({key->grant(), key->generation()});
    }
  }
  std::vector<format::GuestExtent> unsettled;
  for (const uint64_t id : home_->guests().Of(from)) {
    const auto name = home_->guests().NameOf(id);
    if (!name || !census.IsOver(*name)) continue;
    bool is_settled = true;
    for (const Granted& held : home_->ExtentsOf(id)) {
      if (settled.contains(held.id)) continue;
      is_settled = false;
      unsettled.emplace_back(held.id.grant, 0, held.id.generation, held.extent.offset,
                             held.extent.size_bytes);
    }
    if (is_settled) End(id);
  }
  reclaimer_->Kick();
  censuses_[from] = std::move(census);
  flatbuffers::FlatBufferBuilder builder;
  const auto reply = format::CreateGuestsReplyDirect(builder, &unsettled,
                                                     home_->guests().Of(from).size());
  return format::FinishReply(&builder, message.request_id(), Body::GuestsReply,
                             reply.Union());
}

}  // namespace sheaf::daemon
