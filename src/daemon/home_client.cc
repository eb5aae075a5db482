#include "daemon/home_client.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/macros.h>

#include "base/plant.h"
#include "daemon/catalog_client.h"
#include "daemon/foreign_leases.h"
#include "daemon/home.h"
#include "daemon/pending_requests.h"
#include "daemon/reclaimer.h"
#include "daemon/remover.h"
#include "daemon/scheduler.h"
#include "daemon/transport.h"
#include "directory/directory.h"
#include "directory/life_off.h"
#include "format/message.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

HomeClient::HomeClient(region::Region* region, Home* home, CatalogClient* catalog,
                       Reclaimer* reclaimer, Transport* transport, Scheduler* scheduler)
    : region_(region),
      home_(home),
      catalog_(catalog),
      reclaimer_(reclaimer),
      transport_(transport),
      scheduler_(scheduler),
      remover_(region, home, catalog, scheduler,
               [this](const ObjectId& object, const std::string& name) {
                 Retire(object, name, [](const arrow::Status&) {});
               }) {
  // Of a former life, whose answers may have been lost.
  for (const auto& [object, remover] : home->directory().Removers()) {
    removals_.Add(object, remover);
  }
}

arrow::Status HomeClient::CheckHome(const ObjectId& object) const {
  if (object.segment.value >= region_->num_segments()) {
    return StaleObject(object, "has no home in this cluster");
  }
  if (!directory::IsHomeOff(*region_, object)) return arrow::Status::OK();
  return NodeIsOff({object.segment.value});
}

void HomeClient::Hold(const ObjectId& object) { held_.try_emplace(object); }

void HomeClient::Release(const ObjectId& object) {
  const auto held = held_.extract(object);
  if (held.empty()) return;
  for (const auto& go_on : held.mapped()) go_on();
}

void HomeClient::RetireHere(Retirement what, const Done& done) {
  what.deadline = scheduler_->Now() + kRemovalPatience;
  if (Planted("reply-before-retired")) {
    done(arrow::Status::OK());
    const auto late = [this, what] { ARROW_UNUSED(RetireNow(what)); };
    return scheduler_->After(std::chrono::milliseconds(20), late);
  }
  const auto held = held_.find(what.object);
  if (held == held_.end()) return RetireUnheld(what, done);
  held->second.emplace_back([this, what, done] { RetireUnheld(what, done); });
  if (held->second.size() > 1) return;
  scheduler_->After(kHoldMax,
                    [this, object = what.object, alive = std::weak_ptr<bool>(alive_)] {
                      if (!alive.expired()) Release(object);
                    });
}

void HomeClient::RetireUnheld(const Retirement& what, const Done& done) {
  if (!what.is_removal || what.name.empty()) return done(RetireNow(what));
  remover_.Prepare(what.object, what.deadline, [this, what, done](const auto& may) {
    done(may.ok() ? RetireNow(what) : may);
  });
}

arrow::Status HomeClient::RetireNow(const Retirement& what) {
  // Of a request that comes again just its own removal is OK: what others removed, or
  // replaced, it did not.
  if (removals_.Has(what.object, what.remover)) return arrow::Status::OK();
  const auto record = home_->directory().GetRecord(what.object);
  ARROW_RETURN_NOT_OK(home_->Retire(what.object, what.name, what.remover));
  removals_.Add(what.object, what.remover);
  // A prepared one that was dropped may have been about to have its name.
  const std::string& freed = record.ok() ? (*record)->name : what.name;
  if (!freed.empty()) catalog_->Unbind(freed, what.object);
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
  RetireAnywhere({object, name, /*is_removal=*/false, /*remover=*/0}, done);
}

void HomeClient::Remove(const ObjectId& object, const std::string& name, uint32_t remover,
                        const Done& done) {
  RetireAnywhere({object, name, /*is_removal=*/true, remover}, done);
}

void HomeClient::RetireAnywhere(const Retirement& what, const Done& done) {
  const arrow::Status status = CheckHome(what.object);
  if (!status.ok()) return done(status);
  if (what.object.segment == home_->segment()) return RetireHere(what, done);
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(what.object);
  const auto body = format::CreateRetireRequestDirect(
      builder, &key, what.name.empty() ? nullptr : what.name.c_str(), what.is_removal,
      what.remover);
  Send(what.object,
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

void HomeClient::AskToPublish(const ObjectId& object, const std::string& name,
                              bool replace, uint32_t expected_version,
                              const ReplyCallback& done) {
  if (const arrow::Status status = CheckHome(object); !status.ok()) return done(status);
  flatbuffers::FlatBufferBuilder builder;
  const format::ObjectKey key = format::ToKey(object);
  const auto body = format::CreatePublishRequestDirect(builder, &key, name.c_str(),
                                                       replace, expected_version);
  transport_->Request({object.segment.value},
                      format::FinishRequest(&builder, transport_->NextRequestId(),
                                            format::Body::PublishRequest, body.Union()),
                      done);
}

// Any request would do.
void HomeClient::AwaitAnswers(const std::set<SegmentId>& homes, const Done& done) {
  struct Round {
    size_t unanswered;
    arrow::Status status;
  };
  if (homes.empty()) return done(arrow::Status::OK());
  const auto round = std::make_shared<Round>(Round{homes.size(), {}});
  for (const SegmentId home : homes) {
    flatbuffers::FlatBufferBuilder builder;
    const auto body = format::CreateFlushPagesRequest(builder).Union();
    transport_->Request(
        {home.value},
        format::FinishRequest(&builder, transport_->NextRequestId(),
                              format::Body::FlushPagesRequest, body),
        [round, done](const arrow::Result<const format::Message*>& reply) {
          round->status &= reply.status();
          if (--round->unanswered == 0) done(round->status);
        });
  }
}

bool HomeClient::Handle(const format::Message& message, const ReplyFn& reply) {
  const auto* retire = message.body_as<format::RetireRequest>();
  const auto* keep = message.body_as<format::KeepRequest>();
  if (retire == nullptr && keep == nullptr) return false;
  const auto* key = retire != nullptr ? retire->object() : keep->object();
  const auto answer = [id = message.request_id(), reply](const arrow::Status& status) {
    reply(format::MakeOutcomeReply(id, status));
  };
  if (key == nullptr || key->segment() != home_->segment().value) {
    answer(arrow::Status::Invalid("request about an object of another home"));
  } else if (retire != nullptr) {
    RetireHere(
        {format::FromKey(*key), retire->name() != nullptr ? retire->name()->str() : "",
         retire->is_removal(), retire->is_removal() ? retire->remover() : 0},
        answer);
  } else {
    answer(home_->SetKept(format::FromKey(*key), keep->keep()));
  }
  return true;
}

}  // namespace sheaf::daemon
