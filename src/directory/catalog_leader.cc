#include "directory/catalog_leader.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/macros.h>

#include "base/fault_point.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/index_writer.h"
#include "directory/life_off.h"
#include "directory/slot_reader.h"
#include "format/layout.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::directory {
namespace {

using region::Arrival;

/// Replaces of one name under way at a time; each costs a slot load per request for that
/// name.
constexpr size_t kPendingMax = 1024;
/// Removed names are remembered (for their versions) while they are fewer than this or
/// than the names in use; beyond, they share one floor.
constexpr size_t kIdleNamesMin = 4096;
/// Some milliseconds' work.
constexpr size_t kNamesBetweenProgress = 4096;

arrow::Status VersionMismatch(const std::string& message) {
  return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kVersionMismatch, message);
}

arrow::Status NotSealed(const CatalogLeader::BindRequest& request) {
  const ObjectId& object = request.object;
  return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                    "'" + request.name + "' cannot be bound to object " +
                        std::to_string(object.segment.value) + ":" +
                        std::to_string(object.slot) + " generation " +
                        std::to_string(object.generation) + ", which is not sealed");
}

}  // namespace

CatalogLeader::Impl::Binding* CatalogLeader::Impl::Name::Find(const ObjectId& object) {
  if (target && target->object == object) return &*target;
  const auto found = std::ranges::find(pending, object, &Binding::object);
  return found == pending.end() ? nullptr : &*found;
}

/// C3: entries and reservations are hints, never trusted over slots.
arrow::Result<CatalogLeader::Impl::SlotView> CatalogLeader::Impl::LoadSlot(
    const ObjectId& object) const {
  const region::SegmentList segments = segments_();
  const uint32_t home = object.segment.value;
  if (home >= segments.size() || segments[home] == nullptr) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                      "segment " + std::to_string(home) + " is not attached");
  }
  ARROW_ASSIGN_OR_RAISE(const format::Slot slot, ReadSlot(*segments[home], object.slot));
  if (slot.generation != object.generation) return SlotView::kGone;
  if (StateOf(slot) == format::LineState::kBound) {
    return (slot.flags & format::kSlotLeaving) != 0 ? SlotView::kLeaving
                                                    : SlotView::kBound;
  }
  if (StateOf(slot) != format::LineState::kSealed) return SlotView::kGone;
  // What a life of its home sealed that is off is never put. Written by this process.
  const NodeId node{home};
  if (!region::DroppedAdmitLine(*home_->own_segment(), node).is_off()) {
    return SlotView::kSealed;
  }
  const auto is_void = IsOfLifeOff(segments, *segments[home], slot);
  return is_void.ok() && *is_void ? SlotView::kVoid : SlotView::kSealed;
}

arrow::Status CatalogLeader::Impl::Refresh(Name* name) const {
  std::vector<Binding> live;
  if (name->target) live.push_back(*name->target);
  live.insert(live.end(), name->pending.begin(), name->pending.end());
  const bool has_target = name->target.has_value();
  bool is_target_gone = false;
  std::vector<Binding> bound;
  std::vector<Binding> sealed;
  for (size_t i = 0; i < live.size(); ++i) {
    ARROW_ASSIGN_OR_RAISE(const SlotView view, LoadSlot(live[i].object));
    if (view == SlotView::kGone || view == SlotView::kVoid) {
      is_target_gone |= i == 0 && has_target;
      continue;
    }
    // What its home said is newer than what this node may see of its slot (C6 does not
    // settle).
    live[i].is_bound |= view == SlotView::kBound || view == SlotView::kLeaving;
    live[i].is_leaving = view == SlotView::kLeaving;
    (live[i].is_bound ? bound : sealed).push_back(live[i]);
  }
  std::ranges::sort(bound, {}, &Binding::version);
  std::optional<Binding> target;
  if (!bound.empty()) {
    target = bound.back();
    bound.pop_back();
  } else if (!sealed.empty()) {
    // The first reservation stays; when it is gone, the highest takes its place.
    const auto next = has_target && !is_target_gone
                          ? sealed.begin()
                          : std::ranges::max_element(sealed, {}, &Binding::version);
    target = *next;
    sealed.erase(next);
  }
  name->target = target;
  name->pending = std::move(sealed);
  for (const Binding& loser : bound) name->superseded.push_back(loser.object);
  return arrow::Status::OK();
}

