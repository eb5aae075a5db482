#include "client/part_put.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "base/fault_point.h"
#include "client/publisher.h"
#include "client/put.h"
#include "client/reader.h"
#include "client/session.h"
#include "client/staging.h"
#include "codec/codec.h"
#include "directory/directory.h"
#include "platform/process.h"
#include "region/region.h"
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
constexpr size_t kNumbersShown = 16;

std::string Join(const std::vector<uint32_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < std::min(numbers.size(), kNumbersShown); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(numbers[i]);
  }
  if (numbers.size() > kNumbersShown) {
    text += " and " + std::to_string(numbers.size() - kNumbersShown) + " more";
  }
  return text;
}

std::string Describe(const arrow::Field& field) {
  return "'" + field.name() + "' of type " + field.type()->ToString() +
         (field.nullable() ? "" : ", not null");
}

/// What two schemas differ in; empty if nothing.
std::string Difference(const arrow::Schema& mine, const arrow::Schema& other) {
  const int num_fields = std::min(mine.num_fields(), other.num_fields());
  for (int i = 0; i < num_fields; ++i) {
    if (mine.field(i)->Equals(*other.field(i), /*check_metadata=*/false)) continue;
    return "field " + std::to_string(i) + " is " + Describe(*mine.field(i)) + ", not " +
           Describe(*other.field(i));
  }
  if (mine.num_fields() == other.num_fields()) return "";
  const arrow::Schema& longer = mine.num_fields() > num_fields ? mine : other;
  return "field " + std::to_string(num_fields) + ", " +
         Describe(*longer.field(num_fields)) + ", is " +
         (&longer == &mine ? "one too many" : "missing");
}

/// The pieces of a table in their order: shared as they are, no byte is looked at.
class Assembly {
 public:
  Status Add(const OpenObject& open) {
    ARROW_ASSIGN_OR_RAISE(auto table, open.ToTable({}, DataUse::kShare));
    if (tables_.empty()) {
      columns_.resize(static_cast<size_t>(table->num_columns()));
      schema_ = table->schema();
    }
    for (size_t i = 0; i < columns_.size(); ++i) {
      const auto& chunks = table->column(static_cast<int>(i))->chunks();
      columns_[i].insert(columns_[i].end(), chunks.begin(), chunks.end());
    }
    num_rows_ += table->num_rows();
    all_have_checksums_ = all_have_checksums_ && open.descriptor().has_checksums();
    tables_.push_back(std::move(table));
    return open.descriptor().VisitBuffers(
        [&](const GlobalRange& range, std::optional<uint64_t> checksum) {
          if (checksum) checksums_.emplace(range, *checksum);
          return Status::OK();
        });
  }

  std::shared_ptr<arrow::Table> Table() const {
    arrow::ChunkedArrayVector columns;
    for (size_t i = 0; i < columns_.size(); ++i) {
      columns.push_back(std::make_shared<arrow::ChunkedArray>(
          columns_[i], schema_->field(static_cast<int>(i))->type()));
    }
    return arrow::Table::Make(schema_, std::move(columns), num_rows_);
  }

  bool all_have_checksums() const { return all_have_checksums_; }

  /// What a piece's own descriptor says.
  std::optional<uint64_t> ChecksumOf(const GlobalRange& range) const {
    const auto found = checksums_.find(range);
    if (found == checksums_.end()) return std::nullopt;
    return found->second;
  }

 private:
  std::shared_ptr<arrow::Schema> schema_;
  std::vector<arrow::ArrayVector> columns_;
  std::vector<std::shared_ptr<arrow::Table>> tables_;
  std::map<GlobalRange, uint64_t> checksums_;
  int64_t num_rows_ = 0;
  bool all_have_checksums_ = true;
};

}  // namespace

