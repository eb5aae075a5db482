#include "daemon/remover.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/macros.h>

#include "base/fault_point.h"
#include "daemon/catalog_client.h"
#include "daemon/foreign_leases.h"
#include "daemon/home.h"
#include "daemon/leadership.h"
#include "daemon/log.h"
#include "daemon/pending_requests.h"
#include "daemon/scheduler.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

using format::LineState;

using Undecided = CatalogClient::Undecided;
using Kind = directory::CatalogLeader::UndecidedKind;

/// A put takes some tenths of a millisecond from its grant on.
constexpr std::chrono::milliseconds kLookPeriod{1};

}  // namespace

struct Remover::Removal {
  ObjectId object;
  std::string name;
  directory::Version version;
  uint64_t epoch = 0;  ///< Of the leader that is asked.
  std::chrono::nanoseconds deadline{0};
  std::vector<CatalogClient::Undecided> undecided;
  std::unordered_set<ObjectId> before;  ///< Versions that it asked to be retired.
  std::vector<Done> done;               ///< Of all who want it removed.
};

Remover::Remover(region::Region* region, Home* home, CatalogClient* catalog,
                 Scheduler* scheduler, RetireFn retire)
    : region_(region),
      home_(home),
      catalog_(catalog),
      scheduler_(scheduler),
      retire_(std::move(retire)) {}

bool Remover::IsBound(const ObjectId& object) const {
  const auto slot = home_->directory().GetSlot(object);
  return slot.ok() && slot->state == static_cast<uint8_t>(LineState::kBound);
}

bool Remover::IsNotPutYet(const ObjectId& object) const {
  const auto slot = home_->directory().GetSlot(object);
  return slot.ok() && slot->state == static_cast<uint8_t>(LineState::kSealed) &&
         (slot->flags & format::kSlotNamed) != 0;
}

void Remover::Prepare(const ObjectId& object, std::chrono::nanoseconds deadline,
                      const Done& done) {
  // Prepared, or being put: no version of the name that anybody can have seen.
  if (IsNotPutYet(object)) return done(StaleObject(object, "is not put yet"));
  if (!IsBound(object)) return done(arrow::Status::OK());
  if (const auto found = removals_.find(object); found != removals_.end()) {
    found->second->done.push_back(done);
    return;
  }
  auto removal = std::make_shared<Removal>();
  removal->object = object;
  removal->name = home_->directory().GetRecord(object).ValueOrDie()->name;
  const auto slot = home_->directory().GetSlot(object);
  removal->version = {slot->version_epoch, slot->version_sequence};
  removal->deadline = deadline;
  removal->done.push_back(done);
  removals_.emplace(object, removal);
  // Settled before the leader is asked: whoever it grants the name later sees it.
  const arrow::Status marked = home_->directory().SetLeaving(object, true);
  if (!marked.ok()) return End(removal, marked);
  Ask(removal);
}

// `other`, another version of its name, is not over.
arrow::Status Remover::WhyItStays(const Removal& removal, const Undecided& other) {
  const NodeId home{other.object.segment.value};
  if (other.kind != Kind::kBefore) {
    return NodeLost(home, "is about to put '" + removal.name +
                              "', and does not get on: start its daemon again (sheaf "
                              "up), or wait, and repeat");
  }
  return NodeLost(home, "has an older version of '" + removal.name +
                            "', which would come back: start its daemon again (sheaf "
                            "up), and repeat");
}

// The one that has the highest epoch now. Of a later one the scan, and all grants, come
// after the mark.
void Remover::Ask(const RemovalPtr& removal) {
  if (!IsBound(removal->object)) return End(removal, arrow::Status::OK());
  if (const arrow::Status status = AttachAllThatCount(region_); !status.ok()) {
    return Later(removal, &Remover::Ask, status);
  }
  const directory::LeaderView leader =
      directory::FindLeader(region::SegmentsOf(*region_));
  removal->epoch = leader.epoch;
  catalog_->Believe(leader);
  catalog_->PrepareRemoval(
      removal->name, removal->object, removal->version.sequence,
      [this, removal, alive = std::weak_ptr<bool>(alive_)](const auto& undecided) {
        if (!alive.expired()) OnAnswer(removal, undecided);
      });
}

