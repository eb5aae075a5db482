#include "client/staged_table.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/macros.h>

#include "base/check.h"
#include "base/fault_point.h"
#include "client/put.h"
#include "client/reader.h"
#include "client/session.h"
#include "client/staged_assembly.h"
#include "client/staged_object.h"
#include "client/staging.h"
#include "codec/codec.h"
#include "directory/directory.h"
#include "region/admit_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

using arrow::Status;
using SessionPtr = std::shared_ptr<Session>;

/// Of a manifest whose version others replace; some seconds.
constexpr int kTriesMax = 1000;

bool HasPartsOf(const OpenObject& open, uint64_t staging_id) {
  return std::ranges::any_of(open.descriptor().parts(),
                             [&](const auto& part) { return part.put == staging_id; });
}

// False if it is not as `found` any more.
arrow::Result<bool> Store(const SessionPtr& session, const std::string& name,
                          const Staging& staging, FoundStaging* found) {
  ARROW_ASSIGN_OR_RAISE(auto stored,
                        StoreStaging(session, PartsName(name), staging, *found));
  if (!stored) return false;
  *found = *std::move(stored);
  return true;
}

// What the state of a list says is there.
const StagedManifest& ThatIsThere(const std::optional<StagedManifest>& manifest) {
  SHEAF_CHECK(manifest.has_value());
  return *manifest;
}

// Of a list that nobody changes any more. Done again after a death in the middle of it,
// it finishes. What waits for nodes that are off stays in a list with a number of its
// own: whoever waits for that put, or goes on with it, finds another.
Status Clear(const SessionPtr& session, const std::string& name, FoundStaging found) {
  Staging& staging = found.staging;
  std::vector<ObjectId> objects;
  objects.reserve(staging.entries.size() + 2);
  for (const StagedEntry& entry : staging.entries) objects.push_back(entry.object);
  if (staging.state == StagingState::kOver) {
    if (staging.candidate) objects.push_back(staging.candidate->object);
    if (staging.manifest) objects.push_back(staging.manifest->object);
  }
  ARROW_RETURN_NOT_OK(DropAll(*session, &objects));
  staging.leftovers.insert(staging.leftovers.end(), objects.begin(), objects.end());
  return EraseStaging(session, PartsName(name), found).status();
}

// True if it is left to nodes that are off, so that nobody can do anything about it.
bool IsLeft(const Session& session, const FoundStaging& found) {
  if (!found.staging.IsOnlyLeftovers() || IsHomeOff(session, found.object)) return false;
  std::vector<ObjectId> left = found.staging.leftovers;
  std::erase_if(left, [&](const ObjectId& object) {
    return LookAt(session, object).view == StagedView::kGone;
  });
  return !left.empty() && std::ranges::all_of(left, [&](const ObjectId& object) {
    return IsHomeOff(session, object);
  });
}

// False if it is not as `found` any more.
arrow::Result<bool> EndStaging(const SessionPtr& session, const std::string& name,
                               FoundStaging found) {
  Staging over = found.staging;
  over.state = StagingState::kOver;
  ARROW_ASSIGN_OR_RAISE(const bool stored, Store(session, name, over, &found));
  if (!stored) return false;
  PassFaultPoint("client.staging.after-end");
  ARROW_RETURN_NOT_OK(Clear(session, name, found));
  return true;
}

// Its manifest is decided. What can be made anew, as long as its list says that it is
// complete, is over first: the list may be another by now.
Status ClearDecided(const SessionPtr& session, const std::string& name,
                    const FoundStaging& found, const StagedEnd& end) {
  const bool is_seen = end.version || !end.refused.ok();
  if (is_seen && !found.staging.append) return Clear(session, name, found);
  return EndStaging(session, name, found).status();
}

// The candidate, which is there, is the manifest from now on. False if the list is not as
// `found` any more.
arrow::Result<bool> Promote(const SessionPtr& session, const std::string& name,
                            FoundStaging* found) {
  Staging staging = found->staging;
  staging.leftovers.push_back(ThatIsThere(staging.manifest).object);
  staging.manifest = std::exchange(staging.candidate, std::nullopt);
  ARROW_ASSIGN_OR_RAISE(const bool decided, Store(session, name, staging, found));
  if (decided) ARROW_RETURN_NOT_OK(DropAll(*session, &staging.leftovers));
  return decided;
}

