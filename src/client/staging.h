// What several processes put together before it becomes one thing: the parts of a table,
// the arrivals at a barrier. Kept as a list under a reserved name, changed by compare and
// swap.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "client/session.h"
#include "directory/directory.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// Parts of a put, or participants of a barrier, at most.
constexpr uint32_t kStagedMax = 1U << 16;
/// Objects that wait for nodes which are off, under one name: those of some puts.
constexpr size_t kLeftoversMax = 4 * size_t{kStagedMax};

/// \brief An unnamed object that waits for the others.
struct StagedEntry {
  uint32_t index = 0;  ///< Below `Staging::of`.
  int64_t num_rows = 0;
  ObjectId object;
  bool operator==(const StagedEntry&) const = default;
};

/// \brief What is to happen to what the list names. Stored before anything is done about
/// it; whoever finds it goes on from there (docs/tables.md).
enum class StagingState : uint8_t {
  kGathering,  ///< Others are missing, or nobody has decided yet.
  kComplete,   ///< Parts only: the manifest becomes the table. Nobody can abort it.
  kOver,       ///< It is all to go.
};

/// \brief The whole table, prepared: an object that is visible once it is published.
struct StagedManifest {
  ObjectId object;
  uint32_t base_version = 0;  ///< It replaces this one; 0: it is a new table.
  bool operator==(const StagedManifest&) const = default;
};

/// \brief The list. It and the objects that it names are all that there is of a put whose
/// parts are not all there: who removes the objects, then the list, leaves nothing.
struct Staging {
  uint64_t id = 0;  ///< Drawn by whoever began it; never 0.
  uint32_t of = 0;  ///< Entries that make it complete: 1 to kStagedMax.
  bool append = false;
  int64_t deadline_unix_ns = 0;      ///< 0: none.
  std::vector<StagedEntry> entries;  ///< By index, each once.
  StagingState state = StagingState::kGathering;
  std::optional<StagedManifest> manifest = std::nullopt;   ///< Just if complete: kept.
  std::optional<StagedManifest> candidate = std::nullopt;  ///< The next one, maybe not.
  /// To be dropped by whoever can. What lies at nodes that are off waits here, from one
  /// put of that name to the next.
  std::vector<ObjectId> leftovers = {};

  const StagedEntry* Find(uint32_t index) const;
  /// \brief Of an index that is not there yet.
  void Add(const StagedEntry& entry);
  /// \brief Indices without an entry, in their order.
  std::vector<uint32_t> Missing() const;
  /// \brief Of a put that is over, all but its leftovers is gone: another may begin.
  bool IsOnlyLeftovers() const;
  bool operator==(const Staging&) const = default;
};

std::string EncodeStaging(const Staging& staging);
/// \brief Invalid if the bytes are not what EncodeStaging makes.
arrow::Result<Staging> DecodeStaging(std::string_view bytes);

using directory::IsReserved;
using directory::kReservedPrefix;
std::string PartsName(const std::string& table_name);
std::string BarrierName(const std::string& barrier_name);
/// \brief directory::ValidateName, and Invalid for a reserved name.
arrow::Status CheckTableName(const std::string& name);

/// \brief A list as it was found.
struct FoundStaging {
  Staging staging;
  ObjectId object;
  uint32_t version = 0;
};

/// \brief The list of that (reserved) name; nothing if there is none.
arrow::Result<std::optional<FoundStaging>> LoadStaging(
    const std::shared_ptr<Session>& session, const std::string& name);

/// \brief Put the next version of a list, or its first if `found` is nothing: as it is
/// then, with `found` among its leftovers (a node may be declared off meanwhile), and
/// without those that are gone. Nothing if somebody else changed it since.
arrow::Result<std::optional<FoundStaging>> StoreStaging(
    const std::shared_ptr<Session>& session, const std::string& name,
    const Staging& staging, const std::optional<FoundStaging>& found);

/// \brief Remove exactly this version of the list, and what it has left over. False if it
/// is gone or changed. What lies at nodes that are off, for this node or for the home of
/// the list, be it a version of the list, stays in a list of another number, which is
/// above it: it is not met again.
arrow::Result<bool> EraseStaging(const std::shared_ptr<Session>& session,
                                 const std::string& name, const FoundStaging& found);

/// How long what refuses every change may stay as it is. A put that is under way ends by
/// then, also where the catalog's leader changes meanwhile.
constexpr std::chrono::seconds kStuckAfter{15};

/// \brief Pauses between tries at what others change too: longer from one to the next.
class Backoff {
 public:
  void Pause();
  /// \brief Pause, since `what` (as in an error), found at `version`, 0 none, was not
  /// changed as it was to be. Reason node lost once it was found at the same version for
  /// kStuckAfter: who is to change it, or to give it up, does not get on.
  arrow::Status PauseAt(uint32_t version, const std::string& what);

 private:
  int64_t next_us_ = 50;
  std::optional<uint32_t> version_;
  std::chrono::nanoseconds stuck_at_{0};
};

/// Nanoseconds since 1970.
int64_t UnixTimeNs();

}  // namespace sheaf::client
