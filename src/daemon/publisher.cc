#include "daemon/publisher.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "base/plant.h"
#include "daemon/catalog_client.h"
#include "daemon/foreign_leases.h"
#include "daemon/grant_table.h"
#include "daemon/home.h"
#include "daemon/home_client.h"
#include "daemon/leadership.h"
#include "daemon/log.h"
#include "daemon/old_versions.h"
#include "daemon/pending_requests.h"
#include "daemon/scheduler.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/life_off.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

constexpr std::chrono::milliseconds kEpochReadRetryPeriod{50};
constexpr std::chrono::milliseconds kLeaderRetryPeriod{50};

// What whoever waited in vain can do.
arrow::Status NoLeader(const arrow::Status& status) {
  return MakeStatus(
      arrow::StatusCode::IOError, ErrorReason::kNodeLost,
      "no leader of the catalog answers: " + status.message() +
          ". `sheaf nodes` shows who leads; another node takes over once "
          "that one was silent for long. Start its daemon again (sheaf up), "
          "or wait, and repeat");
}

// C5. Reason node lost if a line cannot be read, as that of the leader which granted
// `granted` cannot if no line has as much.
arrow::Result<directory::LeaderView> FindLeader(region::Region* region,
                                                const directory::Version& granted) {
  // One that is not there now can only claim later, and then sees what is sealed now.
  ARROW_RETURN_NOT_OK(AttachAllThatCount(region));
  const directory::LeaderView view = directory::FindLeader(region::SegmentsOf(*region));
  if (view.epoch >= granted.epoch) return view;
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                    "a leader granted a name in epoch " + std::to_string(granted.epoch) +
                        ", but no node's memory says that it was claimed");
}

}  // namespace

struct Publisher::Attempt {
  Request request;  ///< Without the descriptor once it is sealed.
  Done done;
  /// Bound by a former life, or as the next version of its name: it stays, whatever the
  /// leader says or does not. A leader that claimed meanwhile may have retired the
  /// version before because of it.
  bool is_visible = false;
  bool is_prepared = false;
  ObjectId object;
  directory::Version version;
  int binds = 0;
  std::chrono::nanoseconds deadline{0};  ///< For whom to wait, and when to be told.
};

Publisher::Publisher(region::Region* region, Home* home, CatalogClient* catalog,
                     HomeClient* homes, Scheduler* scheduler)
    : region_(region),
      home_(home),
      catalog_(catalog),
      homes_(homes),
      scheduler_(scheduler),
      old_versions_(region, homes, scheduler) {}

// Refuses early, and cheaply, what the leader would refuse too. It alone decides.
arrow::Status Publisher::CheckName(const Request& request) const {
  const std::string& name = request.input.name;
  ARROW_RETURN_NOT_OK(directory::ValidateName(name));
  const auto looked_up = directory::Lookup(*region_, name);
  if (!looked_up.ok()) return arrow::Status::OK();
  const std::optional<directory::Found>& found = *looked_up;
  if (found && !request.replace) {
    return arrow::Status::AlreadyExists("a table named '", name, "' exists");
  }
  const uint32_t current = found ? found->version.sequence : 0;
  if (request.expected_version != 0 && request.expected_version != current) {
    return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kVersionMismatch,
                      "table '" + name + "' has version " + std::to_string(current) +
                          ", expected " + std::to_string(request.expected_version));
  }
  return arrow::Status::OK();
}

void Publisher::Publish(const Request& request, const Done& done) {
  if (request.is_repeated && PublishedBefore(request, done)) return;
  const bool named = !request.input.name.empty();
  if (named && !request.input.is_prepared) {
    if (const arrow::Status may = CheckName(request); !may.ok()) return done(may);
  }
  Seal(request, kDoubtRoundsMax,
       [this, request, done](const arrow::Result<ObjectId>& object) {
         if (!object.ok()) return done(object.status());
         Go(request, *object, done);
       });
}

