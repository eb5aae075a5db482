#include "daemon/catalog_client.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "daemon/log.h"
#include "daemon/transport.h"
#include "directory/catalog.h"
#include "format/message.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

using directory::CatalogLeader;
using directory::Version;

std::string NodeText(NodeId node) { return "node " + std::to_string(node.value); }

arrow::Status NotLed(const std::string& why) {
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost, why);
}

arrow::Result<Version> ReadBindReply(const format::Message& reply) {
  ARROW_ASSIGN_OR_RAISE(const auto* body, format::BodyAs<format::BindReply>(reply));
  return Version{body->epoch(), body->sequence()};
}

arrow::Result<std::vector<ObjectId>> ReadCommitReply(const format::Message& reply) {
  ARROW_ASSIGN_OR_RAISE(const auto* body, format::BodyAs<format::CommitReply>(reply));
  std::vector<ObjectId> superseded;
  if (body->superseded() != nullptr) {
    for (const format::ObjectKey* key : *body->superseded()) {
      superseded.push_back(format::FromKey(*key));
    }
  }
  return superseded;
}

using Kind = CatalogLeader::UndecidedKind;

arrow::Result<std::vector<CatalogLeader::Undecided>> ReadRemovalReply(
    const format::Message& reply) {
  ARROW_ASSIGN_OR_RAISE(const auto* body, format::BodyAs<format::RemovalReply>(reply));
  std::vector<CatalogLeader::Undecided> undecided;
  const size_t size = body->undecided() == nullptr ? 0 : body->undecided()->size();
  if (size != (body->kinds() == nullptr ? 0 : body->kinds()->size())) {
    return arrow::Status::Invalid("a removal reply that contradicts itself");
  }
  undecided.reserve(size);
  for (uint32_t i = 0; i < size; ++i) {
    const auto kind = static_cast<Kind>(body->kinds()->Get(i));
    if (kind > Kind::kBefore) {
      return arrow::Status::Invalid("a removal reply with an unknown kind");
    }
    undecided.push_back({format::FromKey(*body->undecided()->Get(i)), kind});
  }
  return undecided;
}

std::vector<uint8_t> MakeBind(uint64_t id, const CatalogClient::Bind& request) {
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(request.object);
  const auto body = format::CreateBindRequestDirect(
      builder, request.name.c_str(), &key, request.replace,
      request.expected_sequence.value_or(0));
  return format::FinishRequest(&builder, id, format::Body::BindRequest, body.Union());
}

/// A home speaks of its own objects.
bool IsOf(NodeId from, const format::ObjectKey* object) {
  return object != nullptr && object->segment() == from.value;
}

}  // namespace

void CatalogClient::Believe(const directory::LeaderView& leader) {
  if (leader == believed_) return;
  believed_ = leader;
  const std::string why = leader.epoch == 0
                              ? "no node leads the catalog"
                              : NodeText(leader.node) + " leads the catalog by now";
  for (const auto& [ticket, done] : std::exchange(asked_, {})) done(NotLed(why));
}

void CatalogClient::Refresh() {
  Believe(directory::FindLeader(region::SegmentsOf(*region_)));
}

arrow::Status CatalogClient::CheckKnown() {
  if (believed_.epoch == 0) Refresh();
  return believed_.epoch != 0
             ? arrow::Status::OK()
             : NotLed("no node leads the catalog yet: one that is up claims it");
}

arrow::Result<CatalogLeader*> CatalogClient::LeaderHere() const {
  if (CatalogLeader* leader = leader_()) return leader;
  return NotLed(NodeText(region_->node()) + " does not lead the catalog now");
}

arrow::Result<CatalogLeader*> CatalogClient::LeaderHere(uint64_t epoch) const {
  ARROW_ASSIGN_OR_RAISE(CatalogLeader * leader, LeaderHere());
  if (leader->epoch() == epoch) return leader;
  return NotLed(NodeText(region_->node()) + " leads the catalog with epoch " +
                std::to_string(leader->epoch()) + ", not " + std::to_string(epoch));
}

