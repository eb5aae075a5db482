#include "daemon/reclaimer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/home.h"
#include "daemon/log.h"
#include "daemon/scheduler.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "region/admit_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

Reclaimer::Reclaimer(const region::Region* region, Home* home, Transport* transport,
                     Scheduler* scheduler)
    : region_(region), home_(home), transport_(transport), scheduler_(scheduler) {}

void Reclaimer::Kick() {
  period_ = kReclaimPeriodMin;
  if (home_->num_retired() == 0) return;
  // A timer that is due sooner stays: many kicks must not push the scan ahead of them.
  if (!due_ || *due_ > scheduler_->Now() + period_) Arm(period_);
}

void Reclaimer::Arm(std::chrono::nanoseconds delay) {
  due_ = scheduler_->Now() + delay;
  scheduler_->After(delay,
                    [this, number = ++armed_, alive = std::weak_ptr<bool>(alive_)] {
                      if (!alive.expired() && number == armed_) OnTimer();
                    });
}

void Reclaimer::OnTimer() {
  due_.reset();
  Scan();
  if (home_->num_retired() == 0) return;
  // Closed leases may lie in the readers' caches; their nodes flush them at once when
  // asked (O6).
  AskPeersToFlush([] {});
  Arm(period_);
  period_ = std::min<std::chrono::nanoseconds>(2 * period_, kReclaimPeriodMax);
}

void Reclaimer::ReclaimNow(std::function<void()> done) {
  AskPeersToFlush([this, done = std::move(done), alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) ScanAfterGrace(done);
  });
}

void Reclaimer::ScanAfterGrace(const std::function<void()>& done) {
  const auto wait = home_->grace_end() - scheduler_->Now();
  if (wait > std::chrono::nanoseconds(0)) {
    scheduler_->After(wait, [this, done, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) ScanAfterGrace(done);
    });
    return;
  }
  Scan();
  done();
}

void Reclaimer::Scan() {
  LogIfError("cannot scan for leases", home_->Reclaim().status());
  TellHomes();
}

// What was freed may have been the last to refer to objects of theirs (O4), which wait
// for their next scan else: of a table that nodes appended to in turn, version by
// version. A message that is lost costs no more than that.
void Reclaimer::TellHomes() {
  const std::set<SegmentId> homes = home_->foreign_leases().TakeLetGo();
  if (homes.empty()) return;
  home_->FlushLeasePages();
  for (const SegmentId home : homes) {
    const region::Segment& own = region_->own_segment();
    if (home == own.id() || region_->segment(home) == nullptr) continue;
    if (region::LoadAdmitLine(own, {home.value}).is_off()) continue;  // nobody answers
    flatbuffers::FlatBufferBuilder builder;
    const auto body = format::CreateFlushPagesRequest(builder, /*let_go=*/true).Union();
    transport_->Request({home.value},
                        format::FinishRequest(&builder, transport_->NextRequestId(),
                                              format::Body::FlushPagesRequest, body),
                        [](const arrow::Result<const format::Message*>&) {});
  }
}

bool Reclaimer::Handle(const format::Message& message, const ReplyFn& reply) {
  const auto* request = message.body_as<format::FlushPagesRequest>();
  if (request == nullptr) return false;
  home_->FlushLeasePages();
  reply(format::MakeOutcomeReply(message.request_id(), arrow::Status::OK()));
  if (request->let_go()) Kick();
  return true;
}

// Calls `done` when all have answered or the wait is over. Coherent memory needs no
// flush.
void Reclaimer::AskPeersToFlush(const std::function<void()>& done) {
  region::Segment& own = region_->own_segment();
  home_->FlushLeasePages();
  if (own.leases().cache()->coherent()) return done();
  struct Round {
    size_t unanswered = 1;  // the wait below
    bool over = false;
  };
  const auto round = std::make_shared<Round>();
  const auto finish = [round, done] {
    if (std::exchange(round->over, true)) return;
    done();
  };
  for (uint32_t k = 0; k < region_->num_segments(); ++k) {
    if (SegmentId{k} == own.id() || region_->segment({k}) == nullptr) continue;
    ++round->unanswered;
    flatbuffers::FlatBufferBuilder builder;
    const auto body = format::CreateFlushPagesRequest(builder).Union();
    transport_->Request({k},
                        format::FinishRequest(&builder, transport_->NextRequestId(),
                                              format::Body::FlushPagesRequest, body),
                        [round, finish](const arrow::Result<const format::Message*>&) {
                          if (--round->unanswered == 1) finish();
                        });
  }
  if (round->unanswered == 1) return finish();
  scheduler_->After(kFlushPagesWait, finish);
}

}  // namespace sheaf::daemon
