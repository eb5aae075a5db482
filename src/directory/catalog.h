// Name -> object: the leader's index (a cache over the slots) and one-sided look-up
// (docs/protocol.md C1-C9).

#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/directory.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::directory {

struct Version {
  uint32_t epoch = 0;
  uint32_t sequence = 0;  ///< What users see as `version`.
  auto operator<=>(const Version&) const = default;
};

/// Nobody claims a higher epoch: one word of garbage must not use up those of all.
constexpr uint32_t kCatalogEpochMax = uint32_t{1} << 31;

/// \brief What a name leads to.
struct Found {
  ObjectId object;
  Version version;
};

/// \brief Find `name` one-sided: index of the highest epoch, then the slot (C7). Nothing
/// if absent. Any process; reads only. IOError with reason node lost while there is no
/// complete index (no node has claimed the catalog, or one is about to), or if the name
/// leads to a segment that is not attached: try again later.
arrow::Result<std::optional<Found>> Lookup(const region::Region& region,
                                           const std::string& name,
                                           HashFn hash = format::HashName);
arrow::Result<std::optional<Found>> Lookup(const region::SegmentList& segments,
                                           const std::string& name,
                                           HashFn hash = format::HashName);

/// \brief Every bound name with its object, by scanning slots one-sided (truth, not the
/// index). Sorted by name, of several versions the highest. Left out is what goes
/// meanwhile, cannot be read, or has a version that nobody can have granted.
struct Listed {
  Found found;
  Record record;
};
arrow::Result<std::vector<Listed>> List(const region::Region& region);
arrow::Result<std::vector<Listed>> List(const region::SegmentList& segments);

/// \brief Who claimed the catalog last.
struct LeaderView {
  uint64_t epoch = 0;  ///< 0: nobody has.
  NodeId node;         ///< In whose line it is.
  bool operator==(const LeaderView&) const = default;
};

/// \brief What the lines C say together.
struct CatalogLines {
  LeaderView leader;
  /// The highest of a removed name that a node noted: no name that is not there begins at
  /// it, or below (C9).
  uint32_t removed_sequence = 0;
};

/// \brief LOAD! of the lines of all `segments`. One that is not there, null, has none.
CatalogLines ReadCatalogLines(const region::SegmentList& segments);

/// \brief The highest catalog epoch that a node of `segments` claimed (C1, C5).
inline LeaderView FindLeader(const region::SegmentList& segments) {
  return ReadCatalogLines(segments).leader;
}

/// \brief Settled in the line of `own`, unless it says as much: a name of that sequence
/// is about to be removed, or another node's line says so (C9).
void NoteRemovedSequence(region::Segment* own, uint32_t sequence);

/// \brief True if the index of `view` is complete: there is one that look-ups can use.
bool HasIndex(const region::SegmentList& segments, const LeaderView& view);

/// \brief The epoch that `claimant` may claim now: its smallest own number (its id modulo
/// the nodes of the region) above every epoch that a node of `segments` claimed, and
/// above `granted` (C1). CapacityError if there is none left.
arrow::Result<uint32_t> NextEpoch(const region::SegmentList& segments, NodeId claimant,
                                  uint32_t granted = 0);

/// \brief The index that a former life of `home` left, if any, is inactive, settled: who
/// does not lead denies no names, and another node may see that it does not lead (C1).
void DeactivateIndex(HomeDirectory* home);

/// \brief The leader's side. One per leader daemon, single-threaded. The index lies in
/// the leader's own record area. Invariant CATALOG-1: an entry leads to the bound object
/// of its name with the highest version, or while there is none to one that is about to
/// be bound. Entries are hints: the slot decides. Invariant CATALOG-2: versions of a name
/// rise, also over its removal and over changes of leader.
class CatalogLeader {
 public:
  /// \brief Claim `epoch` and build the index by scanning the slots of all segments (C1,
  /// C2); call Region::AttachMissing before. Invalid if `epoch` is not above every epoch
  /// claimed so far; IOError if some slot is damaged (it might hold any name), with
  /// reason node lost if another node claimed meanwhile. A slot that its home has not
  /// finished holds its own name until that home has.
  static arrow::Result<std::unique_ptr<CatalogLeader>> Claim(
      const region::Region* region, HomeDirectory* home, uint32_t epoch,
      HashFn hash = format::HashName);
  /// The segments there are now, for each use anew.
  using SegmentsFn = std::function<region::SegmentList()>;
  static arrow::Result<std::unique_ptr<CatalogLeader>> Claim(
      SegmentsFn segments, HomeDirectory* home, uint32_t epoch,
      HashFn hash = format::HashName);
  ~CatalogLeader();