void CatalogClient::Ask(std::vector<uint8_t> message, ReplyCallback done) {
  const uint64_t ticket = ++last_asked_;
  asked_[ticket] = std::move(done);
  const std::string who = NodeText(believed_.node) + ", which leads the catalog: ";
  transport_->Request(believed_.node, std::move(message),
                      [this, ticket, who, alive = std::weak_ptr<bool>(alive_)](
                          const arrow::Result<const format::Message*>& reply) {
                        if (alive.expired()) return;
                        const auto asked = asked_.extract(ticket);
                        if (asked.empty()) return;  // Another one leads by now.
                        if (reply.ok() || !IsNodeLost(reply.status())) {
                          return asked.mapped()(reply);
                        }
                        asked.mapped()(NotLed(who + reply.status().message()));
                      });
}

void CatalogClient::RequestBind(
    const Bind& request, const std::function<void(const arrow::Result<Version>&)>& done) {
  if (const arrow::Status known = CheckKnown(); !known.ok()) return done(known);
  if (IsHere()) {
    const auto leader = LeaderHere();
    return done(leader.ok() ? (*leader)->Bind(request)
                            : arrow::Result<Version>(leader.status()));
  }
  Ask(MakeBind(transport_->NextRequestId(), request),
      [done](const arrow::Result<const format::Message*>& reply) {
        if (!reply.ok()) return done(reply.status());
        done(ReadBindReply(**reply));
      });
}

void CatalogClient::Commit(
    const std::string& name, const ObjectId& object, Version version,
    const std::function<void(const arrow::Result<std::vector<ObjectId>>&)>& done) {
  if (const arrow::Status known = CheckKnown(); !known.ok()) return done(known);
  if (IsHere()) {
    const auto leader = LeaderHere(believed_.epoch);
    return done(leader.ok() ? (*leader)->Commit(name, object, version)
                            : arrow::Result<std::vector<ObjectId>>(leader.status()));
  }
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(object);
  const auto body = format::CreateCommitRequestDirect(
      builder, name.c_str(), &key, version.epoch, version.sequence,
      CheckedCast<uint32_t>(believed_.epoch));
  Ask(format::FinishRequest(&builder, transport_->NextRequestId(),
                            format::Body::CommitRequest, body.Union()),
      [done](const arrow::Result<const format::Message*>& reply) {
        if (!reply.ok()) return done(reply.status());
        done(ReadCommitReply(**reply));
      });
}

void CatalogClient::PrepareRemoval(
    const std::string& name, const ObjectId& object, uint32_t sequence,
    const std::function<void(const arrow::Result<std::vector<Undecided>>&)>& done) {
  if (const arrow::Status known = CheckKnown(); !known.ok()) return done(known);
  if (IsHere()) {
    const auto leader = LeaderHere(believed_.epoch);
    return done(leader.ok() ? (*leader)->PrepareRemoval(name, object, sequence)
                            : arrow::Result<std::vector<Undecided>>(leader.status()));
  }
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(object);
  const auto body = format::CreateRemovalRequestDirect(
      builder, name.c_str(), &key, sequence, CheckedCast<uint32_t>(believed_.epoch));
  Ask(format::FinishRequest(&builder, transport_->NextRequestId(),
                            format::Body::RemovalRequest, body.Union()),
      [done](const arrow::Result<const format::Message*>& reply) {
        if (!reply.ok()) return done(reply.status());
        done(ReadRemovalReply(**reply));
      });
}

void CatalogClient::Unbind(const std::string& name, const ObjectId& object) {
  if (!CheckKnown().ok()) return;
  if (IsHere()) {
    if (const auto leader = LeaderHere(); leader.ok()) (*leader)->Unbind(name, object);
    return;
  }
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(object);
  const auto body = format::CreateUnbindRequestDirect(builder, name.c_str(), &key);
  Ask(format::FinishRequest(&builder, transport_->NextRequestId(),
                            format::Body::UnbindRequest, body.Union()),
      [](const arrow::Result<const format::Message*>& reply) {
        if (reply.ok() || IsNodeLost(reply.status())) return;
        LogIfError("cannot unbind a name", reply.status());
      });
}

bool CatalogClient::Handle(NodeId from, const format::Message& message,
                           const ReplyFn& reply) {
  const uint64_t id = message.request_id();
  const auto* bind = message.body_as<format::BindRequest>();
  const auto* commit = message.body_as<format::CommitRequest>();
  const auto* unbind = message.body_as<format::UnbindRequest>();
  const auto* removal = message.body_as<format::RemovalRequest>();
  if (bind == nullptr && commit == nullptr && unbind == nullptr && removal == nullptr) {
    return false;
  }
  if (removal != nullptr) {
    reply(AnswerRemoval(from, id, *removal));
  } else if (bind != nullptr) {
    reply(AnswerBind(from, id, *bind));
  } else if (commit != nullptr) {
    reply(AnswerCommit(from, id, *commit));
  } else {
    reply(AnswerUnbind(from, id, *unbind));
  }
  return true;
}