// For another version of the table, or as the manifest is void: it can never be put. The
// list names whatever is kept at each step: what others made already becomes the manifest
// first, whether or not its version is past as well.
arrow::Result<bool> PrepareAnew(const SessionPtr& session, const std::string& name,
                                FoundStaging* found) {
  Staging staging = found->staging;
  if (staging.candidate) {
    const Status kept = KeepStaged(*session, ThatIsThere(staging.candidate).object);
    if (kept.ok()) return Promote(session, name, found);
    if (!IsStaleGeneration(kept)) return kept;
    staging.leftovers.push_back(ThatIsThere(staging.candidate).object);
  }
  ARROW_RETURN_NOT_OK(DropAll(*session, &staging.leftovers));
  const Status prepared = PrepareStaged(session, name, &staging).status();
  // Another one did it, or the table went meanwhile.
  if (IsStaleGeneration(prepared) || prepared.IsKeyError()) return false;
  ARROW_RETURN_NOT_OK(prepared);
  const auto stored = Store(session, name, staging, found);
  if (!stored.ok() || !*stored) {
    ARROW_UNUSED(Drop(*session, ThatIsThere(staging.candidate).object));
    return stored;
  }
  const Status kept = KeepStaged(*session, ThatIsThere(staging.candidate).object);
  if (IsStaleGeneration(kept)) return false;  // Others put it meanwhile.
  ARROW_RETURN_NOT_OK(kept);
  return Promote(session, name, found);
}

// Not OK if a table of what is complete cannot be made anew, by anybody: its bytes are
// gone, as `made` says, or a part is, with the memory of its node. The list decides:
// parts that others made a table of are none of it any more.
Status WhyNever(const Session& session, const std::string& name, const Staging& staging,
                const Status& made) {
  if (IsDamaged(made)) return made;
  for (const StagedEntry& entry : staging.entries) {
    if (IsThere(session, entry.object)) continue;
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDamaged,
                      "part " + std::to_string(entry.index) + " of table '" + name +
                          "' was lost with the memory of node " +
                          std::to_string(entry.object.segment.value));
  }
  return Status::OK();
}

// What to do about a manifest that is void, or of another version than the table's:
// nothing if it is to be tried again.
arrow::Result<std::optional<StagedEnd>> ReplaceManifest(const SessionPtr& session,
                                                        const std::string& name,
                                                        bool is_void,
                                                        FoundStaging* found) {
  if (found->staging.append) {
    const auto base = OpenName(session, name);
    if (base.status().IsKeyError()) {
      ARROW_ASSIGN_OR_RAISE(const bool ended, EndStaging(session, name, *found));
      if (!ended) return std::nullopt;
      return StagedEnd{std::nullopt, base.status(), {}};
    }
    ARROW_RETURN_NOT_OK(base.status());
    if (HasPartsOf(*base, found->staging.id)) {
      return StagedEnd{base->version(), {}, EndStaging(session, name, *found).status()};
    }
    if (!is_void &&
        base->version() == ThatIsThere(found->staging.manifest).base_version) {
      return std::nullopt;
    }
  }
  const auto made = PrepareAnew(session, name, found);
  const Status never = WhyNever(*session, name, found->staging, made.status());
  if (never.ok()) {
    ARROW_RETURN_NOT_OK(made.status());
    return std::nullopt;
  }
  ARROW_ASSIGN_OR_RAISE(const bool ended, EndStaging(session, name, *found));
  if (!ended) return std::nullopt;
  return StagedEnd{std::nullopt, never, {}};
}

// `what` became of a manifest whose home is off.
Status NodeIsOff(const std::string& name, const ObjectId& manifest,
                 const std::string& what) {
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                    "table '" + name + "' " + what + " by node " +
                        std::to_string(manifest.segment.value) +
                        ", which is off: start it again with: sheaf up");
}

// By a put that does not get on.
Status NameIsTaken(const std::string& name) {
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                    "another put of table '" + name +
                        "' does not get on. `sheaf nodes` shows which node is down: "
                        "start it again with: sheaf up");
}

// The version of the table; 0 if it was put, and is gone since: it is dropped only where
// the list is over, or the name is another table's.
arrow::Result<uint32_t> PublishManifest(const SessionPtr& session,
                                        const std::string& name, const Staging& staging,
                                        StagedView view) {
  const ObjectId& object = ThatIsThere(staging.manifest).object;
  if (IsHomeOff(*session, object)) {
    if (view == StagedView::kGone) return 0;
    return NodeIsOff(name, object, "may have been put");
  }
  const auto version = PublishPrepared(*session, object, name, staging.append,
                                       ThatIsThere(staging.manifest).base_version);
  if (IsStaleGeneration(version.status())) return 0;
  return version;
}

