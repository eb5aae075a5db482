#include "daemon/publisher.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "daemon/catalog_client.h"
#include "daemon/home.h"
#include "daemon/home_client.h"
#include "daemon/log.h"
#include "daemon/scheduler.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

constexpr std::chrono::milliseconds kEpochReadRetryPeriod{50};
constexpr std::chrono::milliseconds kCommitRetryPeriod{500};

// C5. Reason node lost if a line cannot be read.
arrow::Result<uint64_t> HighestCatalogEpoch(region::Region* region) {
  // One that is not there now can only claim later, and then sees what is sealed now.
  const arrow::Status attached = region->AttachMissing();
  if (!attached.ok()) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                      "the memory of a node cannot be read: " + attached.message());
  }
  return directory::HighestEpoch(region::SegmentsOf(*region));
}

}  // namespace

struct Publisher::Attempt {
  Request request;  ///< Without the descriptor once it is sealed.
  Done done;
  bool replaces = false;  ///< The name was bound before.
  /// Bound by a former life, or as the next version of its name: it stays, whatever the
  /// leader says or does not. A leader that claimed meanwhile may have retired the
  /// version before because of it.
  bool is_visible = false;
  ObjectId object;
  directory::Version version;
  int binds = 0;
  std::chrono::nanoseconds deadline{0};  ///< Of the epoch check, and to be told.
};

Publisher::Publisher(region::Region* region, Home* home, CatalogClient* catalog,
                     HomeClient* homes, Scheduler* scheduler)
    : region_(region),
      home_(home),
      catalog_(catalog),
      homes_(homes),
      scheduler_(scheduler) {}

// Refuses early, and cheaply, what the leader would refuse too. It alone decides.
// True if the name is bound now.
arrow::Result<bool> Publisher::CheckName(const Request& request) const {
  const std::string& name = request.input.name;
  ARROW_RETURN_NOT_OK(directory::ValidateName(name));
  const auto looked_up = directory::Lookup(*region_, name);
  if (!looked_up.ok()) return false;
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
  return found.has_value();
}

void Publisher::Publish(const Request& request, Done done) {
  if (request.is_repeated && PublishedBefore(request, done)) return;
  const bool named = !request.input.name.empty();
  const arrow::Result<bool> bound = named ? CheckName(request) : false;
  if (!bound.ok()) return done(bound.status());
  const auto object = home_->Seal(request.session, request.input);
  if (!object.ok()) return done(object.status());
  if (!named) {
    home_->NotePut(request.session, request.input.request, {*object, 0});
    return done(Published{*object, 0});
  }
  auto attempt = std::make_shared<Attempt>();
  attempt->request = request;
  attempt->request.input.descriptor.reset();
  attempt->replaces = *bound;
  attempt->done = std::move(done);
  attempt->object = *object;
  attempt->deadline = scheduler_->Now() + kEpochReadDeadline;
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
  attempt->deadline = scheduler_->Now() + kEpochReadDeadline;
  homes_->Hold(object);
  Commit(attempt);
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
      if (state == format::LineState::kBound) {
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
        if (!granted.ok()) return Fail(attempt, granted.status());
        OnGranted(attempt, *granted);
      });
}

void Publisher::OnGranted(const AttemptPtr& attempt, directory::Version version) {
  attempt->version = version;
  arrow::Status status =
      home_->directory().SetVersion(attempt->object, version.epoch, version.sequence);
  if (status.ok() && attempt->replaces) status = MakeVisible(attempt);
  if (!status.ok()) return Fail(attempt, status);
  attempt->is_visible = attempt->replaces;
  CheckEpochs(attempt);
}

// After the slot is settled, not before: a leader that claims later sees it.
void Publisher::CheckEpochs(const AttemptPtr& attempt) {
  PassFaultPoint("daemon.publish.before-check");
  const auto highest = HighestCatalogEpoch(region_);
  if (!highest.ok()) {
    if (scheduler_->Now() > attempt->deadline) {
      return attempt->is_visible ? Commit(attempt) : Fail(attempt, highest.status());
    }
    scheduler_->After(kEpochReadRetryPeriod,
                      [this, attempt, alive = std::weak_ptr<bool>(alive_)] {
                        if (!alive.expired()) CheckEpochs(attempt);
                      });
    return;
  }
  PassFaultPoint("daemon.publish.after-check");
  if (attempt->replaces) return Commit(attempt);  // TODO(#4): at the leader of `highest`.
  if (*highest > attempt->version.epoch) return Bind(attempt);
  if (const arrow::Status status = MakeVisible(attempt); !status.ok()) {
    return Fail(attempt, status);
  }
  attempt->is_visible = attempt->request.replace;  // there may be a version before
  Commit(attempt);
}

// Bound, settled, noted.
arrow::Status Publisher::MakeVisible(const AttemptPtr& attempt) {
  ARROW_RETURN_NOT_OK(home_->directory().Bind(attempt->object));
  const region::Segment& own = region_->own_segment();
  own.control().cache()->Settle(own.SlotLine(attempt->object.slot), format::kLineBytes);
  home_->NotePut(attempt->request.session, attempt->request.input.request,
                 {attempt->object, attempt->version.sequence});
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
  if (!attempt->is_visible) return Fail(attempt, status);
  if (!IsNodeLost(status)) return Finish(attempt, status);
  TellIfLate(attempt, status);
  scheduler_->After(kCommitRetryPeriod,
                    [this, attempt, alive = std::weak_ptr<bool>(alive_)] {
                      if (!alive.expired()) Commit(attempt);
                    });
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
  struct Round {
    size_t unanswered;
    arrow::Status status;
  };
  const auto round = std::make_shared<Round>(Round{superseded.size(), {}});
  const auto finish = [this, attempt, round] {
    if (!round->status.ok()) return Finish(attempt, round->status);
    PassFaultPoint("daemon.publish.after-retire");
    Finish(attempt, Published{attempt->object, attempt->version.sequence});
  };
  if (superseded.empty()) return finish();
  // A later version is the name's: nothing comes back when this one goes.
  if (std::ranges::count(superseded, attempt->object) != 0) {
    homes_->Release(attempt->object);
  }
  for (const ObjectId& object : superseded) {
    RetireOld(
        object, attempt->request.input.name,
        [round, finish](const arrow::Status& status) {
          round->status &= status;
          if (--round->unanswered == 0) finish();
        },
        [this, attempt](const arrow::Status& status) { TellIfLate(attempt, status); });
  }
}

// C9: repeated until its home answers. One that is gone already needs no more.
void Publisher::RetireOld(const ObjectId& object, const std::string& name,
                          const HomeClient::Done& done,
                          const HomeClient::Done& on_delay) {
  homes_->Retire(
      object, name,
      [this, object, name, done, on_delay,
       alive = std::weak_ptr<bool>(alive_)](const arrow::Status& status) {
        if (alive.expired()) return;
        if (!IsNodeLost(status)) {
          return done(IsStaleGeneration(status) ? arrow::Status::OK() : status);
        }
        on_delay(status);
        scheduler_->After(kCommitRetryPeriod,
                          [this, object, name, done, on_delay, alive] {
                            if (!alive.expired()) RetireOld(object, name, done, on_delay);
                          });
      });
}

void Publisher::Fail(const AttemptPtr& attempt, const arrow::Status& status) {
  home_->ForgetPut(attempt->request.session, attempt->request.input.request);
  homes_->Release(attempt->object);
  homes_->Retire(
      attempt->object, attempt->request.input.name,
      [](const arrow::Status& retired) { LogIfError("cannot undo a publish", retired); });
  attempt->done(status);
}

}  // namespace sheaf::daemon