// At once, as a rule. Shared objects of other homes that were removed meanwhile are there
// as long as their publisher reads them: their homes answer when they surely know that we
// do, too (O4). What this seal was sure of once it does not ask for again: all its cells
// stay until it is over.
void Publisher::Seal(const Request& request, int rounds_left, const Sealed& done) {
  const auto object = home_->Seal(request.session, request.input);
  const auto held = home_->foreign_leases().TakeHeld();
  const auto abandon = [this, held] {
    for (const auto& each : held) home_->foreign_leases().Abandon(each);
  };
  std::set<SegmentId> homes;
  for (const auto& each : held) {
    if (each.is_doubtful) homes.insert(each.object.segment);
  }
  if (object.ok() || homes.empty() || rounds_left == 0) {
    abandon();
    return done(object);
  }
  PassFaultPoint("daemon.seal.before-doubt");
  const std::vector<GrantId> grants = home_->space().GrantsOf(request.session);
  homes_->AwaitAnswers(
      homes, [this, request, rounds_left, done, held, abandon, grants, refused = object,
              alive = std::weak_ptr<bool>(alive_)](const arrow::Status& answered) {
        if (alive.expired()) return;
        PassFaultPoint("daemon.seal.after-doubt");
        if (!answered.ok() || !HoldsStill(request.session, grants)) {
          abandon();
          return done(refused);
        }
        for (const auto& each : held) {
          if (each.is_doubtful) home_->foreign_leases().Trust(each);
        }
        Seal(request, rounds_left - 1, [abandon, done](const auto& sealed) {
          abandon();
          done(sealed);
        });
      });
}

// A session that was told that its home does not answer may have returned what it asked
// to seal, and hold the same place anew.
bool Publisher::HoldsStill(uint64_t session, const std::vector<GrantId>& grants) const {
  const std::vector<GrantId> held = home_->space().GrantsOf(session);
  return std::ranges::all_of(grants, [&](const GrantId& id) {
    return std::ranges::find(held, id) != held.end();
  });
}

void Publisher::Go(const Request& request, const ObjectId& object, Done done) {
  if (request.input.name.empty() || request.input.is_prepared) {
    home_->NotePut(request.session, request.input.request, {object, 0});
    return done(Published{object, 0});
  }
  auto attempt = std::make_shared<Attempt>();
  attempt->request = request;
  attempt->request.input.descriptor.reset();
  attempt->done = std::move(done);
  attempt->object = object;
  attempt->deadline = scheduler_->Now() + Patience();
  PassFaultPoint("daemon.publish.before-bind");
  Bind(attempt);
}

// A former life of this daemon may have done it, and died before it could say so. Others
// may have removed or replaced it since: done all the same. What was cut short before it
// was visible is Retired: then it is done again.
bool Publisher::PublishedBefore(const Request& request, const Done& done) {
  const auto put = home_->FindPut(request.session, request.input.request);
  if (!put) return false;
  const auto slot = home_->directory().GetSlot(put->object);
  if (slot.ok() && slot->state == static_cast<uint8_t>(format::LineState::kBound)) {
    CommitAgain(put->object, request.input.name, *slot, done);
  } else {
    done(Published{put->object, put->version});
  }
  return true;
}

void Publisher::CommitAgain(const ObjectId& object, const std::string& name,
                            const format::Slot& slot, Done done) {
  auto attempt = std::make_shared<Attempt>();
  attempt->request.input.name = name;
  attempt->is_visible = true;
  attempt->object = object;
  attempt->version = {slot.version_epoch, slot.version_sequence};
  attempt->done = std::move(done);
  attempt->deadline = scheduler_->Now() + Patience();
  homes_->Hold(object);
  Commit(attempt);
}

