#include "daemon/home.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "base/fault_point.h"
#include "daemon/foreign_leases.h"
#include "daemon/grant_table.h"
#include "daemon/guest_table.h"
#include "daemon/home_life.h"
#include "daemon/node_lines.h"
#include "daemon/scheduler.h"
#include "daemon/space.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

GrantOwner OwnerOf(const region::Region& region, uint64_t incarnation) {
  return {region.node(), incarnation, 0};
}

std::vector<uint32_t> HomePages(const lease::PageTable& pages) {
  std::vector<uint32_t> of_home;
  for (const uint64_t session : pages.Sessions()) {
    if (!IsHomeSession(session)) continue;
    const std::vector<uint32_t> of_life = pages.PagesOf(session);
    of_home.insert(of_home.end(), of_life.begin(), of_life.end());
  }
  return of_home;
}

std::vector<alloc::Range> OwnRanges(const directory::Record& record) {
  std::vector<alloc::Range> ranges;
  ranges.reserve(record.own_ranges.size());
  for (const GlobalRange& range : record.own_ranges) {
    ranges.push_back({range.begin.offset, range.size_bytes});
  }
  return ranges;
}

}  // namespace

std::chrono::nanoseconds GraceOf(const region::ClusterConfig& config) {
  const bool coherent = config.backend != region::Backend::kSim &&
                        config.coherence == region::Coherence::kCoherent;
  if (coherent || config.settle_class != platform::SettleClass::kPosted) {
    return std::chrono::nanoseconds(0);
  }
  return 2 * std::chrono::microseconds(config.posted_delay_us);
}

arrow::Result<std::unique_ptr<Home>> Home::Make(region::Region* region,
                                                const Scheduler* clock,
                                                const HomeLife& life) {
  std::unique_ptr<Home> home(new Home(region, clock, life));
  ARROW_RETURN_NOT_OK(home->Adopt());
  ARROW_RETURN_NOT_OK(region->config().prealloc ? home->space_.WarmAll()
                                                : home->space_.WarmFirst());
  return home;
}

Home::Home(region::Region* region, const Scheduler* clock, const HomeLife& life)
    : region_(region),
      clock_(clock),
      life_(life),
      last_session_(HomeSession(life)),
      quotas_(region->config(), region->own_segment().data().size_bytes()),
      pages_(&region->own_segment()),
      guests_(pages_, [this] { return NewId(); }),
      space_(&region->own_segment(), OwnerOf(*region, life.incarnation)),
      directory_(&region->own_segment()),
      foreign_(region, &pages_, HomeSession(life), HomePages(pages_)) {}

arrow::Status Home::Adopt() {
  problems_ = directory_.problems();
  AdoptObjects();
  const std::vector<std::string> of_space = space_.problems();
  problems_.insert(problems_.end(), of_space.begin(), of_space.end());
  ARROW_RETURN_NOT_OK(AdoptReferences());
  AdoptSessions();
  if (quotas_.any()) AdoptQuotas();
  AdoptPuts();
  return arrow::Status::OK();
}

void Home::AdoptObjects() {
  using format::LineState;
  for (const LineState state :
       {LineState::kSealed, LineState::kBound, LineState::kRetired}) {
    for (const ObjectId& object : directory_.ObjectsIn(state)) {
      const auto record = directory_.GetRecord(object);
      if (!record.ok()) continue;  // one of the directory's problems
      space_.AdoptObject(OwnRanges(**record));
      if ((*record)->creator_session > last_session_) {
        former_creators_.insert((*record)->creator_session);
      }
      // A full GRACE: the flush of a former life may be under way still.
      if (state == LineState::kRetired) {
        retired_[object] = clock_->Now() + GraceOf(region_->config());
      }
    }
  }
}

arrow::Status Home::AdoptReferences() {
  using format::LineState;
  for (const LineState state :
       {LineState::kSealed, LineState::kBound, LineState::kRetired}) {
    for (const ObjectId& object : directory_.ObjectsIn(state)) {
      const auto record = directory_.GetRecord(object);
      if (!record.ok()) continue;
      for (const ObjectId& reference : (*record)->references) {
        ARROW_RETURN_NOT_OK(foreign_.Adopt(reference));
      }
    }
  }
  PassFaultPoint("daemon.adopt.before-release");
  foreign_.ClearFormer();
  return arrow::Status::OK();
}

