#include "client/staging.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>

#include "base/fault_point.h"
#include "client/publisher.h"
#include "client/put.h"
#include "client/reader.h"
#include "client/session.h"
#include "client/staged_object.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "platform/process.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

constexpr std::string_view kMetadataKey = "sheaf.staging";
constexpr uint32_t kMagic = 0x32544853;  // "SHT2", the last character is the version
constexpr uint32_t kAppendFlag = 1;
constexpr uint32_t kStateShift = 8;  // of the flags: 8 bits

/// All zero: none.
struct StoredManifest {
  uint64_t generation;
  uint32_t segment;
  uint32_t slot;
  uint32_t base_version;
  uint32_t reserved;  // Zero.
};
constexpr StoredManifest kNoManifest{};
/// How a list is stored, little-endian: head, then its entries.
struct StoredHead {
  uint32_t magic;
  uint32_t flags;
  uint64_t id;
  int64_t deadline_unix_ns;
  uint32_t of;
  uint32_t num_entries;
  StoredManifest manifest;
  StoredManifest candidate;
};
struct StoredEntry {
  int64_t num_rows;
  uint64_t generation;
  uint32_t segment;
  uint32_t slot;
  uint32_t index;
  uint32_t reserved;  // Zero.
};
/// Leftovers, after the entries.
struct StoredObject {
  uint64_t generation;
  uint32_t segment;
  uint32_t slot;
};
static_assert(sizeof(StoredObject) == 16 &&
              std::has_unique_object_representations_v<StoredObject>);
static_assert(sizeof(StoredHead) == 80 &&
              std::has_unique_object_representations_v<StoredHead>);
static_assert(sizeof(StoredEntry) == 32 &&
              std::has_unique_object_representations_v<StoredEntry>);

bool IsPossible(uint32_t segment, uint32_t slot, uint64_t generation) {
  return segment < format::kNodesMax && slot < format::kSlotsMax &&
         (generation & format::kGenerationLowMask) != 0;
}

StoredManifest Stored(const std::optional<StagedManifest>& manifest) {
  if (!manifest) return {};
  const ObjectId& object = manifest->object;
  return {object.generation, object.segment.value, object.slot, manifest->base_version,
          0};
}

arrow::Result<std::optional<StagedManifest>> Manifest(const StoredManifest& stored) {
  if (std::memcmp(&stored, &kNoManifest, sizeof(stored)) == 0) return std::nullopt;
  if (!IsPossible(stored.segment, stored.slot, stored.generation) ||
      stored.reserved != 0) {
    return arrow::Status::Invalid("a staging list names an impossible table");
  }
  return StagedManifest{{{stored.segment}, stored.slot, stored.generation},
                        stored.base_version};
}

arrow::Status CheckEntry(const StoredEntry& entry, const Staging& staging) {
  const bool fits = IsPossible(entry.segment, entry.slot, entry.generation);
  const bool rises =
      staging.entries.empty() || entry.index > staging.entries.back().index;
  if (fits && rises && entry.index < staging.of && entry.num_rows >= 0 &&
      entry.reserved == 0) {
    return arrow::Status::OK();
  }
  return arrow::Status::Invalid("a staging list names impossible part ", entry.index,
                                " of ", staging.of);
}

arrow::Status DecodeLeftovers(std::string_view bytes, Staging* staging) {
  const size_t count = bytes.size() / sizeof(StoredObject);
  if (count > kLeftoversMax || count * sizeof(StoredObject) != bytes.size()) {
    return arrow::Status::Invalid("a staging list of ", bytes.size(), " bytes too many");
  }
  for (size_t i = 0; i < count; ++i) {
    StoredObject stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(stored), sizeof(stored));
    if (!IsPossible(stored.segment, stored.slot, stored.generation)) {
      return arrow::Status::Invalid("a staging list names an impossible object");
    }
    staging->leftovers.push_back({{stored.segment}, stored.slot, stored.generation});
  }
  return arrow::Status::OK();
}

}  // namespace

const StagedEntry* Staging::Find(uint32_t index) const {
  const auto found = std::ranges::lower_bound(entries, index, {}, &StagedEntry::index);
  return found == entries.end() || found->index != index ? nullptr : &*found;
}

void Staging::Add(const StagedEntry& entry) {
  entries.insert(std::ranges::lower_bound(entries, entry.index, {}, &StagedEntry::index),
                 entry);
}