// False while the home of a part says that the manifest's is off: what that leases there
// counts only once it is back for this one, too.
bool IsBackForAll(const Session& session, const ObjectId& manifest,
                  const Staging& staging) {
  return std::ranges::none_of(staging.entries, [&](const StagedEntry& entry) {
    const region::Segment* home = session.region().segment(entry.object.segment);
    return home != nullptr && entry.object.segment != manifest.segment &&
           !IsHomeOff(session, entry.object) &&
           region::LoadAdmitLine(*home, NodeId{manifest.segment.value}).is_off();
  });
}

arrow::Result<bool> IsAsFound(const SessionPtr& session, const std::string& name,
                              const FoundStaging& found) {
  ARROW_ASSIGN_OR_RAISE(const auto now, LoadStaging(session, PartsName(name)));
  return now && now->object == found.object;
}

// Of a complete list; nothing if it is not as `found` any more.
arrow::Result<std::optional<StagedEnd>> Finish(const SessionPtr& session,
                                               const std::string& name,
                                               FoundStaging found) {
  Backoff backoff;
  for (int tries = 1;; ++tries, backoff.Pause()) {
    PassFaultPoint("client.part.before-table");
    const ObjectId manifest = ThatIsThere(found.staging.manifest).object;
    const StagedObject object = LookAt(*session, manifest);
    // The parts keep the bytes of other nodes that it leased, until it is back.
    if (object.view == StagedView::kPut && IsHomeOff(*session, manifest)) {
      return StagedEnd{object.version, {}, NodeIsOff(name, manifest, "was put")};
    }
    const bool is_void = object.view == StagedView::kVoid;
    const auto version =
        is_void
            ? Status::Invalid("the parts of table '", name, "' cannot be put together")
            : PublishManifest(session, name, found.staging, object.view);
    PassFaultPoint("client.part.after-table");
    StagedEnd end;
    if (version.ok()) {
      if (*version != 0) end.version = *version;
      if (end.version && !IsBackForAll(*session, manifest, found.staging)) {
        if (tries <= kTriesMax) continue;
        return StagedEnd{end.version, {}, NodeIsOff(name, manifest, "was put")};
      }
    } else if (version.status().IsAlreadyExists()) {
      ARROW_ASSIGN_OR_RAISE(const auto other, FindName(*session, name));
      if (!other && tries <= kTriesMax) continue;  // About to be put, or to fail.
      if (!other) return NameIsTaken(name);
      const Status dropped = Drop(*session, manifest);
      if (dropped.IsInvalid()) continue;  // Another one could put it meanwhile.
      ARROW_RETURN_NOT_OK(dropped);
      end.refused = version.status();
    } else {
      if (is_void || (IsVersionMismatch(version.status()) && found.staging.append)) {
        ARROW_ASSIGN_OR_RAISE(auto after,
                              ReplaceManifest(session, name, is_void, &found));
        if (after) return after;
      } else if (LookAt(*session, manifest).view != StagedView::kVoid) {
        return version.status();
      }
      ARROW_ASSIGN_OR_RAISE(const bool is_same, IsAsFound(session, name, found));
      if (!is_same) return std::nullopt;
      if (tries > kTriesMax) return version.status();
      continue;
    }
    // The table keeps the bytes; what cannot be cleaned up now, since a node is not
    // there, will be by whoever meets it.
    end.cleared = ClearDecided(session, name, found, end);
    return end;
  }
}

}  // namespace

std::string ListOf(const std::string& name) {
  return "the list of parts of table '" + name + "'";
}

arrow::Result<std::optional<uint32_t>> VersionWith(
    const std::shared_ptr<Session>& session, const std::string& name,
    uint64_t staging_id) {
  const auto open = OpenName(session, name);
  if (open.status().IsKeyError()) return std::nullopt;
  ARROW_RETURN_NOT_OK(open.status());
  for (const codec::Part& part : open->descriptor().parts()) {
    if (part.put == staging_id) return open->version();
  }
  return std::nullopt;
}

arrow::Result<std::optional<StagedEnd>> CompleteStaged(const SessionPtr& session,
                                                       const std::string& name,
                                                       FoundStaging found) {
  // Kept before it is decided, so that no death takes a part of the table along. Who
  // keeps another's part may be faster than its own process; that is told by the list.
  for (const StagedEntry& entry : found.staging.entries) {
    const Status kept = KeepStaged(*session, entry.object);
    if (IsStaleGeneration(kept)) return std::nullopt;
    ARROW_RETURN_NOT_OK(kept);
  }
  const Status kept = KeepStaged(*session, ThatIsThere(found.staging.candidate).object);
  if (IsStaleGeneration(kept)) return std::nullopt;
  ARROW_RETURN_NOT_OK(kept);
  Staging complete = found.staging;
  complete.state = StagingState::kComplete;
  complete.manifest = std::exchange(complete.candidate, std::nullopt);
  PassFaultPoint("client.staging.before-complete");
  ARROW_ASSIGN_OR_RAISE(const bool stored, Store(session, name, complete, &found));
  if (!stored) return std::nullopt;
  PassFaultPoint("client.staging.after-complete");
  return Finish(session, name, std::move(found));
}