// A leader that claimed meanwhile may have missed what this one noted of the removal.
void Remover::OnAnswer(
    const RemovalPtr& removal,
    const arrow::Result<std::vector<CatalogClient::Undecided>>& undecided) {
  if (!undecided.ok()) {
    if (!IsNodeLost(undecided.status())) return End(removal, undecided.status());
    return Later(removal, &Remover::Ask, undecided.status());
  }
  PassFaultPoint("daemon.remove.after-ask");
  const directory::LeaderView leader =
      directory::FindLeader(region::SegmentsOf(*region_));
  if (leader.epoch != removal->epoch) {
    return Later(removal, &Remover::Ask, NodeLost(leader.node, "leads by now"));
  }
  // The leader did: its memory may be lost.
  directory::NoteRemovedSequence(&region_->own_segment(), removal->version.sequence);
  removal->undecided = *undecided;
  Await(removal);
}

void Remover::Await(const RemovalPtr& removal) {
  if (!IsBound(removal->object)) return End(removal, arrow::Status::OK());
  while (!removal->undecided.empty()) {
    const Undecided& other = removal->undecided.back();
    const Outlook outlook = Look(*removal, other);
    if (outlook == Outlook::kTakesItsPlace) {
      return End(removal, StaleObject(removal->object, "was replaced meanwhile"));
    }
    if (outlook == Outlook::kComesBack) return End(removal, WhyItStays(*removal, other));
    if (outlook == Outlook::kIsSuperseded) RetireOnce(removal, other.object);
    if (outlook != Outlook::kOver) {
      const bool is_given_back = outlook == Outlook::kMayBeGivenBack;
      return Later(removal, is_given_back ? &Remover::Ask : &Remover::Await,
                   WhyItStays(*removal, other));
    }
    removal->undecided.pop_back();
  }
  End(removal, arrow::Status::OK());
}

// LOAD! of the slot of another version of the name.
Remover::Outlook Remover::Look(const Removal& removal, const Undecided& put) const {
  const NodeId home{put.object.segment.value};
  if (home.value >= region_->num_segments()) return Outlook::kOver;
  // F8: one that is off stores nothing any more. What it stored before is there for all,
  // as the next leader's scan would show.
  const bool is_off = home != region_->node() &&
                      region::LoadAdmitLine(region_->own_segment(), home).is_off();
  const Outlook unless_off = is_off ? Outlook::kOver : Outlook::kOpen;
  const region::Segment* segment = region_->segment({home.value});
  if (segment == nullptr) return unless_off;
  const auto slot = directory::ReadSlot(*segment, put.object.slot);
  if (!slot.ok()) {
    return IsStaleGeneration(slot.status()) ? Outlook::kOver : unless_off;
  }
  if (slot->generation != put.object.generation) return Outlook::kOver;
  const auto state = static_cast<LineState>(slot->state);
  // One that is bound below this version is superseded, also if it was only granted when
  // the leader was asked.
  const directory::Version version{slot->version_epoch, slot->version_sequence};
  if (state == LineState::kBound && version < removal.version) {
    return is_off ? Outlook::kComesBack : Outlook::kIsSuperseded;
  }
  if (put.kind == Kind::kBefore) return Outlook::kOver;
  if (state == LineState::kSealed) {
    if (is_off) return Outlook::kOver;
    // What is prepared stays when it is refused: the leader knows whether it was.
    const bool has_no_version =
        (slot->flags & format::kSlotPrepared) != 0 && slot->version_epoch == 0;
    return has_no_version ? Outlook::kMayBeGivenBack : Outlook::kOpen;
  }
  // Any other may come before this removal or after it.
  return state == LineState::kBound && put.kind == Kind::kConditional
             ? Outlook::kTakesItsPlace
             : Outlook::kOver;
}

// As its successor's publisher does, which may be gone.
void Remover::RetireOnce(const RemovalPtr& removal, const ObjectId& before) {
  if (removal->before.insert(before).second) retire_(before, removal->name);
}

void Remover::Later(const RemovalPtr& removal, void (Remover::*action)(const RemovalPtr&),
                    const arrow::Status& why) {
  if (scheduler_->Now() > removal->deadline) return End(removal, why);
  scheduler_->After(kLookPeriod,
                    [this, removal, action, alive = std::weak_ptr<bool>(alive_)] {
                      if (!alive.expired()) (this->*action)(removal);
                    });
}

void Remover::End(const RemovalPtr& removal, const arrow::Status& status) {
  removals_.erase(removal->object);
  if (!status.ok() && IsBound(removal->object)) {
    LogIfError("a table that stays cannot be replaced",
               home_->directory().SetLeaving(removal->object, false));
  }
  for (const Done& done : std::exchange(removal->done, {})) done(status);
}

}  // namespace sheaf::daemon