void Home::AdoptSessions() {
  for (const uint64_t session : pages_.Sessions()) {
    if (!IsHomeSession(session)) sessions_.insert(session);
  }
  for (const uint64_t session : space_.Sessions()) sessions_.insert(session);
  for (const ObjectId& object : directory_.ObjectsIn(format::LineState::kSealed)) {
    const auto slot = directory_.GetSlot(object);
    const auto record = directory_.GetRecord(object);
    if (!slot.ok() || !record.ok()) continue;
    const bool is_named = (slot->flags & format::kSlotNamed) != 0 &&
                          (slot->flags & format::kSlotPrepared) == 0;
    if (is_named || (slot->flags & format::kSlotKept) != 0) continue;
    sessions_.insert((*record)->creator_session);
  }
  space_.AdoptGuests(&guests_);
  std::erase_if(sessions_, [this](uint64_t session) { return guests_.Has(session); });
}

void Home::AdoptQuotas() {
  using format::LineState;
  for (const uint64_t session : space_.Sessions()) {
    for (const GrantId& id : space_.GrantsOf(session)) {
      const auto extent = space_.ExtentOf(id);
      if (extent.ok()) quotas_.Add(HolderOf(session), {*extent});
    }
  }
  for (const LineState state :
       {LineState::kSealed, LineState::kBound, LineState::kRetired}) {
    for (const ObjectId& object : directory_.ObjectsIn(state)) {
      const auto record = directory_.GetRecord(object);
      if (record.ok()) quotas_.Add(HolderOf(**record), OwnRanges(**record));
    }
  }
}

// Of a life that ended between the two. Whoever could have removed or replaced the object
// meanwhile was not served.
void Home::AdoptPuts() {
  using format::LineState;
  for (const LineState state : {LineState::kSealed, LineState::kBound}) {
    for (const ObjectId& object : directory_.ObjectsIn(state)) {
      const auto slot = directory_.GetSlot(object);
      const auto record = directory_.GetRecord(object);
      if (!slot.ok() || !record.ok()) continue;
      const bool is_prepared = (slot->flags & format::kSlotPrepared) != 0;
      if (!is_prepared && !directory::IsReadable(*slot)) continue;
      NotePut((*record)->creator_session, (*record)->creator_request,
              {object, slot->version_sequence});
    }
  }
}

void Home::AdoptUser(uint64_t session, uint32_t user_id) {
  const uint32_t former = HolderOf(session).user_id;
  if (user_id == former) return;
  other_users_[session] = user_id;
  for (const GrantId& id : space_.GrantsOf(session)) {
    const auto extent = space_.ExtentOf(id);
    if (extent.ok()) quotas_.Move(former, user_id, {*extent});
  }
}

Holder Home::HolderOf(uint64_t session) const {
  const auto other = other_users_.find(session);
  const uint32_t own = region_->own_segment().header().user_id;
  return {session, other == other_users_.end() ? own : other->second};
}

Holder Home::HolderOf(const directory::Record& record) const {
  return {record.creator_session,
          record.creator_user.value_or(region_->own_segment().header().user_id)};
}

std::vector<uint32_t> Home::LeasePagesOf(uint64_t session) const {
  return pages_.PagesOf(session);
}

void Home::SetIncarnation(uint64_t incarnation) {
  life_.incarnation = incarnation;
  space_.SetOwner(OwnerOf(*region_, incarnation));
}

arrow::Status Home::CheckSession(uint64_t session) const {
  if (HasSession(session)) return arrow::Status::OK();
  return arrow::Status::Invalid("no session ", session);
}

// A damaged incarnation line forgets how many lives there were. Who had the number of a
// session that put something would be told that it was its own put (P4).
uint64_t Home::NewId() {
  do {
    ++last_session_;
  } while (HasSession(last_session_) || former_creators_.contains(last_session_));
  return last_session_;
}

arrow::Result<Home::NewSession> Home::OpenSession(std::optional<uint32_t> user_id) {
  NewSession session{NewId(), {}};
  for (int i = 0; i < kFirstLeasePages; ++i) {
    const auto page = pages_.Activate(session.id);
    if (!page.ok()) {
      pages_.Release(session.id);
      return page.status();
    }
    session.lease_pages.push_back(*page);
  }
  sessions_.insert(session.id);
  if (user_id && *user_id != HolderOf(session.id).user_id) {
    other_users_[session.id] = *user_id;
  }
  return session;
}