std::vector<uint32_t> Staging::Missing() const {
  std::vector<uint32_t> missing;
  for (uint32_t i = 0; i < of; ++i) {
    if (Find(i) == nullptr) missing.push_back(i);
  }
  return missing;
}

bool Staging::IsOnlyLeftovers() const {
  return state == StagingState::kOver && entries.empty() && !manifest && !candidate;
}

std::string EncodeStaging(const Staging& staging) {
  const StoredHead head{kMagic,
                        (staging.append ? kAppendFlag : 0) |
                            (static_cast<uint32_t>(staging.state) << kStateShift),
                        staging.id,
                        staging.deadline_unix_ns,
                        staging.of,
                        static_cast<uint32_t>(staging.entries.size()),
                        Stored(staging.manifest),
                        Stored(staging.candidate)};
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof(head));
  for (const StagedEntry& entry : staging.entries) {
    const StoredEntry stored{entry.num_rows,
                             entry.object.generation,
                             entry.object.segment.value,
                             entry.object.slot,
                             entry.index,
                             0};
    bytes.append(reinterpret_cast<const char*>(&stored), sizeof(stored));
  }
  for (const ObjectId& object : staging.leftovers) {
    const StoredObject stored{object.generation, object.segment.value, object.slot};
    bytes.append(reinterpret_cast<const char*>(&stored), sizeof(stored));
  }
  return bytes;
}

arrow::Result<Staging> DecodeStaging(std::string_view bytes) {
  StoredHead head;
  if (bytes.size() < sizeof(head)) {
    return arrow::Status::Invalid("a staging list of ", bytes.size(), " bytes");
  }
  std::memcpy(&head, bytes.data(), sizeof(head));
  const uint32_t state = head.flags >> kStateShift;
  if (head.magic != kMagic || (head.flags & 0xFF & ~kAppendFlag) != 0 ||
      state > static_cast<uint32_t>(StagingState::kOver) || head.id == 0 ||
      head.of == 0 || head.of > kStagedMax || head.num_entries > head.of ||
      bytes.size() < sizeof(head) + head.num_entries * sizeof(StoredEntry)) {
    return arrow::Status::Invalid("bytes are not a staging list, or of another version");
  }
  Staging staging{
      head.id, head.of, (head.flags & kAppendFlag) != 0, head.deadline_unix_ns, {}};
  staging.state = static_cast<StagingState>(state);
  ARROW_ASSIGN_OR_RAISE(staging.manifest, Manifest(head.manifest));
  ARROW_ASSIGN_OR_RAISE(staging.candidate, Manifest(head.candidate));
  if ((staging.state == StagingState::kComplete) != staging.manifest.has_value() &&
      staging.state != StagingState::kOver) {
    return arrow::Status::Invalid("a staging list contradicts itself");
  }
  if (staging.state == StagingState::kComplete && head.num_entries != head.of) {
    return arrow::Status::Invalid("a staging list is complete with ", head.num_entries,
                                  " of ", head.of, " parts");
  }
  staging.entries.reserve(head.num_entries);
  for (uint32_t i = 0; i < head.num_entries; ++i) {
    StoredEntry entry;
    std::memcpy(&entry, bytes.data() + sizeof(head) + i * sizeof(entry), sizeof(entry));
    ARROW_RETURN_NOT_OK(CheckEntry(entry, staging));
    staging.entries.push_back(
        {entry.index, entry.num_rows, {{entry.segment}, entry.slot, entry.generation}});
  }
  ARROW_RETURN_NOT_OK(DecodeLeftovers(
      bytes.substr(sizeof(head) + head.num_entries * sizeof(StoredEntry)), &staging));
  return staging;
}

std::string PartsName(const std::string& table_name) {
  return std::string(kReservedPrefix) + "parts/" + table_name;
}

std::string BarrierName(const std::string& barrier_name) {
  return std::string(kReservedPrefix) + "barrier/" + barrier_name;
}

arrow::Status CheckTableName(const std::string& name) {
  ARROW_RETURN_NOT_OK(directory::ValidateName(name));
  if (!IsReserved(name)) return arrow::Status::OK();
  return arrow::Status::Invalid("names that begin with '", kReservedPrefix,
                                "' are Sheaf's own");
}