std::vector<codec::Part> PartsOf(const OpenObject& open) {
  std::vector<codec::Part> parts = open.descriptor().parts();
  if (!parts.empty()) return parts;
  const auto ranges = open.descriptor().Ranges();
  const SegmentId segment =
      ranges.empty() ? open.object().segment : ranges.front().begin.segment;
  return {{open.descriptor().num_rows(), 0, segment}};
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

arrow::Result<std::optional<FoundStaging>> MeetStaging(
    const std::shared_ptr<Session>& session, const std::string& name) {
  const std::string list_name = PartsName(name);
  if (list_name.size() > directory::kNameBytesMax) return std::nullopt;
  for (;;) {
    ARROW_ASSIGN_OR_RAISE(auto found, LoadStaging(session, list_name));
    if (!found) return found;
    Staging& staging = found->staging;
    // Before the look at the table: who seals drops the parts after the table is there.
    std::erase_if(staging.entries, [&](const StagedEntry& entry) {
      return !IsThere(*session, entry.object);
    });
    const bool is_late =
        staging.deadline_unix_ns != 0 && UnixTimeNs() >= staging.deadline_unix_ns;
    if (!is_late) {
      ARROW_ASSIGN_OR_RAISE(const auto version, VersionWith(session, name, staging.id));
      if (!version) return found;
    }
    ARROW_RETURN_NOT_OK(CleanStaged(session, list_name, staging.id));
  }
}

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
  if (of_ == 0 || of_ > kStagedMax || part_ >= of_) {
    return Status::Invalid("part ", part_, " of ", of_, ": parts are 0 to ",
                           kStagedMax - 1, ", and one less than their number");
  }
  return Status::OK();
}

Status PartPut::CheckSchema(const arrow::Schema& schema, const arrow::Schema& other,
                            const std::string& of_what) const {
  const std::string difference = Difference(schema, other);
  if (difference.empty()) return Status::OK();
  return Status::Invalid("part ", part_, " of table '", name_,
                         "' has another schema than ", of_what, ": ", difference);
}

Status PartPut::CheckJoins(const Staging& staging) const {
  if (staging.of != of_ || staging.append != options_.append) {
    return Status::Invalid("table '", name_, "' is being ",
                           staging.append ? "appended to" : "put", " in ", staging.of,
                           " parts, not ", options_.append ? "appended to" : "put",
                           " in ", of_, ": `sheaf abort` removes what is there of it");
  }
  if (staging.Find(part_) == nullptr) return Status::OK();
  return Status::AlreadyExists("part ", part_, " of table '", name_,
                               "' was put by another writer");
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
  if (found && options_.append && of_ == 1) return std::nullopt;  // not of that put
  return found;
}

// What can be refused before any byte is copied.
Status PartPut::CheckBefore(const arrow::Table& table) {
  ARROW_ASSIGN_OR_RAISE(const auto found, Meet());
  if (found) {
    ARROW_RETURN_NOT_OK(CheckJoins(found->staging));
    ARROW_RETURN_NOT_OK(CheckSchemaOf(found->staging, *table.schema()));
  }
  const auto open = OpenName(session_, name_);
  if (options_.append) {
    ARROW_RETURN_NOT_OK(open.status());
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
  // It is in no list then. Reason timeout leaves it in one.
  if (!placed.ok() && !IsTimeout(placed.status())) {
    ARROW_UNUSED(Drop(*session_, object_));
  }
  return placed;
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
    backoff.Pause();
  }
}

Staging PartPut::Begin() const {
  Staging staging{platform::RandomBits() | 1, of_, options_.append, 0, {}};
  return staging;
}

arrow::Result<PartPut::Step> PartPut::PlaceOnce(PartReceipt* receipt) {
  ARROW_ASSIGN_OR_RAISE(const auto found, Meet());
  if (found) {
    ARROW_RETURN_NOT_OK(CheckJoins(found->staging));
    ARROW_RETURN_NOT_OK(CheckSchemaOf(found->staging, *schema_));
  }
  Staging staging = found ? found->staging : Begin();
  if (deadline_unix_ns_ != 0 &&
      (staging.deadline_unix_ns == 0 || deadline_unix_ns_ < staging.deadline_unix_ns)) {
    staging.deadline_unix_ns = deadline_unix_ns_;
  }
  staging.Add({part_, num_rows_, object_});
  if (staging.entries.size() == staging.of) return Seal(staging, receipt);
  ARROW_ASSIGN_OR_RAISE(const bool stored,
                        StoreStaging(session_, list_name_, staging, found));
  if (!stored) return Step::kAgain;
  ARROW_RETURN_NOT_OK(CheckNoOther(staging));
  return AfterStore(staging, receipt);
}

// A table that was whole, and its list gone, before this list began: the parts are its
// own.
Status PartPut::CheckNoOther(const Staging& staging) {
  if (options_.append) return Status::OK();
  ARROW_ASSIGN_OR_RAISE(const auto named, FindName(*session_, name_));
  if (!named) return Status::OK();
  ARROW_ASSIGN_OR_RAISE(const auto version, VersionWith(session_, name_, staging.id));
  if (version) return Status::OK();
  ARROW_RETURN_NOT_OK(CleanStaged(session_, list_name_, staging.id));
  return Status::AlreadyExists("a table named '", name_, "' exists (version ",
                               named->version.sequence,
                               "); remove it first, or append to it");
}