arrow::Status CatalogLeader::Impl::CheckReplace(const BindRequest& request,
                                                const Name& name) const {
  if (!name.target) {
    if (!request.expected_sequence) return arrow::Status::OK();
    return VersionMismatch("'" + request.name + "' does not exist, version " +
                           std::to_string(*request.expected_sequence) + " was expected");
  }
  const Version current = name.target->version;
  if (!request.replace) {
    return arrow::Status::AlreadyExists("'", request.name, "' exists, version ",
                                        current.sequence);
  }
  if (name.pending.size() >= kPendingMax) {
    return arrow::Status::CapacityError("'", request.name, "' is being replaced ",
                                        kPendingMax, " times at once");
  }
  if (!request.expected_sequence) return arrow::Status::OK();
  if (!name.target->is_bound || !name.pending.empty()) {
    return VersionMismatch("'" + request.name + "' is being replaced by another writer");
  }
  if (name.target->is_leaving) {
    return VersionMismatch("'" + request.name + "' is being removed");
  }
  if (current.sequence != *request.expected_sequence) {
    return VersionMismatch("'" + request.name + "' has version " +
                           std::to_string(current.sequence) + ", version " +
                           std::to_string(*request.expected_sequence) + " was expected");
  }
  return arrow::Status::OK();
}

/// Asked again, by a publisher that missed the answer: the same. What another leader
/// granted is decided anew: that one may not have known what was put, or removed, since.
std::optional<Version> CatalogLeader::Impl::GrantedBefore(const ObjectId& object,
                                                          Name* name) const {
  const Binding* binding = name->Find(object);
  if (binding == nullptr) return std::nullopt;
  if (binding->is_bound || binding->version.epoch == epoch_) return binding->version;
  if (name->target && name->target->object == object) {
    name->target.reset();
  } else {
    std::erase_if(name->pending, [&](const Binding& b) { return b.object == object; });
  }
  return std::nullopt;
}

arrow::Result<Version> CatalogLeader::Impl::Bind(const BindRequest& request) {
  ARROW_RETURN_NOT_OK(ValidateName(request.name));
  if (has_many_idle_) ForgetIdleNames();
  const auto known = names_.find(request.name);
  Name fresh;
  Name* name = known == names_.end() ? &fresh : &known->second;
  if (const auto granted = GrantedBefore(request.object, name)) return *granted;
  // What is not there (sealed, and settled before its home asks) would hold the name for
  // ever.
  ARROW_ASSIGN_OR_RAISE(const SlotView view, LoadSlot(request.object));
  if (view == SlotView::kGone) return NotSealed(request);
  if (view == SlotView::kVoid) {
    return arrow::Status::Invalid("'", request.name, "' was prepared by a node that was ",
                                  "declared off since");
  }
  const std::optional<Binding> old_target = name->target;
  ARROW_RETURN_NOT_OK(Refresh(name));
  // No old target: its slot could not be read when the name was unbound.
  if (name->target && (!old_target || name->target->object != old_target->object)) {
    ARROW_RETURN_NOT_OK(StoreEntry(request.name, name, Arrival::kFlushed));
  }
  ARROW_RETURN_NOT_OK(CheckReplace(request, *name));
  if (name == &fresh) name = &names_[request.name];
  return Grant(request, name);
}

arrow::Result<Version> CatalogLeader::Impl::Grant(const BindRequest& request,
                                                  Name* name) {
  // While it is there its own is the highest.
  const bool is_there = name->target && name->target->is_bound;
  const uint32_t last =
      is_there ? name->last_sequence : std::max(name->last_sequence, sequence_floor_);
  if (last == std::numeric_limits<uint32_t>::max()) {
    return arrow::Status::CapacityError("'", request.name, "' has no versions left");
  }
  const Version version{epoch_, last + 1};
  if (name->target) {
    name->pending.push_back(
        {request.object, version, false, request.expected_sequence.has_value()});
  } else {
    name->target = Binding{request.object, version};
    const arrow::Status status = StoreEntry(request.name, name, Arrival::kFlushed);
    if (!status.ok()) {
      name->target.reset();
      return status;
    }
  }
  name->last_sequence = version.sequence;
  return version;
}

arrow::Result<std::vector<ObjectId>> CatalogLeader::Impl::Commit(const std::string& name,
                                                                 const ObjectId& object,
                                                                 Version version) {
  ARROW_RETURN_NOT_OK(ValidateName(name));
  const auto known = names_.find(name);
  const bool is_known = known != names_.end() &&
                        (known->second.Find(object) != nullptr ||
                         std::ranges::count(known->second.superseded, object) != 0);
  if (!is_known) {
    // Granted by an earlier leader, or long gone: the slot says.
    ARROW_ASSIGN_OR_RAISE(const SlotView view, LoadSlot(object));
    if (view != SlotView::kBound && view != SlotView::kLeaving) {
      return std::vector<ObjectId>{};
    }
    names_[name].pending.push_back({object, version});
  }
  Name& state = names_[name];
  if (Binding* binding = state.Find(object)) {
    binding->is_bound = true;
    state.last_sequence = std::max(state.last_sequence, binding->version.sequence);
  }
  ARROW_RETURN_NOT_OK(Refresh(&state));
  // In memory before anyone retires the version that it replaces: a reader whose entry
  // leads nowhere reads the entry again.
  if (state.target) ARROW_RETURN_NOT_OK(StoreEntry(name, &state, Arrival::kSettled));
  return DropRetired(&state);
}

