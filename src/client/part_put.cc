#include "client/part_put.h"

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
#include <arrow/table.h>
#include <arrow/type.h>

#include "base/fault_point.h"
#include "client/absent_name.h"
#include "client/put.h"
#include "client/reader.h"
#include "client/session.h"
#include "client/staged_assembly.h"
#include "client/staged_object.h"
#include "client/staged_table.h"
#include "client/staging.h"
#include "client/wording.h"
#include "codec/codec.h"
#include "directory/directory.h"
#include "platform/process.h"
#include "sheaf/parts.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

using arrow::Status;

/// A seal that finds a part or a version gone looks again; each is another's work.
constexpr int kStaleSealsMax = 1000;
constexpr std::chrono::milliseconds kWaitPeriod{2};
constexpr std::chrono::hours kWaitMax{24 * 365};

}  // namespace

PartPut::PartPut(std::shared_ptr<Session> session, std::string name, uint32_t part,
                 uint32_t of, const PartOptions& options)
    : session_(std::move(session)),
      name_(std::move(name)),
      list_name_(PartsName(name_)),
      part_(part),
      of_(of),
      options_(options) {
  if (!options.deadline) return;
  const auto ahead = std::clamp<std::chrono::nanoseconds>(
      *options.deadline, std::chrono::nanoseconds(0), kWaitMax);
  deadline_unix_ns_ = UnixTimeNs() + ahead.count();
}

Status PartPut::CheckArguments() const {
  ARROW_RETURN_NOT_OK(session_->CheckProcess());
  ARROW_RETURN_NOT_OK(CheckTableName(name_));
  if (list_name_.size() > directory::kNameBytesMax) {
    return Status::Invalid("the name of a table in parts has at most ",
                           directory::kNameBytesMax - PartsName("").size(),
                           " bytes, this one ", name_.size());
  }
  if (of_ == 0 || of_ > kStagedMax) {
    return Status::Invalid("part ", part_, " of ", of_, ": a table has 1 to ", kStagedMax,
                           " parts");
  }
  if (part_ >= of_) {
    return Status::Invalid("part ", part_, " of ", of_,
                           ": parts are counted from 0, so the last of ", of_,
                           " is part ", of_ - 1);
  }
  if (options_.deadline && *options_.deadline <= std::chrono::milliseconds(0)) {
    return Status::Invalid("a deadline of ", options_.deadline->count(),
                           " ms from now is over: give more than 0, or none");
  }
  return Status::OK();
}

Status PartPut::CheckSchema(const arrow::Schema& schema, const arrow::Schema& other,
                            const std::string& of_what) const {
  const std::string difference = SchemaDifference(schema, other);
  if (difference.empty()) return Status::OK();
  const bool is_part = !options_.append || of_ > 1;
  const std::string rows =
      is_part ? "part " + std::to_string(part_) + " of" : "the rows to append to";
  return Status::Invalid(rows, " table '", name_, "' ", is_part ? "has" : "have",
                         " another schema than ", of_what, ": ", difference);
}

Status PartPut::CheckJoins(const Staging& staging) const {
  if (staging.of != of_ || staging.append != options_.append) {
    const char* says = "says";
    if (staging.append != options_.append) {
      says = options_.append ? "is to be appended, in" : "is to be put, in";
    }
    return Status::Invalid("table '", name_, "' is being ",
                           staging.append ? "appended to" : "put", " in ", staging.of,
                           " parts, this part ", says, " ", of_, ": `sheaf abort ", name_,
                           "` removes what is there of it");
  }
  const StagedEntry* entry = staging.Find(part_);
  return entry == nullptr ? Status::OK() : IsThereAlready(*entry);
}

Status PartPut::IsThereAlready(const StagedEntry& entry) const {
  std::string when;
  if (const auto open = OpenObject::Open(session_, entry.object); open.ok()) {
    when = " at " + UtcTime(open->record().created_unix_ns);
  }
  return Status::AlreadyExists("part ", part_, " of table '", name_,
                               "' is there already: ", entry.num_rows,
                               " rows, put on node ", entry.object.segment.value, when,
                               ". If it is not what you want, `sheaf abort ", name_,
                               "` removes all parts that are there, to be put again");
}