namespace {

// All parts are there, and whoever brought the last one has not decided: maybe it died.
Status TryToComplete(const SessionPtr& session, const std::string& name,
                     FoundStaging found) {
  const auto& candidate = found.staging.candidate;
  if (!candidate || !IsThere(*session, candidate->object)) {
    Staging staging = found.staging;
    if (candidate) staging.leftovers.push_back(candidate->object);
    ARROW_RETURN_NOT_OK(PrepareStaged(session, name, &staging).status());
    const auto stored = Store(session, name, staging, &found);
    if (!stored.ok() || !*stored) {
      ARROW_UNUSED(Drop(*session, ThatIsThere(staging.candidate).object));
      return stored.status();
    }
  }
  return CompleteStaged(session, name, std::move(found)).status();
}

bool IsLate(const Staging& staging) {
  return staging.deadline_unix_ns != 0 && UnixTimeNs() >= staging.deadline_unix_ns;
}

}  // namespace

arrow::Result<std::optional<FoundStaging>> MeetStaging(const SessionPtr& session,
                                                       const std::string& name) {
  const std::string list_name = PartsName(name);
  if (list_name.size() > directory::kNameBytesMax) return std::nullopt;
  Backoff backoff;
  for (bool may_complete = true;;) {
    ARROW_ASSIGN_OR_RAISE(auto found, LoadStaging(session, list_name));
    if (!found || IsLeft(*session, *found)) return found;
    Staging& staging = found->staging;
    if (staging.state == StagingState::kComplete) {
      ARROW_ASSIGN_OR_RAISE(const auto end, Finish(session, name, *found));
      if (end) ARROW_RETURN_NOT_OK(end->cleared);
    } else if (staging.state == StagingState::kOver) {
      ARROW_RETURN_NOT_OK(Clear(session, name, *found));
    } else if (IsLate(staging)) {
      ARROW_RETURN_NOT_OK(EndStaging(session, name, *found).status());
    } else {
      std::erase_if(staging.entries, [&](const StagedEntry& entry) {
        return !IsThere(*session, entry.object);
      });
      const bool is_full = staging.entries.size() == staging.of;
      if (!is_full || !may_complete) return found;
      // It may not be possible yet, as where a node is away: that is no reason not to
      // abort it.
      may_complete = TryToComplete(session, name, *found).ok();
    }
    ARROW_RETURN_NOT_OK(backoff.PauseAt(found->version, ListOf(name)));
  }
}

arrow::Result<bool> FinishStaged(const SessionPtr& session, const std::string& name) {
  const std::string list_name = PartsName(name);
  if (list_name.size() > directory::kNameBytesMax) return false;
  Backoff backoff;
  for (bool did = false;;) {
    ARROW_ASSIGN_OR_RAISE(const auto found, LoadStaging(session, list_name));
    if (!found || found->staging.state != StagingState::kComplete) return did;
    ARROW_ASSIGN_OR_RAISE(const auto end, Finish(session, name, *found));
    if (end && !end->cleared.ok()) return did;
    did = true;
    ARROW_RETURN_NOT_OK(backoff.PauseAt(found->version, ListOf(name)));
  }
}

arrow::Result<StagedAbort> AbortStaged(const SessionPtr& session, const std::string& name,
                                       uint64_t id) {
  const std::string list_name = PartsName(name);
  if (list_name.size() > directory::kNameBytesMax) return StagedAbort::kNone;
  Backoff backoff;
  for (auto outcome = StagedAbort::kNone;;) {
    ARROW_ASSIGN_OR_RAISE(const auto found, LoadStaging(session, list_name));
    if (!found || (id != 0 && found->staging.id != id)) return outcome;
    if (IsLeft(*session, *found)) return outcome;
    if (found->staging.state == StagingState::kComplete) {
      ARROW_ASSIGN_OR_RAISE(const auto end, Finish(session, name, *found));
      outcome = StagedAbort::kFinished;
      if (end && !end->cleared.ok()) return outcome;
    } else if (found->staging.state == StagingState::kOver) {
      ARROW_RETURN_NOT_OK(Clear(session, name, *found));
    } else {
      ARROW_ASSIGN_OR_RAISE(const bool ended, EndStaging(session, name, *found));
      if (ended) return StagedAbort::kAborted;
    }
    ARROW_RETURN_NOT_OK(backoff.PauseAt(found->version, ListOf(name)));
  }
}

}  // namespace sheaf::client