// From now on the list keeps it. Who aborts, or seals, may have been faster.
arrow::Result<PartPut::Step> PartPut::AfterStore(const Staging& staging,
                                                 PartReceipt* receipt) {
  staging_id_ = staging.id;
  receipt->missing = staging.Missing();
  const Status kept = Keep(*session_, object_);
  PassFaultPoint("client.part.after-keep");
  if (kept.ok()) return Step::kStaged;
  if (!IsStaleGeneration(kept)) return kept;
  ARROW_ASSIGN_OR_RAISE(const auto version, VersionWith(session_, name_, staging.id));
  if (!version) {
    return Status::Cancelled("the put of table '", name_, "' was aborted");
  }
  receipt->version = *version;
  receipt->missing.clear();
  return Step::kSealed;
}

// The table as an ordinary object over the bytes of all parts. Its name decides between
// several who would do this; what is left of the list then is cleaned up by whoever meets
// it.
arrow::Result<PartPut::Step> PartPut::Seal(const Staging& staging, PartReceipt* receipt) {
  Assembly assembly;
  PublishOptions publish{.name = name_, .put = {}};
  publish.may_copy_foreign = false;
  if (options_.append) {
    ARROW_ASSIGN_OR_RAISE(const auto base, OpenName(session_, name_));
    ARROW_RETURN_NOT_OK(CheckSchema(*schema_, *base.descriptor().schema(), "the table"));
    publish.put = {.replace = true, .expected_version = base.version()};
    publish.parts = PartsOf(base);
    // Another writer of the same last part was faster, and has not cleaned up.
    const bool is_done = std::ranges::any_of(
        publish.parts, [&](const auto& part) { return part.put == staging.id; });
    if (is_done) return AfterRefusal(Status::AlreadyExists("it was appended"), staging);
    ARROW_RETURN_NOT_OK(assembly.Add(base));
  }
  for (const StagedEntry& entry : staging.entries) {
    const auto open = OpenObject::Open(session_, entry.object);
    if (!open.ok()) return AfterRefusal(open.status(), staging);
    const Status same = CheckSchema(*schema_, *open->descriptor().schema(),
                                    "part " + std::to_string(entry.index));
    ARROW_RETURN_NOT_OK(same);
    const Status added = assembly.Add(*open);
    if (!added.ok()) return AfterRefusal(added, staging);
    publish.parts.push_back(
        {open->descriptor().num_rows(), staging.id, entry.object.segment});
  }
  publish.put.checksum = assembly.all_have_checksums();
  publish.known_checksum = [&](const GlobalRange& range) {
    return assembly.ChecksumOf(range);
  };
  PassFaultPoint("client.part.before-table");
  auto sealed = Put(session_, *assembly.Table(), publish);
  PassFaultPoint("client.part.after-table");
  if (!sealed.ok()) return AfterRefusal(sealed.status(), staging);
  receipt->version = sealed->version;
  receipt->missing.clear();
  receipt->table = *std::move(sealed);
  // The table keeps the bytes. What cannot be cleaned up now, since a node is not there,
  // will be by whoever meets it.
  ARROW_UNUSED(CleanStaged(session_, list_name_, staging.id));
  ARROW_UNUSED(Drop(*session_, object_));
  return Step::kSealed;
}

// Another version, or a part that is gone: somebody else did something, so look again.
arrow::Result<PartPut::Step> PartPut::AfterRefusal(const Status& status,
                                                   const Staging& staging) {
  if (status.IsAlreadyExists()) {
    ARROW_ASSIGN_OR_RAISE(const auto version, VersionWith(session_, name_, staging.id));
    if (!version) return status;
    return Status::AlreadyExists("part ", part_, " of table '", name_,
                                 "' was put by another writer");
  }
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
      return Status::Cancelled("the put of table '", name_, "' was aborted");
    }
    receipt->missing = found->staging.Missing();
    const auto timeout = [&](const char* when) {
      return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kTimeout,
                        "table '" + name_ + "' misses part " + Join(receipt->missing) +
                            " of " + std::to_string(of_) + " " + when);
    };
    const int64_t deadline = found->staging.deadline_unix_ns;
    if (deadline != 0 && UnixTimeNs() >= deadline) {
      ARROW_RETURN_NOT_OK(CleanStaged(session_, list_name_, staging_id_));
      return timeout("at its deadline: the put was aborted");
    }
    if (platform::BootTime() >= end) return timeout("still");
    platform::SleepFor(kWaitPeriod);
  }
}

}  // namespace sheaf::client