void Publisher::PublishPrepared(const ObjectId& object, const Request& request,
                                Done done) {
  const auto slot = home_->directory().GetSlot(object);
  if (!slot.ok()) return done(slot.status());
  const auto record = home_->directory().GetRecord(object);
  if (!record.ok()) return done(record.status());
  if ((*record)->name != request.input.name) {
    return done(arrow::Status::Invalid("it was prepared as '", (*record)->name, "'"));
  }
  std::vector<Done>& waiting = publishing_[object];
  waiting.push_back(std::move(done));
  if (waiting.size() > 1) return;
  const Done tell = [this, object](const arrow::Result<Published>& result) {
    const auto told = publishing_.extract(object);
    for (const Done& each : told.mapped()) each(result);
  };
  if (slot->state == static_cast<uint8_t>(format::LineState::kBound)) {
    return CommitAgain(object, request.input.name, *slot, tell);
  }
  if (slot->state != static_cast<uint8_t>(format::LineState::kSealed) ||
      (slot->flags & format::kSlotPrepared) == 0) {
    return tell(StaleObject(object, "is not prepared any more"));
  }
  auto attempt = std::make_shared<Attempt>();
  attempt->request = request;
  attempt->done = tell;
  attempt->is_prepared = true;
  attempt->object = object;
  attempt->deadline = scheduler_->Now() + Patience();
  Bind(attempt);
}

// The name may have been granted, also where the answer was lost: it is free again.
void Publisher::StayPrepared(const ObjectId& object, const std::string& name) {
  const auto slot = home_->directory().GetSlot(object);
  if (!slot.ok() || slot->state != static_cast<uint8_t>(format::LineState::kSealed)) {
    return;
  }
  if (slot->version_epoch != 0) {
    LogIfError("a version of what is not put",
               home_->directory().SetVersion(object, 0, 0));
  }
  catalog_->Unbind(name, object);
}

// A publish that was cut short before it was visible is undone: nobody was told of it,
// and its client, who knows what it wanted, asks again. One that is visible is committed
// again (C9): the leader may not know of it yet.
void Publisher::Recover() {
  for (const format::LineState state :
       {format::LineState::kSealed, format::LineState::kBound}) {
    for (const ObjectId& object : home_->directory().ObjectsIn(state)) {
      const auto slot = home_->directory().GetSlot(object);
      const auto record = home_->directory().GetRecord(object);
      if (!slot.ok() || !record.ok() || (*record)->name.empty()) continue;
      if ((slot->flags & format::kSlotPrepared) != 0) {
        StayPrepared(object, (*record)->name);  // Who prepared it asks again.
      } else if (state == format::LineState::kBound) {
        CommitAgain(object, (*record)->name, *slot, [](const auto& committed) {
          LogIfError("cannot commit a table of a former life", committed.status());
        });
      } else {
        homes_->Retire(object, (*record)->name, [](const arrow::Status& status) {
          LogIfError("cannot undo a publish of a former life", status);
        });
      }
    }
  }
}

void Publisher::Bind(const AttemptPtr& attempt) {
  if (++attempt->binds > kBindsMax) {
    return Fail(attempt,
                arrow::Status::IOError("the catalog's leader changes too often"));
  }
  CatalogClient::Bind bind{
      attempt->request.input.name, attempt->object, attempt->request.replace, {}};
  if (attempt->request.expected_version != 0) {
    bind.expected_sequence = attempt->request.expected_version;
  }
  catalog_->RequestBind(
      bind, [this, attempt](const arrow::Result<directory::Version>& granted) {
        if (granted.ok()) return OnGranted(attempt, *granted);
        OnBindFailed(attempt, granted.status());
      });
}

// The leader is away: until it is back, or another one leads. Asked twice it says the
// same.
void Publisher::OnBindFailed(const AttemptPtr& attempt, const arrow::Status& status) {
  if (!IsNodeLost(status)) return Fail(attempt, status);
  if (scheduler_->Now() > attempt->deadline) return Fail(attempt, NoLeader(status));
  --attempt->binds;  // Nobody answered.
  Again(kLeaderRetryPeriod, [this, attempt] {
    catalog_->Refresh();
    Bind(attempt);
  });
}