// With that of the first part that can be opened.
Status PartPut::CheckSchemaOf(const Staging& staging, const arrow::Schema& schema) const {
  for (const StagedEntry& entry : staging.entries) {
    const auto open = OpenObject::Open(session_, entry.object);
    if (IsStaleGeneration(open.status())) continue;
    ARROW_RETURN_NOT_OK(open.status());
    return CheckSchema(schema, *open->descriptor().schema(),
                       "part " + std::to_string(entry.index));
  }
  return Status::OK();
}

// A put of one part needs no list.
arrow::Result<std::optional<FoundStaging>> PartPut::Meet() {
  ARROW_ASSIGN_OR_RAISE(auto found, MeetStaging(session_, name_));
  before_ = std::nullopt;
  if (found && options_.append && of_ == 1) return std::nullopt;  // not of that put
  // Where no part is left a put begins anew, with a number that no table can have.
  if (found && found->staging.entries.empty()) {
    if (found->staging.candidate) {
      found->staging.leftovers.push_back(found->staging.candidate->object);
    }
    before_ = std::move(found);
    return std::nullopt;
  }
  return found;
}

// What can be refused before any byte is copied.
Status PartPut::CheckBefore(const arrow::Table& table) {
  ARROW_ASSIGN_OR_RAISE(const auto found, Meet());
  if (found) {
    ARROW_RETURN_NOT_OK(CheckJoins(found->staging));
    ARROW_RETURN_NOT_OK(CheckNoOther(found->staging));
    ARROW_RETURN_NOT_OK(CheckSchemaOf(found->staging, *table.schema()));
  }
  const auto open = OpenName(session_, name_);
  if (options_.append) {
    if (!open.ok()) return ExplainAbsent(session_, name_, open.status());
    return CheckSchema(*table.schema(), *open->descriptor().schema(), "the table");
  }
  if (open.status().IsKeyError()) return Status::OK();
  ARROW_RETURN_NOT_OK(open.status());
  return Status::AlreadyExists("a table named '", name_, "' exists (version ",
                               open->version(), "); remove it first, or append to it");
}

arrow::Result<PartReceipt> PartPut::Run(const arrow::Table& table) {
  ARROW_RETURN_NOT_OK(CheckArguments());
  ARROW_RETURN_NOT_OK(CheckBefore(table));
  PartReceipt receipt;
  PassFaultPoint("client.part.before-bytes");
  // Unnamed and not kept: it goes with this process, until it has a place.
  ARROW_ASSIGN_OR_RAISE(
      receipt.part,
      Put(session_, table,
          {.name = "", .put = {.checksum = options_.checksum}, .keep = false}));
  PassFaultPoint("client.part.after-bytes");
  object_ = receipt.part.handle.object;
  num_rows_ = table.num_rows();
  schema_ = table.schema();
  auto placed = Place(std::move(receipt));
  // Reason timeout leaves it in a list.
  if (!placed.ok() && (staging_id_ == 0 || !IsTimeout(placed.status()))) Withdraw();
  return placed;
}

// It belongs to nobody then. One that cannot be taken out of its list any more stays: the
// table may be made of it.
void PartPut::Withdraw() {
  Backoff backoff;
  while (staging_id_ != 0) {
    const auto loaded = LoadStaging(session_, list_name_);
    if (!loaded.ok()) return;
    const std::optional<FoundStaging>& found = *loaded;
    if (!found || found->staging.id != staging_id_) break;
    Staging staging = found->staging;
    if (staging.state != StagingState::kGathering) return;
    const size_t removed = std::erase_if(
        staging.entries, [&](const auto& entry) { return entry.object == object_; });
    if (removed == 0) break;
    const auto stored = StoreStaging(session_, list_name_, staging, found);
    if (!stored.ok()) return;
    if (*stored) break;
    if (!backoff.PauseAt(found->version, ListOf(name_)).ok()) return;
  }
  ARROW_UNUSED(Drop(*session_, object_));
}

arrow::Result<PartReceipt> PartPut::Place(PartReceipt receipt) {
  Backoff backoff;
  for (;;) {
    ARROW_ASSIGN_OR_RAISE(const Step step, PlaceOnce(&receipt));
    if (step == Step::kStaged) {
      if (options_.wait > std::chrono::milliseconds(0)) {
        ARROW_RETURN_NOT_OK(Await(&receipt));
      }
      return receipt;
    }
    if (step == Step::kSealed) return receipt;
    if (deadline_unix_ns_ != 0 && UnixTimeNs() >= deadline_unix_ns_) {
      return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kTimeout,
                        "part " + std::to_string(part_) + " found no place in table '" +
                            name_ + "' until its deadline");
    }
    ARROW_RETURN_NOT_OK(backoff.PauseAt(seen_version_, options_.append && of_ == 1
                                                           ? "table '" + name_ + "'"
                                                           : ListOf(name_)));
  }
}