arrow::Status Home::EndSession(uint64_t session) {
  ARROW_RETURN_NOT_OK(CheckSession(session));
  PassFaultPoint("daemon.session-end.before-cells");
  sessions_.erase(session);
  pages_.Release(session);
  PassFaultPoint("daemon.session-end.after-cells");
  arrow::Status status;
  for (const GrantId& id : space_.GrantsOf(session)) {
    status &= TakeBack(session, id, /*is_dead=*/true);
  }
  PassFaultPoint("daemon.session-end.after-grants");
  quotas_.EndSession(session);
  other_users_.erase(session);
  for (const ObjectId& object : directory_.UnnamedOf(session)) {
    status &= MarkRetired(object);
  }
  guests_.Remove(session);  // Last: its grants' lines are written under its name.
  PassFaultPoint("daemon.session-end.after-objects");
  return status;
}

arrow::Result<uint32_t> Home::AddLeasePage(uint64_t session) {
  ARROW_RETURN_NOT_OK(CheckSession(session));
  return pages_.Activate(session);
}

arrow::Result<Granted> Home::Grant(uint64_t session, uint64_t size_bytes,
                                   uint64_t wish_bytes) {
  return GrantWithin(session, size_bytes, wish_bytes, [&](uint64_t wish) {
    return space_.Grant(session, size_bytes, wish);
  });
}

arrow::Result<Granted> Home::Grant(uint64_t guest, const GuestGrant& what) {
  ARROW_RETURN_NOT_OK(CheckSession(guest));
  for (const GrantId& id : space_.GrantsOf(guest)) {
    ARROW_ASSIGN_OR_RAISE(const GrantOwner owner, space_.OwnerOf(id));
    if (owner.request == what.request) {
      ARROW_ASSIGN_OR_RAISE(const alloc::Range extent, space_.ExtentOf(id));
      return Granted{id, extent};
    }
    if (owner.request > what.request || what.known.contains(id)) continue;
    ARROW_RETURN_NOT_OK(TakeBack(guest, id, /*is_dead=*/false));
  }
  const auto name = guests_.NameOf(guest);
  if (!name) return arrow::Status::Invalid("session ", guest, " is not a guest");
  const GrantOwner owner{name->node, what.incarnation, name->session, what.request};
  return GrantWithin(guest, what.size_bytes, what.wish_bytes, [&](uint64_t wish) {
    return space_.GrantGuest(owner, guest, what.size_bytes, wish);
  });
}

template <typename TryFn>
arrow::Result<Granted> Home::GrantWithin(uint64_t session, uint64_t size_bytes,
                                         uint64_t wish_bytes, const TryFn& try_grant) {
  ARROW_RETURN_NOT_OK(CheckSession(session));
  if (!problems_.empty()) {
    return arrow::Status::IOError(
        "segment ", segment().value, " is damaged (", problems_.front(),
        "): its tables can be read, but nothing can be put there; see `sheaf fsck`");
  }
  const Holder holder = HolderOf(session);
  ARROW_RETURN_NOT_OK(quotas_.CheckGrant(holder, size_bytes));
  ARROW_ASSIGN_OR_RAISE(const Granted granted, try_grant(wish_bytes));
  const arrow::Status within = quotas_.CheckRanges(holder, {granted.extent});
  quotas_.Add(holder, {granted.extent});
  if (within.ok()) return granted;
  ARROW_RETURN_NOT_OK(TakeBack(session, granted.id, /*is_dead=*/false));
  // What is wished for is no right. An extent may be larger than what was asked for, too.
  if (wish_bytes <= size_bytes) return within;
  return GrantWithin(session, size_bytes, 0, try_grant);
}

arrow::Status Home::TakeBack(uint64_t session, const GrantId& id, bool is_dead) {
  const auto extent = space_.ExtentOf(id);
  ARROW_RETURN_NOT_OK(is_dead ? space_.ReturnOfDead(session, id)
                              : space_.Return(session, id));
  if (extent.ok()) quotas_.Drop(HolderOf(session), {*extent});
  return arrow::Status::OK();
}

arrow::Status Home::Return(uint64_t session, const GrantId& id) {
  ARROW_RETURN_NOT_OK(CheckSession(session));
  return TakeBack(session, id, /*is_dead=*/false);
}

arrow::Status Home::ReturnAllBut(uint64_t session, const std::set<GrantId>& known) {
  ARROW_RETURN_NOT_OK(CheckSession(session));
  arrow::Status status;
  for (const GrantId& id : space_.GrantsOf(session)) {
    if (!known.contains(id)) status &= TakeBack(session, id, /*is_dead=*/true);
  }
  return status;
}

void Home::NotePut(uint64_t session, uint64_t request, const Put& put) {
  if (!HasSession(session)) return;  // Nobody can ask.
  pages_.NotePut(session, {request, put.object.slot, put.object.generation, put.version});
}