arrow::Result<std::optional<FoundStaging>> LoadStaging(
    const std::shared_ptr<Session>& session, const std::string& name) {
  auto open = OpenName(session, name);
  if (open.status().IsKeyError()) return std::nullopt;
  ARROW_RETURN_NOT_OK(open.status());
  const auto& metadata = open->descriptor().schema()->metadata();
  const auto value = metadata == nullptr
                         ? arrow::Result<std::string>(arrow::Status::KeyError(""))
                         : metadata->Get(std::string(kMetadataKey));
  if (!value.ok()) return arrow::Status::Invalid("'", name, "' is not a staging list");
  ARROW_ASSIGN_OR_RAISE(auto staging, DecodeStaging(*value));
  return FoundStaging{std::move(staging), open->object(), open->version()};
}

arrow::Result<std::optional<FoundStaging>> StoreStaging(
    const std::shared_ptr<Session>& session, const std::string& name,
    const Staging& staging, const std::optional<FoundStaging>& found) {
  Staging next = staging;
  std::erase_if(next.leftovers, [&](const ObjectId& object) {
    return LookAt(*session, object).view == StagedView::kGone;
  });
  // Its home retires it before this put returns, unless that is off by then.
  if (found && std::ranges::count(next.leftovers, found->object) == 0) {
    next.leftovers.push_back(found->object);
  }
  if (next.leftovers.size() > kLeftoversMax) {
    return arrow::Status::CapacityError("'", name, "': ", next.leftovers.size(),
                                        " objects wait for nodes that are off");
  }
  const auto schema = arrow::schema(
      arrow::FieldVector{},
      arrow::key_value_metadata({std::string(kMetadataKey)}, {EncodeStaging(next)}));
  PublishOptions options{.name = name, .put = {}};
  if (found) options.put = {.replace = true, .expected_version = found->version};
  PassFaultPoint("client.staging.before-store");
  const auto stored =
      Put(session, *arrow::Table::Make(schema, arrow::ArrayVector{}, 0), options);
  PassFaultPoint("client.staging.after-store");
  if (stored.ok()) {
    return FoundStaging{std::move(next), stored->handle.object, stored->version};
  }
  if (stored.status().IsAlreadyExists() || IsVersionMismatch(stored.status())) {
    return std::nullopt;
  }
  return stored.status();
}

arrow::Result<bool> EraseStaging(const std::shared_ptr<Session>& session,
                                 const std::string& name, const FoundStaging& found) {
  const Staging& staging = found.staging;
  std::vector<ObjectId> left = staging.leftovers;
  ARROW_RETURN_NOT_OK(DropAll(*session, &left));
  const bool is_off = IsHomeOff(*session, found.object);
  if (!is_off && left.empty()) {
    PassFaultPoint("client.staging.before-erase");
    const arrow::Status erased = Retire(*session, found.object, name);
    PassFaultPoint("client.staging.after-erase");
    if (erased.ok()) return true;
    if (IsStaleGeneration(erased) || erased.IsKeyError()) return false;
    // A version before may be at a home that is off for the home of this one, or down.
    left = staging.leftovers;
    std::erase_if(left, [&](const ObjectId& object) {
      return LookAt(*session, object).view != StagedView::kList;
    });
    if (!IsNodeLost(erased) || left.empty()) return erased;
  }
  if (!is_off && staging.IsOnlyLeftovers()) return true;
  Staging over{platform::RandomBits() | 1, staging.of, false, 0, {}};
  over.state = StagingState::kOver;
  over.leftovers = std::move(left);
  ARROW_ASSIGN_OR_RAISE(const auto stored, StoreStaging(session, name, over, found));
  return stored.has_value();
}

void Backoff::Pause() {
  constexpr int64_t kLongestUs = 5000;
  // Not all at the same time again.
  platform::SleepFor(std::chrono::microseconds(
      next_us_ / 2 +
      static_cast<int64_t>(platform::RandomBits() % static_cast<uint64_t>(next_us_))));
  next_us_ = std::min(2 * next_us_, kLongestUs);
}

arrow::Status Backoff::PauseAt(uint32_t version, const std::string& what) {
  const auto now = platform::BootTime();
  if (version_ != version) {
    version_ = version;
    stuck_at_ = now + kStuckAfter;
  } else if (now >= stuck_at_) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                      what +
                          " does not change: a node that was about to put or remove "
                          "it does not get on. `sheaf nodes` shows which is down: "
                          "start it again with: sheaf up");
  }
  Pause();
  return arrow::Status::OK();
}

int64_t UnixTimeNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace sheaf::client