Staging PartPut::Begin() const {
  Staging staging{platform::RandomBits() | 1, of_, options_.append, 0, {}};
  if (before_) staging.leftovers = before_->staging.leftovers;
  return staging;
}

arrow::Result<PartPut::Step> PartPut::PlaceOnce(PartReceipt* receipt) {
  ARROW_ASSIGN_OR_RAISE(const auto found, Meet());
  if (found) {
    ARROW_RETURN_NOT_OK(CheckJoins(found->staging));
    ARROW_RETURN_NOT_OK(CheckSchemaOf(found->staging, *schema_));
  }
  const auto& former_list = found ? found : before_;
  seen_version_ = former_list ? former_list->version : 0;
  Staging staging = found ? found->staging : Begin();
  if (deadline_unix_ns_ != 0 &&
      (staging.deadline_unix_ns == 0 || deadline_unix_ns_ < staging.deadline_unix_ns)) {
    staging.deadline_unix_ns = deadline_unix_ns_;
  }
  receipt->table.reset();  // of a try before
  receipt->checksums_lost = false;
  const auto former = std::exchange(staging.candidate, std::nullopt);
  if (former && IsHomeOff(*session_, former->object)) {
    staging.leftovers.push_back(former->object);
  }
  staging.Add({part_, num_rows_, object_});
  if (of_ == 1) return PutAlone(staging, receipt);
  const bool is_last = staging.entries.size() == staging.of;
  if (is_last) {
    auto prepared = PrepareStaged(session_, name_, &staging);
    if (!prepared.ok()) return AfterRefusal(prepared.status());
    receipt->checksums_lost = prepared->loses_checksums;
    receipt->table = std::move(prepared->receipt);
  }
  ARROW_ASSIGN_OR_RAISE(auto stored,
                        StoreStaging(session_, list_name_, staging, former_list));
  const auto& unused = stored ? former : staging.candidate;
  if (unused) ARROW_UNUSED(DropStaged(*session_, unused->object));
  if (!stored) return Step::kAgain;
  staging_id_ = staging.id;
  if (is_last) return Complete(*std::move(stored), receipt);
  ARROW_RETURN_NOT_OK(CheckNoOther(staging));
  return AfterStore(staging, receipt);
}

// What this call does not finish, since others had a hand in it, they do.
arrow::Result<PartPut::Step> PartPut::Complete(FoundStaging stored,
                                               PartReceipt* receipt) {
  ARROW_ASSIGN_OR_RAISE(auto end, CompleteStaged(session_, name_, std::move(stored)));
  if (end) ARROW_RETURN_NOT_OK(std::move(end->refused));
  std::optional<uint32_t> version = end ? end->version : std::nullopt;
  if (!version) {
    ARROW_ASSIGN_OR_RAISE(const auto found, MeetStaging(session_, name_));
    if (found && found->staging.id == staging_id_) {  // A part was lost with its process.
      receipt->table.reset();
      receipt->checksums_lost = false;
      return AfterStore(found->staging, receipt);
    }
    ARROW_ASSIGN_OR_RAISE(version, VersionWith(session_, name_, staging_id_));
  }
  if (!version) return Aborted();
  receipt->version = *version;
  if (receipt->table) receipt->table->version = *version;
  receipt->missing.clear();
  return Step::kSealed;
}

Status PartPut::Aborted() const {
  return Status::Cancelled("the put of table '", name_,
                           "' was aborted, or its table was removed since");
}

// A table that was whole, and its list gone, before this list began: the parts are its
// own.
Status PartPut::CheckNoOther(const Staging& staging) {
  if (options_.append) return Status::OK();
  ARROW_ASSIGN_OR_RAISE(const auto named, FindName(*session_, name_));
  if (!named) return Status::OK();
  ARROW_ASSIGN_OR_RAISE(const auto version, VersionWith(session_, name_, staging.id));
  if (version) return Status::OK();
  ARROW_ASSIGN_OR_RAISE(const auto aborted, AbortStaged(session_, name_, staging.id));
  if (aborted != StagedAbort::kAborted) {
    // That other one may have gone meanwhile, and another writer made this one whole.
    ARROW_ASSIGN_OR_RAISE(const auto again, VersionWith(session_, name_, staging.id));
    if (again) return Status::OK();
  }
  return Status::AlreadyExists(
      "a table named '", name_, "' exists (version ", named->version.sequence, ")",
      aborted == StagedAbort::kAborted ? ", so the parts that waited are dropped" : "",
      "; remove it first, or append to it");
}

