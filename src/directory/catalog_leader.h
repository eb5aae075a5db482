// Private state of the catalog's leader: what each name is bound to, and who is about to
// bind it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/index_writer.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "sheaf/types.h"

namespace sheaf::directory {

/// Of removed versions, at most: whatever the memory or a message of another node says,
/// each name has as many versions left.
constexpr uint32_t kRemovedSequenceMax = uint32_t{1} << 31;

class CatalogLeader::Impl {
 public:
  Impl(SegmentsFn segments, HomeDirectory* home, uint32_t epoch, HashFn hash)
      : segments_(std::move(segments)),
        home_(home),
        epoch_(epoch),
        hash_(hash),
        index_(home, epoch) {}

  // claim.cc
  arrow::Status BeginClaim();
  arrow::Result<bool> GoOnClaiming(uint32_t slots);
  void OnProgress(const std::function<void()>& progress) {
    progress_ = progress;
    index_.OnProgress(progress);
  }
  void StepDown() { index_.Deactivate(); }
  size_t num_names() const { return names_.size(); }

  arrow::Result<Version> Bind(const BindRequest& request);
  arrow::Result<std::vector<ObjectId>> Commit(const std::string& name,
                                              const ObjectId& object, Version version);
  void Unbind(const std::string& name, const ObjectId& object);
  arrow::Result<std::vector<Undecided>> PrepareRemoval(const std::string& name,
                                                       const ObjectId& object,
                                                       uint32_t sequence);

  uint32_t epoch() const { return epoch_; }
  uint32_t granted_epoch() const { return granted_epoch_; }
  const std::vector<ObjectId>& losers() const { return losers_; }
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  /// One object that has, had or wants a name.
  struct Binding {
    ObjectId object;
    Version version;
    bool is_bound = false;  ///< Known to have been Bound; readers may have it.
    /// May replace just the version that it found: granted so, or by another leader.
    bool is_conditional = false;
    bool is_leaving = false;  ///< Its home is about to remove it.
  };
  /// Invariant: if any binding is bound, `target` is the one of those with the highest
  /// version.
  struct Name {
    std::optional<Binding> target;  ///< What the index entry leads to.
    std::vector<Binding> pending;   ///< Granted, not yet bound: replaces under way.
    std::vector<ObjectId>
        superseded;  ///< To be retired by their homes; kept until they are.
    uint32_t last_sequence = 0;
    std::optional<uint64_t> position;  ///< Of its entry in the current table.

    Binding* Find(const ObjectId& object);
    bool IsIdle() const { return !target && pending.empty() && superseded.empty(); }
  };
  using Names = std::unordered_map<std::string, Name>;
  enum class SlotView : uint8_t { kGone, kVoid, kSealed, kBound, kLeaving };
  /// The next slot of a scan.
  struct SlotPlace {
    uint32_t segment = 0;
    uint32_t slot = 0;
  };

  arrow::Result<SlotView> LoadSlot(const ObjectId& object) const;
  /// \brief LOAD! the slots of all bindings of a name and restore the invariant: what is
  /// gone is dropped, what is bound at a lower version is superseded. Nothing changes on
  /// an error.
  arrow::Status Refresh(Name* name) const;
  arrow::Status CheckReplace(const BindRequest& request, const Name& name) const;
  arrow::Result<Version> Grant(const BindRequest& request, Name* name);
  std::optional<Version> GrantedBefore(const ObjectId& object, Name* name) const;
  std::vector<ObjectId> DropRetired(Name* name) const;

  format::IndexEntry EntryOf(const std::string& name, const Name& state) const;
  arrow::Status StoreEntry(const std::string& name, Name* state, region::Arrival arrival);
  arrow::Status Rebuild();
  void ForgetIdleNames();

  arrow::Status CheckEpoch() const;
  arrow::Status FinishClaim();
  arrow::Status ScanSegment(const region::Segment& segment, uint32_t begin, uint32_t end);
  arrow::Status AdoptUnreadable(const region::Segment& segment, uint32_t index,
                                const arrow::Status& status);
  arrow::Status AdoptObject(const region::Segment& segment, uint32_t index,
                            format::Slot slot);
  void AddProblem(const ObjectId& object, const std::string& what);
  void ChooseTarget(Name* name);

  SegmentsFn segments_;
  HomeDirectory* home_;
  uint32_t epoch_;
  HashFn hash_;
  IndexWriter index_;
  Names names_;
  bool has_many_idle_ = false;
  /// Highest sequence of names that were forgotten, or removed before this claim.
  uint32_t sequence_floor_ = 0;
  std::function<void()> progress_ = [] {};
  SlotPlace scanned_;           ///< How far the claim has come.
  uint32_t granted_epoch_ = 0;  ///< The highest of a version that it found.
  std::vector<ObjectId> losers_;
  std::vector<std::string> problems_;
};

}  // namespace sheaf::directory