void Home::ForgetPut(uint64_t session, uint64_t request) {
  pages_.ForgetPut(session, request);
}

std::optional<Home::Put> Home::FindPut(uint64_t session, uint64_t request) const {
  const lease::LastPut put = pages_.LastPutOf(session);
  if (request == 0 || put.request != request) return std::nullopt;
  return Put{{segment(), put.slot, put.generation}, put.version_sequence};
}

arrow::Status Home::Retire(const ObjectId& object, const std::string& name,
                           uint32_t remover) {
  ARROW_ASSIGN_OR_RAISE(const format::Slot slot, directory_.GetSlot(object));
  ARROW_ASSIGN_OR_RAISE(const auto record, directory_.GetRecord(object));
  // One that is prepared is dropped as unnamed ones are.
  const bool is_dropped = name.empty() && (slot.flags & format::kSlotPrepared) != 0;
  if (record->name != name && !is_dropped) {
    return arrow::Status::Invalid("the object is named '", record->name, "', not '", name,
                                  "'");
  }
  // Whoever retired it first, to remove or to replace it, was told so; nobody else is.
  if (slot.state == static_cast<uint8_t>(format::LineState::kRetired)) {
    return StaleObject(object, "is retired already");
  }
  return MarkRetired(object, remover);
}

arrow::Status Home::MarkRetired(const ObjectId& object, uint32_t remover) {
  ARROW_RETURN_NOT_OK(directory_.Retire(object, remover));
  retired_[object] = clock_->Now() + GraceOf(region_->config());  // from the flush on
  return arrow::Status::OK();
}

arrow::Status Home::SetKept(const ObjectId& object, bool kept) {
  ARROW_ASSIGN_OR_RAISE(const format::Slot slot, directory_.GetSlot(object));
  if (slot.state != static_cast<uint8_t>(format::LineState::kSealed)) {
    return StaleObject(object, "is not an unnamed live object");
  }
  if ((slot.flags & format::kSlotNamed) != 0 &&
      (slot.flags & format::kSlotPrepared) == 0) {
    return arrow::Status::Invalid("a named object is kept until it is removed");
  }
  return directory_.SetKept(object, kept);
}

std::chrono::nanoseconds Home::grace_end() const {
  std::chrono::nanoseconds end{0};
  for (const auto& [object, grace_end] : retired_) end = std::max(end, grace_end);
  return end;
}

arrow::Result<size_t> Home::Reclaim() {
  const auto now = clock_->Now();
  std::vector<ObjectId> ready;
  for (const auto& [object, grace_end] : retired_) {
    if (grace_end <= now) ready.push_back(object);
  }
  if (ready.empty()) return 0;
  PassFaultPoint("daemon.reclaim.before-scan");
  // A node that came up a moment ago may hold leases: its segment was there before them.
  ARROW_RETURN_NOT_OK(region_->AttachMissing());
  ARROW_ASSIGN_OR_RAISE(const lease::LeasedSet leased,
                        lease::ScanLeases(*region_, segment()));
  PassFaultPoint("daemon.reclaim.after-scan");
  size_t freed = 0;
  for (const ObjectId& object : ready) {
    const uint64_t cell =
        format::PackLeaseCell(segment().value, object.slot, object.generation);
    if (leased.contains(cell)) continue;
    ARROW_RETURN_NOT_OK(Free(object));
    ++freed;
  }
  return freed;
}

// Free in memory first; then its bytes may be granted, and what it referred to may go.
arrow::Status Home::Free(const ObjectId& object) {
  ARROW_ASSIGN_OR_RAISE(const directory::Record record, directory_.Free(object));
  PassFaultPoint("daemon.free.after-record");
  retired_.erase(object);
  space_.ranges().DropReference(OwnRanges(record));
  quotas_.Drop(HolderOf(record), OwnRanges(record));
  PassFaultPoint("daemon.free.after-ranges");
  for (const ObjectId& reference : record.references) foreign_.Release(reference);
  return arrow::Status::OK();
}

Statistics Home::statistics() const {
  const alloc::RangeMap& ranges = space_.ranges();
  Statistics statistics;
  statistics.free_bytes = ranges.free_bytes();
  statistics.used_bytes = ranges.size_bytes() - ranges.free_bytes();
  statistics.largest_free_bytes = ranges.largest_free_bytes();
  statistics.sessions = static_cast<uint32_t>(sessions_.size() + guests_.size());
  statistics.objects = directory_.num_objects();
  return statistics;
}

}  // namespace sheaf::daemon
