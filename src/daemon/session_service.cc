#include "daemon/session_service.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "codec/codec.h"
#include "daemon/guest_table.h"
#include "daemon/home.h"
#include "daemon/home_client.h"
#include "daemon/membership_client.h"
#include "daemon/publisher.h"
#include "daemon/reclaimer.h"
#include "daemon/space.h"
#include "daemon/transport.h"
#include "format/checksum.h"
#include "format/message.h"
#include "sheaf/status.h"

namespace sheaf::daemon {
namespace {

using format::Body;

int64_t NowUnixNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// A copy of its own: the message goes when it is handled, and the codec wants it aligned.
arrow::Result<std::shared_ptr<arrow::Buffer>> CopyBytes(
    const flatbuffers::Vector<uint8_t>& bytes) {
  ARROW_ASSIGN_OR_RAISE(auto copy,
                        arrow::AllocateBuffer(CheckedCast<int64_t>(bytes.size()),
                                              arrow::system_memory_pool()));
  std::memcpy(copy->mutable_data(), bytes.data(), bytes.size());
  return std::shared_ptr<arrow::Buffer>(std::move(copy));
}

arrow::Result<Publisher::Request> ReadSealRequest(uint64_t session,
                                                  const format::Message& message) {
  const auto& body = *message.body_as<format::SealRequest>();
  if (body.descriptor() == nullptr || body.descriptor()->size() == 0) {
    return arrow::Status::Invalid("seal request without a descriptor");
  }
  if (body.name() != nullptr && body.name()->size() == 0) {
    return arrow::Status::Invalid("the name is empty");
  }
  if (body.descriptor()->size() > codec::kDescriptorSizeMax) {
    return arrow::Status::CapacityError("descriptor of ", body.descriptor()->size(),
                                        " bytes, at most ", codec::kDescriptorSizeMax);
  }
  Publisher::Request request;
  request.session = session;
  request.input.request = message.request_id();
  request.is_repeated = message.is_repeated();
  request.replace = body.replace();
  request.expected_version = body.expected_version();
  request.input.keep = body.keep();
  request.input.is_prepared = body.is_prepared() && body.name() != nullptr;
  request.input.now_unix_ns = NowUnixNs();
  if (body.name() != nullptr) request.input.name = body.name()->str();
  if (body.parents() != nullptr) {
    for (const format::ObjectKey* key : *body.parents()) {
      request.input.parents.push_back(format::FromKey(*key));
    }
  }
  ARROW_ASSIGN_OR_RAISE(request.input.descriptor, CopyBytes(*body.descriptor()));
  return request;
}

// Names a request among all of the cluster: the same when it comes again, to whichever
// daemon of its node.
uint32_t RemoverOf(const Home& home, uint64_t session, uint64_t request) {
  const std::array<uint64_t, 4> name = {home.segment().value, home.format_epoch(),
                                        session, request};
  const uint64_t hash =
      format::Checksum({reinterpret_cast<const uint8_t*>(name.data()), sizeof(name)});
  return std::max(static_cast<uint32_t>(hash), uint32_t{1});
}

std::vector<uint8_t> MakeSealReply(uint64_t id, const Publisher::Published& published) {
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(published.object);
  const auto body = format::CreateSealReply(builder, &key, published.version);
  return format::FinishReply(&builder, id, Body::SealReply, body.Union());
}

std::vector<uint8_t> MakeGrantReply(uint64_t id, const Granted& granted,
                                    uint64_t incarnation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto body = format::CreateGrantReply(
      builder, granted.id.grant, granted.id.generation, incarnation,
      granted.extent.offset, granted.extent.size_bytes);
  return format::FinishReply(&builder, id, Body::GrantReply, body.Union());
}

}  // namespace

SessionService::SessionService(Home* home, HomeClient* homes, MembershipClient* members,
                               Publisher* publisher, Reclaimer* reclaimer)
    : home_(home),
      homes_(homes),
      members_(members),
      publisher_(publisher),
      reclaimer_(reclaimer) {}

arrow::Status SessionService::Handle(uint64_t session, const format::Message& message,
                                     const ReplyFn& reply) {
  const uint64_t id = message.request_id();
  switch (message.body_type()) {
    case Body::GrantRequest: {
      const auto& body = *message.body_as<format::GrantRequest>();
      const auto grant = [this, session, size = body.size_bytes(),
                          wish = body.wish_bytes()] {
        return home_->Grant(session, size, wish);
      };
      Grant(id, home_->incarnation(), grant, reply);
      break;
    }
    case Body::ReturnRequest:
      reply(format::MakeOutcomeReply(id, Return(session, message)));
      break;
    case Body::LeasePageRequest:
      AddLeasePage(session, id, reply);
      break;
    case Body::SealRequest:
      Seal(session, message, reply);
      break;
    case Body::PublishRequest:
      Publish(message, reply);
      break;
    case Body::RetireRequest:
      Retire(session, message, reply);
      break;
    case Body::KeepRequest:
      Keep(id, *message.body_as<format::KeepRequest>(), reply);
      break;
    case Body::ForgetNodeRequest:
      members_->Forget({message.body_as<format::ForgetNodeRequest>()->node()},
                       [id, reply](const arrow::Status& status) {
                         reply(format::MakeOutcomeReply(id, status));
                       });
      break;
    default:
      return arrow::Status::Invalid("a session may not send ",
                                    format::EnumNameBody(message.body_type()));
  }
  return arrow::Status::OK();
}

arrow::Status SessionService::HandleGuest(uint64_t guest, uint64_t incarnation,
                                          const format::Message& message,
                                          const ReplyFn& reply) {
  const auto* body = message.body_as<format::GrantRequest>();
  if (body == nullptr) return Handle(guest, message, reply);
  GuestGrant what{
      incarnation, message.request_id(), {}, body->size_bytes(), body->wish_bytes()};
  if (body->known() != nullptr) {
    for (const format::GrantKey* key : *body->known()) {
      what.known.insert({key->grant(), key->generation()});
    }
  }
  Grant(
      message.request_id(), incarnation,
      [this, guest, what] { return home_->Grant(guest, what); }, reply);
  return arrow::Status::OK();
}

void SessionService::Grant(uint64_t id, uint64_t incarnation, const TryGrant& grant,
                           const ReplyFn& reply) {
  const auto answer = [id, incarnation, reply](const arrow::Result<Granted>& granted) {
    reply(granted.ok() ? MakeGrantReply(id, *granted, incarnation)
                       : format::MakeOutcomeReply(id, granted.status()));
  };
  const auto granted = grant();
  if (!granted.status().IsOutOfMemory() || home_->num_retired() == 0) {
    return answer(granted);
  }
  reclaimer_->ReclaimNow([grant, answer] { answer(grant()); });
}

arrow::Status SessionService::Return(uint64_t session, const format::Message& message) {
  const auto& body = *message.body_as<format::ReturnRequest>();
  if (body.grants() == nullptr) return arrow::Status::Invalid("return of no grants");
  arrow::Status status;
  for (const format::GrantKey* key : *body.grants()) {
    const arrow::Status returned =
        home_->Return(session, {key->grant(), key->generation()});
    if (!message.is_repeated() || !IsStaleGeneration(returned)) status &= returned;
  }
  return status;
}

void SessionService::AddLeasePage(uint64_t session, uint64_t id, const ReplyFn& reply) {
  const auto page = home_->AddLeasePage(session);
  if (!page.ok()) return reply(format::MakeOutcomeReply(id, page.status()));
  flatbuffers::FlatBufferBuilder builder;
  const auto body = format::CreateLeasePageReply(builder, *page);
  reply(format::FinishReply(&builder, id, Body::LeasePageReply, body.Union()));
}

void SessionService::Seal(uint64_t session, const format::Message& message,
                          const ReplyFn& reply) {
  const uint64_t id = message.request_id();
  const auto request = ReadSealRequest(session, message);
  if (!request.ok()) return reply(format::MakeOutcomeReply(id, request.status()));
  publisher_->Publish(
      *request, [id, reply](const arrow::Result<Publisher::Published>& published) {
        reply(published.ok() ? MakeSealReply(id, *published)
                             : format::MakeOutcomeReply(id, published.status()));
      });
}

void SessionService::PublishHere(const format::Message& message, const ReplyFn& reply) {
  const uint64_t id = message.request_id();
  const auto& body = *message.body_as<format::PublishRequest>();
  if (body.object() == nullptr || body.name() == nullptr ||
      body.object()->segment() != home_->segment().value) {
    return reply(format::MakeOutcomeReply(
        id, arrow::Status::Invalid("publish of nothing, or of another home's")));
  }
  Publisher::Request request;
  request.input.name = body.name()->str();
  request.replace = body.replace();
  request.expected_version = body.expected_version();
  publisher_->PublishPrepared(
      format::FromKey(*body.object()), request,
      [id, reply](const arrow::Result<Publisher::Published>& published) {
        reply(published.ok() ? MakeSealReply(id, *published)
                             : format::MakeOutcomeReply(id, published.status()));
      });
}

void SessionService::Publish(const format::Message& message, const ReplyFn& reply) {
  const uint64_t id = message.request_id();
  const auto& body = *message.body_as<format::PublishRequest>();
  if (body.object() == nullptr || body.name() == nullptr ||
      body.object()->segment() == home_->segment().value) {
    return PublishHere(message, reply);
  }
  homes_->AskToPublish(format::FromKey(*body.object()), body.name()->str(),
                       body.replace(), body.expected_version(),
                       [id, reply](const arrow::Result<const format::Message*>& answer) {
                         if (!answer.ok())
                           return reply(format::MakeOutcomeReply(id, answer.status()));
                         const auto sealed = format::BodyAs<format::SealReply>(**answer);
                         if (!sealed.ok() || (*sealed)->object() == nullptr) {
                           return reply(format::MakeOutcomeReply(
                               id, arrow::Status::Invalid("another reply to a publish")));
                         }
                         reply(MakeSealReply(id, {format::FromKey(*(*sealed)->object()),
                                                  (*sealed)->version()}));
                       });
}

void SessionService::Retire(uint64_t session, const format::Message& message,
                            const ReplyFn& reply) {
  const uint64_t id = message.request_id();
  const auto& body = *message.body_as<format::RetireRequest>();
  if (body.object() == nullptr) {
    return reply(
        format::MakeOutcomeReply(id, arrow::Status::Invalid("retire of nothing")));
  }
  homes_->Remove(
      format::FromKey(*body.object()), body.name() != nullptr ? body.name()->str() : "",
      RemoverOf(*home_, session, id), [id, reply](const arrow::Status& status) {
        reply(format::MakeOutcomeReply(id, status));
      });
}

void SessionService::Keep(uint64_t id, const format::KeepRequest& body,
                          const ReplyFn& reply) {
  if (body.object() == nullptr) {
    return reply(format::MakeOutcomeReply(id, arrow::Status::Invalid("keep of nothing")));
  }
  homes_->SetKept(format::FromKey(*body.object()), body.keep(),
                  [id, reply](const arrow::Status& status) {
                    reply(format::MakeOutcomeReply(id, status));
                  });
}

}  // namespace sheaf::daemon
