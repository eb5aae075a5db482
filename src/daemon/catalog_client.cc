#include "daemon/catalog_client.h"

#include <cstdint>
#include <functional>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/log.h"
#include "daemon/transport.h"
#include "directory/catalog.h"
#include "format/message.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

using directory::Version;

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

void CatalogClient::RequestBind(
    const Bind& request, const std::function<void(const arrow::Result<Version>&)>& done) {
  if (leader_ != nullptr) return done(leader_->Bind(request));
  transport_->Request(kLeaderNode, MakeBind(transport_->NextRequestId(), request),
                      [done](const arrow::Result<const format::Message*>& reply) {
                        if (!reply.ok()) return done(reply.status());
                        done(ReadBindReply(**reply));
                      });
}

void CatalogClient::Commit(
    const std::string& name, const ObjectId& object, Version version,
    const std::function<void(const arrow::Result<std::vector<ObjectId>>&)>& done) {
  if (leader_ != nullptr) return done(leader_->Commit(name, object, version));
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(object);
  const auto body = format::CreateCommitRequestDirect(builder, name.c_str(), &key,
                                                      version.epoch, version.sequence);
  transport_->Request(kLeaderNode,
                      format::FinishRequest(&builder, transport_->NextRequestId(),
                                            format::Body::CommitRequest, body.Union()),
                      [done](const arrow::Result<const format::Message*>& reply) {
                        if (!reply.ok()) return done(reply.status());
                        done(ReadCommitReply(**reply));
                      });
}

void CatalogClient::Unbind(const std::string& name, const ObjectId& object) {
  if (leader_ != nullptr) return leader_->Unbind(name, object);
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(object);
  const auto body = format::CreateUnbindRequestDirect(builder, name.c_str(), &key);
  transport_->Request(kLeaderNode,
                      format::FinishRequest(&builder, transport_->NextRequestId(),
                                            format::Body::UnbindRequest, body.Union()),
                      [](const arrow::Result<const format::Message*>& reply) {
                        LogIfError("cannot unbind a name", reply.status());
                      });
}

bool CatalogClient::Handle(NodeId from, const format::Message& message,
                           const ReplyFn& reply) {
  const uint64_t id = message.request_id();
  const auto* bind = message.body_as<format::BindRequest>();
  const auto* commit = message.body_as<format::CommitRequest>();
  const auto* unbind = message.body_as<format::UnbindRequest>();
  if (bind == nullptr && commit == nullptr && unbind == nullptr) return false;
  if (leader_ == nullptr) {
    reply(format::MakeOutcomeReply(
        id, MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                       "this node does not lead the catalog")));
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
  const auto version = leader_->Bind(request);
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
  const auto superseded =
      leader_->Commit(body.name()->str(), format::FromKey(*body.object()),
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
  leader_->Unbind(body.name()->str(), format::FromKey(*body.object()));
  return format::MakeOutcomeReply(id, arrow::Status::OK());
}

}  // namespace sheaf::daemon