/// Superseded objects that are not known to be retired.
std::vector<ObjectId> CatalogLeader::Impl::DropRetired(Name* name) const {
  std::erase_if(name->superseded, [this](const ObjectId& object) {
    const auto view = LoadSlot(object);
    return view.ok() && *view == SlotView::kGone;
  });
  return name->superseded;
}

void CatalogLeader::Impl::Unbind(const std::string& name, const ObjectId& object) {
  const auto known = names_.find(name);
  if (known == names_.end()) return;
  Name& state = known->second;
  std::erase(state.superseded, object);
  std::erase_if(state.pending, [&](const Binding& b) { return b.object == object; });
  if (!state.target || state.target->object != object) return;
  state.target.reset();
  // A replace that is under way takes its place; if its slot cannot be read now, at its
  // Commit.
  ARROW_UNUSED(Refresh(&state));
  if (!state.position && !state.target) return;
  // Cannot fail where it matters: to remove an entry needs no space.
  ARROW_UNUSED(StoreEntry(name, &state, Arrival::kFlushed));
}

/// C8. Who is granted the name from now on finds the object marked, as its home did
/// before it asked.
arrow::Result<std::vector<CatalogLeader::Undecided>> CatalogLeader::Impl::PrepareRemoval(
    const std::string& name, const ObjectId& object, uint32_t sequence) {
  ARROW_RETURN_NOT_OK(ValidateName(name));
  NoteRemovedSequence(home_->own_segment(), sequence);
  PassFaultPoint("daemon.remove.after-sequence");
  std::vector<Undecided> undecided;
  const auto known = names_.find(name);
  if (known == names_.end()) return undecided;
  Name& state = known->second;
  // Whose slot cannot be read is not decided, nor is what is bound beside it.
  ARROW_UNUSED(Refresh(&state));
  if (state.target && state.target->is_bound && state.target->object != object) {
    // Found by its name from now on, also if its home did not get to say that it is
    // there: who wanted this one removed looks again.
    ARROW_RETURN_NOT_OK(StoreEntry(name, &state, Arrival::kSettled));
    return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                      "this version of '" + name + "' was replaced by version " +
                          std::to_string(state.target->version.sequence));
  }
  const auto add = [&](const Binding& binding) {
    if (binding.object == object) return;
    undecided.push_back({binding.object, binding.is_conditional
                                             ? UndecidedKind::kConditional
                                             : UndecidedKind::kPut});
  };
  if (state.target) add(*state.target);
  for (const Binding& binding : state.pending) add(binding);
  for (const ObjectId& before : DropRetired(&state)) {
    undecided.push_back({before, UndecidedKind::kBefore});
  }
  return undecided;
}

format::IndexEntry CatalogLeader::Impl::EntryOf(const std::string& name,
                                                const Name& state) const {
  format::IndexEntry entry{};
  entry.epoch = epoch_;
  entry.name_hash = hash_(name);
  entry.version_sequence = state.last_sequence;
  entry.state = static_cast<uint8_t>(EntryState::kRemoved);
  if (state.target) {
    entry.state = static_cast<uint8_t>(EntryState::kBound);
    entry.home = state.target->object.segment.value;
    entry.slot = state.target->object.slot;
    entry.generation = state.target->object.generation;
    entry.version_epoch = state.target->version.epoch;
    entry.version_sequence = state.target->version.sequence;
  }
  return entry;
}

arrow::Status CatalogLeader::Impl::StoreEntry(const std::string& name, Name* state,
                                              Arrival arrival) {
  if (!state->position && index_.is_full()) {
    ARROW_RETURN_NOT_OK(Rebuild());
  }
  const format::IndexEntry entry = EntryOf(name, *state);
  if (state->position) {
    index_.Update(*state->position, entry, arrival);
    return arrow::Status::OK();
  }
  ARROW_ASSIGN_OR_RAISE(state->position, index_.Add(entry, arrival));
  return arrow::Status::OK();
}