  /// \brief The first step of a claim: the epoch is in memory, no slot is scanned yet.
  /// Errors as Claim. It leads once `GoOn` says so; nothing else may be called before.
  static arrow::Result<std::unique_ptr<CatalogLeader>> Begin(
      SegmentsFn segments, HomeDirectory* home, uint32_t epoch,
      HashFn hash = format::HashName);
  /// \brief Scan `slots` more slots, and after the last one make the index (C2): true
  /// then. Errors as Claim; the claim is over then, for this epoch.
  arrow::Result<bool> GoOn(uint32_t slots);
  /// \brief The highest epoch of a version that the claim found. One that is not below
  /// its own, as where the memory of a leader was lost, ends it: reason node lost; claim
  /// above.
  uint32_t granted_epoch() const;
  /// \brief `progress` is called now and then in calls that take long.
  void OnProgress(const std::function<void()>& progress);

  /// \brief A higher epoch was claimed: the own index header is inactive, settled.
  /// Nothing may be called afterwards.
  void StepDown();
  size_t num_names() const;

  /// \brief Bound objects that Claim found besides one of a higher version of the same
  /// name: to be retired by their homes.
  std::vector<ObjectId> losers() const;
  /// \brief What Claim had to leave out because its record cannot be read.
  std::vector<std::string> problems() const;

  struct BindRequest {
    std::string name;
    ObjectId object;
    bool replace = false;
    /// Replace only this version (compare and swap).
    std::optional<uint32_t> expected_sequence = std::nullopt;
  };
  /// \brief C3, C9: reserve the name, or the next version of it, for `request.object`,
  /// which is sealed. Idempotent. AlreadyExists if the name is bound to a live object and
  /// `replace` is not set; Invalid with reason version mismatch if `expected_sequence` is
  /// not current, or another replace is under way that might make it so; Invalid with
  /// reason stale generation if the object is not there (any more). IOError if a slot
  /// that decides cannot be read.
  arrow::Result<Version> Bind(const BindRequest& request);

  /// \brief The object is Bound in its slot: switch the index entry to it if its version
  /// is the highest (settled). Returns the objects that are superseded and must now be
  /// retired by their homes (the previous one; or `object` itself if a higher version was
  /// committed before), also those of earlier commits that are not yet. Idempotent.
  arrow::Result<std::vector<ObjectId>> Commit(const std::string& name,
                                              const ObjectId& object, Version version);

  /// \brief Another version of a name that is to be removed: granted, and not known to be
  /// bound (kConditional: maybe to replace just that one); or superseded, and not known
  /// to be Retired: it would come back.
  enum class UndecidedKind : uint8_t { kPut = 0, kConditional = 1, kBefore = 2 };
  struct Undecided {
    ObjectId object;
    UndecidedKind kind = UndecidedKind::kPut;
  };
  /// \brief C8: the home of `object`, which its slot says is leaving, will remove it,
  /// its version of `sequence`. From now on nobody is granted to replace just this
  /// version, and no later leader grants the name this sequence, or one below, again
  /// (settled). Returns who was granted the name before, and what it supersedes: once
  /// each of the former is bound or gone, and the latter are gone, `object` may be
  /// Retired. Reason stale generation if it was replaced. Idempotent.
  arrow::Result<std::vector<Undecided>> PrepareRemoval(const std::string& name,
                                                       const ObjectId& object,
                                                       uint32_t sequence);

  /// \brief The object's name is free again (removed, or its publish was abandoned).
  void Unbind(const std::string& name, const ObjectId& object);

  uint32_t epoch() const;

 private:
  class Impl;
  explicit CatalogLeader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf::directory