void Publisher::Again(std::chrono::nanoseconds delay, std::function<void()> action) {
  scheduler_->After(delay,
                    [action = std::move(action), alive = std::weak_ptr<bool>(alive_)] {
                      if (!alive.expired()) action();
                    });
}

std::chrono::nanoseconds Publisher::Patience() const {
  // Another leader is there by then: found silent, backed off, claimed.
  return kEpochReadDeadline +
         2 * std::chrono::milliseconds(region_->config().suspect_after_ms);
}

void Publisher::OnGranted(const AttemptPtr& attempt, directory::Version version) {
  attempt->version = version;
  const arrow::Status status =
      home_->directory().SetVersion(attempt->object, version.epoch, version.sequence);
  if (!status.ok()) return Fail(attempt, status);
  CheckEpochs(attempt);
}

// After the slot is settled, not before: a leader that claims later sees it. A version
// that was granted by one that is deposed may be below one that is there already.
void Publisher::CheckEpochs(const AttemptPtr& attempt) {
  PassFaultPoint("daemon.publish.before-check");
  // What a former life was granted may have been so by a leader that is gone for good.
  const auto leader =
      FindLeader(region_, attempt->binds > 0 ? attempt->version : directory::Version{});
  if (!leader.ok()) {
    if (attempt->is_visible) {
      TellIfLate(attempt, leader.status());
    } else if (scheduler_->Now() > attempt->deadline) {
      return Fail(attempt, leader.status());
    }
    return Again(kEpochReadRetryPeriod, [this, attempt] { CheckEpochs(attempt); });
  }
  PassFaultPoint("daemon.publish.after-check");
  catalog_->Believe(*leader);
  if (attempt->is_visible) return Commit(attempt);
  if (leader->epoch > attempt->version.epoch && !Planted("no-epoch-check")) {
    return Bind(attempt);
  }
  if (const arrow::Status status = MakeVisible(attempt); !status.ok()) {
    return Fail(attempt, status);
  }
  if (!attempt->request.replace) {
    // A leader that claimed since the check may have put the next version: it is to know.
    catalog_->Refresh();
    return Commit(attempt);
  }
  // There may be a version before, which a leader that claimed meanwhile found Bound when
  // this one was not: it is to be told, whoever it is (C9).
  attempt->is_visible = true;
  CheckEpochs(attempt);
}

// Bound, settled, noted.
arrow::Status Publisher::MakeVisible(const AttemptPtr& attempt) {
  if (attempt->is_prepared) {
    ARROW_ASSIGN_OR_RAISE(const auto record,
                          home_->directory().GetRecord(attempt->object));
    ARROW_RETURN_NOT_OK(directory::CheckLife(*region_, *record));
  }
  ARROW_RETURN_NOT_OK(home_->directory().Bind(attempt->object));
  const region::Segment& own = region_->own_segment();
  own.control().cache()->Settle(own.SlotLine(attempt->object.slot), format::kLineBytes);
  if (!attempt->is_prepared) {  // Its slot says what was done.
    home_->NotePut(attempt->request.session, attempt->request.input.request,
                   {attempt->object, attempt->version.sequence});
  }
  homes_->Hold(attempt->object);
  PassFaultPoint("daemon.publish.after-note");
  return arrow::Status::OK();
}

void Publisher::Commit(const AttemptPtr& attempt) {
  catalog_->Commit(
      attempt->request.input.name, attempt->object, attempt->version,
      [this, attempt](const arrow::Result<std::vector<ObjectId>>& superseded) {
        if (!superseded.ok()) return OnCommitFailed(attempt, superseded.status());
        PassFaultPoint("daemon.publish.after-commit");
        RetireSuperseded(attempt, *superseded);
      });
}