/// A new table of the names that lead somewhere; the others keep their versions, or share
/// a floor.
arrow::Status CatalogLeader::Impl::Rebuild() {
  const auto leads_nowhere = [](const auto& entry) { return entry.second.IsIdle(); };
  const auto num_without_entry = std::ranges::count_if(names_, leads_nowhere);
  ARROW_RETURN_NOT_OK(
      index_.Begin(names_.size() - static_cast<size_t>(num_without_entry)));
  std::vector<std::pair<Name*, uint64_t>> places;
  size_t num_idle = 0;
  size_t num_seen = 0;
  for (auto& [name, state] : names_) {
    const arrow::Status ignored = Refresh(&state);  // An unreadable slot keeps its entry.
    num_idle += ignored.ok() && state.IsIdle();
    if (++num_seen % kNamesBetweenProgress == 0) progress_();
    if (!state.target) continue;
    const auto position = index_.Place(EntryOf(name, state));
    if (!position.ok()) {
      index_.Abandon();
      return position.status();
    }
    places.emplace_back(&state, *position);
  }
  index_.Publish();
  for (auto& [name, state] : names_) state.position.reset();
  for (const auto& [state, position] : places) state->position = position;
  has_many_idle_ = num_idle > std::max(kIdleNamesMin, names_.size() - num_idle);
  return arrow::Status::OK();
}

void CatalogLeader::Impl::ForgetIdleNames() {
  std::erase_if(names_, [this](const auto& entry) {
    if (!entry.second.IsIdle()) return false;
    sequence_floor_ = std::max(sequence_floor_,
                               std::min(entry.second.last_sequence, kRemovedSequenceMax));
    return true;
  });
  has_many_idle_ = false;
}

CatalogLeader::CatalogLeader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CatalogLeader::~CatalogLeader() = default;

arrow::Result<std::unique_ptr<CatalogLeader>> CatalogLeader::Begin(SegmentsFn segments,
                                                                   HomeDirectory* home,
                                                                   uint32_t epoch,
                                                                   HashFn hash) {
  auto impl = std::make_unique<Impl>(std::move(segments), home, epoch, hash);
  ARROW_RETURN_NOT_OK(impl->BeginClaim());
  return std::unique_ptr<CatalogLeader>(new CatalogLeader(std::move(impl)));
}

arrow::Result<std::unique_ptr<CatalogLeader>> CatalogLeader::Claim(SegmentsFn segments,
                                                                   HomeDirectory* home,
                                                                   uint32_t epoch,
                                                                   HashFn hash) {
  ARROW_ASSIGN_OR_RAISE(auto leader, Begin(std::move(segments), home, epoch, hash));
  constexpr uint32_t kAll = std::numeric_limits<uint32_t>::max();
  for (bool leads = false; !leads;) {
    ARROW_ASSIGN_OR_RAISE(leads, leader->GoOn(kAll));
  }
  return leader;
}

arrow::Result<std::unique_ptr<CatalogLeader>> CatalogLeader::Claim(
    const region::Region* region, HomeDirectory* home, uint32_t epoch, HashFn hash) {
  return Claim([region] { return region::SegmentsOf(*region); }, home, epoch, hash);
}

std::vector<ObjectId> CatalogLeader::losers() const { return impl_->losers(); }
std::vector<std::string> CatalogLeader::problems() const { return impl_->problems(); }

arrow::Result<Version> CatalogLeader::Bind(const BindRequest& request) {
  return impl_->Bind(request);
}

arrow::Result<std::vector<ObjectId>> CatalogLeader::Commit(const std::string& name,
                                                           const ObjectId& object,
                                                           Version version) {
  return impl_->Commit(name, object, version);
}

void CatalogLeader::Unbind(const std::string& name, const ObjectId& object) {
  impl_->Unbind(name, object);
}

arrow::Result<std::vector<CatalogLeader::Undecided>> CatalogLeader::PrepareRemoval(
    const std::string& name, const ObjectId& object, uint32_t sequence) {
  return impl_->PrepareRemoval(name, object, sequence);
}

uint32_t CatalogLeader::epoch() const { return impl_->epoch(); }
uint32_t CatalogLeader::granted_epoch() const { return impl_->granted_epoch(); }

arrow::Result<bool> CatalogLeader::GoOn(uint32_t slots) {
  return impl_->GoOnClaiming(slots);
}

void CatalogLeader::OnProgress(const std::function<void()>& progress) {
  impl_->OnProgress(progress);
}

void CatalogLeader::StepDown() { impl_->StepDown(); }
size_t CatalogLeader::num_names() const { return impl_->num_names(); }

}  // namespace sheaf::directory