std::vector<uint8_t> CatalogClient::AnswerBind(NodeId from, uint64_t id,
                                               const format::BindRequest& body) {
  if (body.name() == nullptr || !IsOf(from, body.object())) {
    return format::MakeOutcomeReply(
        id, arrow::Status::Invalid("bind without a name or an object of the sender"));
  }
  Bind request{body.name()->str(), format::FromKey(*body.object()), body.replace(), {}};
  if (body.expected_version() != 0) request.expected_sequence = body.expected_version();
  const auto leader = LeaderHere();
  if (!leader.ok()) return format::MakeOutcomeReply(id, leader.status());
  const auto version = (*leader)->Bind(request);
  if (!version.ok()) return format::MakeOutcomeReply(id, version.status());
  flatbuffers::FlatBufferBuilder builder;
  const auto reply = format::CreateBindReply(builder, version->epoch, version->sequence);
  return format::FinishReply(&builder, id, format::Body::BindReply, reply.Union());
}

std::vector<uint8_t> CatalogClient::AnswerCommit(NodeId from, uint64_t id,
                                                 const format::CommitRequest& body) {
  if (body.name() == nullptr || !IsOf(from, body.object())) {
    return format::MakeOutcomeReply(
        id, arrow::Status::Invalid("commit without a name or an object of the sender"));
  }
  const auto leader = LeaderHere(body.leader_epoch());
  if (!leader.ok()) return format::MakeOutcomeReply(id, leader.status());
  const auto superseded =
      (*leader)->Commit(body.name()->str(), format::FromKey(*body.object()),
                        {body.epoch(), body.sequence()});
  if (!superseded.ok()) return format::MakeOutcomeReply(id, superseded.status());
  std::vector<format::ObjectKey> keys;
  for (const ObjectId& object : *superseded) keys.push_back(format::ToKey(object));
  flatbuffers::FlatBufferBuilder builder;
  const auto reply = format::CreateCommitReplyDirect(builder, &keys);
  return format::FinishReply(&builder, id, format::Body::CommitReply, reply.Union());
}

std::vector<uint8_t> CatalogClient::AnswerUnbind(NodeId from, uint64_t id,
                                                 const format::UnbindRequest& body) {
  if (body.name() == nullptr || !IsOf(from, body.object())) {
    return format::MakeOutcomeReply(
        id, arrow::Status::Invalid("unbind without a name or an object of the sender"));
  }
  const auto leader = LeaderHere();
  if (!leader.ok()) return format::MakeOutcomeReply(id, leader.status());
  (*leader)->Unbind(body.name()->str(), format::FromKey(*body.object()));
  return format::MakeOutcomeReply(id, arrow::Status::OK());
}

std::vector<uint8_t> CatalogClient::AnswerRemoval(NodeId from, uint64_t id,
                                                  const format::RemovalRequest& body) {
  if (body.name() == nullptr || !IsOf(from, body.object())) {
    return format::MakeOutcomeReply(
        id, arrow::Status::Invalid("removal without a name or an object of the sender"));
  }
  const auto leader = LeaderHere(body.leader_epoch());
  if (!leader.ok()) return format::MakeOutcomeReply(id, leader.status());
  const auto undecided = (*leader)->PrepareRemoval(
      body.name()->str(), format::FromKey(*body.object()), body.sequence());
  if (!undecided.ok()) return format::MakeOutcomeReply(id, undecided.status());
  std::vector<format::ObjectKey> keys;
  std::vector<uint8_t> kinds;
  for (const Undecided& each : *undecided) {
    keys.push_back(format::ToKey(each.object));
    kinds.push_back(static_cast<uint8_t>(each.kind));
  }
  flatbuffers::FlatBufferBuilder builder;
  const auto reply = format::CreateRemovalReplyDirect(builder, &keys, &kinds);
  return format::FinishReply(&builder, id, format::Body::RemovalReply, reply.Union());
}

}  // namespace sheaf::daemon