// Who removes the table may do so now.
void Publisher::Finish(const AttemptPtr& attempt,
                       const arrow::Result<Published>& result) {
  attempt->done(result);
  homes_->Release(attempt->object);
}

void Publisher::OnCommitFailed(const AttemptPtr& attempt, const arrow::Status& status) {
  const bool is_lost = IsNodeLost(status);
  if (!attempt->is_visible) {
    if (!is_lost) return Fail(attempt, status);
    if (scheduler_->Now() > attempt->deadline) return Fail(attempt, NoLeader(status));
  } else {
    if (!is_lost && !status.IsIOError()) return Finish(attempt, status);
    TellIfLate(attempt, is_lost ? NoLeader(status) : NotCommitted(*attempt, status));
  }
  const bool is_late = attempt->deadline == std::chrono::nanoseconds::max();
  Again(is_late ? kCommitRetryPeriod : kLeaderRetryPeriod, [this, attempt] {
    if (attempt->is_visible) return CheckEpochs(attempt);
    catalog_->Refresh();  // It is published; the leader only has to know.
    Commit(attempt);
  });
}

// Another version's slot cannot be read, as while its home is down in the middle of a
// change of it.
arrow::Status Publisher::NotCommitted(const Attempt& attempt,
                                      const arrow::Status& status) {
  return status.WithMessage("version ", attempt.version.sequence, " of '",
                            attempt.request.input.name,
                            "' is there for all: do not put it again. It cannot replace "
                            "the former yet: ",
                            status.message());
}

// What whoever put the next version needs to know.
arrow::Status Publisher::NotRetired(const Attempt& attempt, const ObjectId& before,
                                    const arrow::Status& status) {
  const std::string& name = attempt.request.input.name;
  return NodeLost(
      {before.segment.value},
      "still has a version of '" + name + "' before version " +
          std::to_string(attempt.version.sequence) +
          ", which is there for all: do not put it again. Until the former is "
          "gone '" +
          name + "' cannot be removed: " + status.message());
}

// The new version is visible all the same; the error says why it is not done.
void Publisher::TellIfLate(const AttemptPtr& attempt, const arrow::Status& status) {
  if (scheduler_->Now() <= attempt->deadline) return;
  Finish(attempt, status);
  attempt->done = [](const auto& committed) {
    LogIfError("cannot commit a table", committed.status());
  };
  attempt->deadline = std::chrono::nanoseconds::max();
}

// Only then is the publish done: one that stayed Bound would come back when its successor
// goes.
void Publisher::RetireSuperseded(const AttemptPtr& attempt,
                                 const std::vector<ObjectId>& superseded) {
  // A later version is the name's: nothing comes back when this one goes.
  if (std::ranges::count(superseded, attempt->object) != 0) {
    homes_->Release(attempt->object);
  }
  old_versions_.RetireAll(
      superseded, attempt->request.input.name,
      [this, attempt](const arrow::Status& status) {
        if (!status.ok()) return Finish(attempt, status);
        PassFaultPoint("daemon.publish.after-retire");
        Finish(attempt, Published{attempt->object, attempt->version.sequence});
      },
      [this, attempt](const ObjectId& object, const arrow::Status& status) {
        TellIfLate(attempt, NotRetired(*attempt, object, status));
      });
}

void Publisher::Fail(const AttemptPtr& attempt, const arrow::Status& status) {
  if (attempt->is_prepared) {
    homes_->Release(attempt->object);
    StayPrepared(attempt->object, attempt->request.input.name);
    return attempt->done(status);
  }
  home_->ForgetPut(attempt->request.session, attempt->request.input.request);
  homes_->Release(attempt->object);
  homes_->Retire(
      attempt->object, attempt->request.input.name,
      [](const arrow::Status& retired) { LogIfError("cannot undo a publish", retired); });
  attempt->done(status);
}

}  // namespace sheaf::daemon
