#include "daemon/home_client.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/catalog_client.h"
#include "daemon/foreign_leases.h"
#include "daemon/home.h"
#include "daemon/reclaimer.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

HomeClient::HomeClient(const region::Region* region, Home* home, CatalogClient* catalog,
                       Reclaimer* reclaimer, Transport* transport)
    : region_(region),
      home_(home),
      catalog_(catalog),
      reclaimer_(reclaimer),
      transport_(transport) {}

arrow::Status HomeClient::CheckHome(const ObjectId& object) const {
  if (object.segment.value < region_->num_segments()) return arrow::Status::OK();
  return StaleObject(object, "has no home in this cluster");
}

arrow::Status HomeClient::RetireHere(const ObjectId& object, const std::string& name) {
  ARROW_RETURN_NOT_OK(home_->Retire(object, name));
  if (!name.empty()) catalog_->Unbind(name, object);
  reclaimer_->Kick();
  return arrow::Status::OK();
}

void HomeClient::Send(const ObjectId& object, std::vector<uint8_t> message,
                      const Done& done) {
  transport_->Request({object.segment.value}, std::move(message),
                      [done](const arrow::Result<const format::Message*>& reply) {
                        done(reply.status());
                      });
}

void HomeClient::Retire(const ObjectId& object, const std::string& name,
                        const Done& done) {
  if (const arrow::Status status = CheckHome(object); !status.ok()) return done(status);
  if (object.segment == home_->segment()) return done(RetireHere(object, name));
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(object);
  const auto body = format::CreateRetireRequestDirect(
      builder, &key, name.empty() ? nullptr : name.c_str());
  Send(object,
       format::FinishRequest(&builder, transport_->NextRequestId(),
                             format::Body::RetireRequest, body.Union()),
       done);
}

void HomeClient::SetKept(const ObjectId& object, bool kept, const Done& done) {
  if (const arrow::Status status = CheckHome(object); !status.ok()) return done(status);
  if (object.segment == home_->segment()) return done(home_->SetKept(object, kept));
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(object);
  const auto body = format::CreateKeepRequest(builder, &key, kept);
  Send(object,
       format::FinishRequest(&builder, transport_->NextRequestId(),
                             format::Body::KeepRequest, body.Union()),
       done);
}

bool HomeClient::Handle(const format::Message& message, const ReplyFn& reply) {
  const auto* retire = message.body_as<format::RetireRequest>();
  const auto* keep = message.body_as<format::KeepRequest>();
  if (retire == nullptr && keep == nullptr) return false;
  const auto* key = retire != nullptr ? retire->object() : keep->object();
  arrow::Status status;
  if (key == nullptr || key->segment() != home_->segment().value) {
    status = arrow::Status::Invalid("request about an object of another home");
  } else if (retire != nullptr) {
    status = RetireHere(format::FromKey(*key),
                        retire->name() != nullptr ? retire->name()->str() : "");
    // Done the first time, by a daemon that died before its reply.
    if (message.is_repeated() && IsStaleGeneration(status)) status = arrow::Status::OK();
  } else {
    status = home_->SetKept(format::FromKey(*key), keep->keep());
  }
  reply(format::MakeOutcomeReply(message.request_id(), status));
  return true;
}

}  // namespace sheaf::daemon