// From now on the list keeps it. Who aborts, or seals, may have been faster.
arrow::Result<PartPut::Step> PartPut::AfterStore(const Staging& staging,
                                                 PartReceipt* receipt) {
  receipt->missing = staging.Missing();
  const Status kept = Keep(*session_, object_);
  PassFaultPoint("client.part.after-keep");
  if (kept.ok()) return Step::kStaged;
  if (!IsStaleGeneration(kept)) return kept;
  ARROW_ASSIGN_OR_RAISE(const auto version, VersionWith(session_, name_, staging.id));
  if (!version) return Aborted();
  receipt->version = *version;
  receipt->missing.clear();
  return Step::kSealed;
}

// One part is the table, or all that is appended: its name decides.
arrow::Result<PartPut::Step> PartPut::PutAlone(const Staging& staging,
                                               PartReceipt* receipt) {
  auto staged = AssembleStaged(session_, name_, staging);
  if (!staged.ok()) return AfterRefusal(staged.status());
  seen_version_ = staged->base_version;
  auto sealed = Put(session_, *staged->table, staged->publish);
  if (!sealed.ok()) return AfterRefusal(sealed.status());
  receipt->version = sealed->version;
  receipt->missing.clear();
  receipt->table = *std::move(sealed);
  receipt->checksums_lost = staged->loses_checksums;
  ARROW_UNUSED(Drop(*session_, object_));  // The table keeps the bytes.
  return Step::kSealed;
}

// Another version, or a part that is gone: somebody else did something, so look again.
arrow::Result<PartPut::Step> PartPut::AfterRefusal(const Status& status) {
  if (IsVersionMismatch(status)) return Step::kAgain;
  if (!IsStaleGeneration(status) || ++stale_seals_ > kStaleSealsMax) return status;
  return Step::kAgain;
}

Status PartPut::Await(PartReceipt* receipt) {
  const auto end = platform::BootTime() + std::clamp<std::chrono::nanoseconds>(
                                              options_.wait, kWaitPeriod, kWaitMax);
  for (;;) {
    ARROW_ASSIGN_OR_RAISE(const auto version, VersionWith(session_, name_, staging_id_));
    if (version) {
      receipt->version = *version;
      receipt->missing.clear();
      return Status::OK();
    }
    ARROW_ASSIGN_OR_RAISE(const auto found, LoadStaging(session_, list_name_));
    if (!found || found->staging.id != staging_id_) {
      // Sealed since the look above, or gone.
      ARROW_ASSIGN_OR_RAISE(const auto again, VersionWith(session_, name_, staging_id_));
      if (again) continue;
      return Aborted();
    }
    if (found->staging.state != StagingState::kGathering) {
      // Decided by somebody who may have died since.
      ARROW_RETURN_NOT_OK(MeetStaging(session_, name_).status());
      continue;
    }
    receipt->missing = found->staging.Missing();
    const auto timeout = [&](const std::string& when) {
      return MakeStatus(
          arrow::StatusCode::IOError, ErrorReason::kTimeout,
          "table '" + name_ + "': " + MissingParts(receipt->missing, of_) + " " + when);
    };
    const int64_t deadline = found->staging.deadline_unix_ns;
    if (deadline != 0 && UnixTimeNs() >= deadline) {
      ARROW_ASSIGN_OR_RAISE(const StagedAbort aborted,
                            AbortStaged(session_, name_, staging_id_));
      if (aborted != StagedAbort::kAborted) continue;  // Others did, or it is whole.
      return timeout(
          "at its deadline: the put was aborted, and its parts are gone: put all of them "
          "again");
    }
    if (platform::BootTime() >= end) {
      return timeout("after " + std::to_string(options_.wait.count()) + " ms. Part " +
                     std::to_string(part_) +
                     " is there and stays, so do not put it again: `sheaf wait " + name_ +
                     "` waits for the others, `sheaf abort " + name_ +
                     "` removes what is there");
    }
    platform::SleepFor(kWaitPeriod);
  }
}

}  // namespace sheaf::client
