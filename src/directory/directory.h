// Slots and records: one-sided reads for everyone, transitions for the home
// (docs/protocol.md section 4).

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>

#include "format/checksum.h"
#include "format/layout.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::directory {

constexpr size_t kNameBytesMax = 255;

/// How names are hashed; all of a cluster the same way. Another one only in tests of
/// collisions.
using HashFn = uint64_t (*)(std::string_view name);

/// \brief OK if `name` is 1 to 255 bytes of UTF-8 without control characters; Invalid
/// says what is wrong.
arrow::Status ValidateName(const std::string& name);

/// Names that begin so are Sheaf's own: no user's call takes them.
constexpr std::string_view kReservedPrefix = "~sheaf/";
inline bool IsReserved(std::string_view name) {
  return name.starts_with(kReservedPrefix);
}

/// \brief The home's verified copy of what it sealed (L11), as any node reads it back:
/// checked.
struct Record {
  std::string name;  ///< Empty: unnamed.
  uint64_t creator_session = 0;
  uint64_t creator_request = 0;  ///< Of that session: names the put.
  /// Of that session; none in records of the time before there were other users.
  std::optional<uint32_t> creator_user;
  int64_t created_unix_ns = 0;
  int64_t num_rows = 0;
  int64_t num_columns = 0;
  int64_t num_chunks = 0;
  int64_t data_bytes = 0;
  bool has_checksums = false;     ///< Of the data, in the descriptor.
  uint64_t home_incarnation = 0;  ///< In which it sealed this; 0: not known.
  std::vector<GlobalRange>
      own_ranges;  ///< In the home segment, granule-aligned, sorted, disjoint.
  std::vector<ObjectId>
      references;  ///< Objects of other homes it refers to, flattened (O4).
  /// By reference: bytes of its segment outside of this are not in it. Empty: not known.
  std::vector<GlobalRange> reference_extents;
  std::shared_ptr<arrow::Buffer> descriptor;  ///< For codec::Descriptor::Make.
};

/// \brief Bytes of `record` as stored in the record area (FlatBuffers,
/// format/record.fbs).
arrow::Result<std::shared_ptr<arrow::Buffer>> EncodeRecord(const Record& record);
/// \brief Verify and read back. Invalid says what is wrong. Reads nothing outside
/// `bytes`.
arrow::Result<Record> DecodeRecord(std::shared_ptr<arrow::Buffer> bytes);

/// \brief LOAD! of a slot: dropped and read again while Busy or torn (bounded; then
/// IOError "unavailable"). Invalid with reason stale generation if it never was in use:
/// only slots below the home's mark (DIR-2) are touched. Any process.
arrow::Result<format::Slot> ReadSlot(const region::Segment& segment, uint32_t slot);

/// \brief Copy the record that `slot` (as just read) names out of shared memory, and
/// verify it against the slot's checksum. Call while leased, or re-check the slot
/// afterwards.
arrow::Result<Record> ReadRecord(const region::Segment& segment,
                                 const format::Slot& slot);

/// \brief True if a reader may open the object: Bound, or Sealed and unnamed.
bool IsReadable(const format::Slot& slot);

/// \brief Number of slots of `segment` that may be in use (its high-water mark; all of
/// them if that cannot be read).
uint32_t SlotsUsed(const region::Segment& segment);

/// \brief The home's slots and records. One per daemon, single-threaded. Every transition
/// flushes and fences; those that docs/protocol.md section 4 marks "settle" settle before
/// they return. Requests that name another generation, or an object in another state,
/// fail with reason stale generation and change nothing; repeated ones succeed and change
/// nothing. Invariant DIR-1: a slot in M is in use only while its record is in M.
/// Invariant DIR-2: slots in use lie below `IncarnationLine::slots_used` in M.
class HomeDirectory {
 public:
  /// \brief Adopt the slots that are in `own_segment`, whose memory must outlive this
  /// object. Line updates that a crash cut short are undone or completed; everything is
  /// settled again. The daemon keeps `slots_used` of its incarnation line
  /// (region::UpdateIncarnation does).
  explicit HomeDirectory(region::Segment* own_segment, HashFn hash = format::HashName);
  ~HomeDirectory();

  /// \brief What could not be adopted, one sentence each; empty as a rule. Which data
  /// such objects occupied is not known: no memory of this segment should be granted
  /// then.
  std::vector<std::string> problems() const;

  /// \brief Repair: slots that could not be adopted are never used again, settled. Nobody
  /// may lease what they were.
  void DisuseDamaged();

  /// \brief Free -> Sealed: store and settle the record, then the slot (settled). Returns
  /// the id. Invalid if the record breaks a limit, lists ranges outside of this segment,
  /// or has a name without kSlotNamed or the other way round. CapacityError if slots or
  /// record area are used up, OutOfMemory if their memory is not there; nothing changes
  /// then.
  arrow::Result<ObjectId> Seal(const Record& record, uint8_t flags);
  /// \brief Rewrite version and epoch of a named Sealed slot, settled (C4).
  arrow::Status SetVersion(const ObjectId& id, uint32_t epoch, uint32_t sequence);
  arrow::Status Bind(
      const ObjectId& id);  ///< Named: Sealed -> Bound, settled (C6 flushes).
  arrow::Status SetKept(const ObjectId& id,
                        bool kept);  ///< Unnamed or prepared; settled.
  /// \brief C8: a Bound object is about to be removed, or stays after all; settled.
  arrow::Status SetLeaving(const ObjectId& id, bool leaving);
  /// \brief Sealed/Bound -> Retired, settled; by `remover`, for whoever asks again.
  arrow::Status Retire(const ObjectId& id, uint32_t remover = 0);
  /// \brief Retired -> Free g, settled; then record space is free again. Returns the
  /// record, whose ranges the caller releases after this.
  arrow::Result<Record> Free(const ObjectId& id);

  /// \brief The home's own copy; KeyError with reason stale generation if `id` is not in
  /// use.
  arrow::Result<format::Slot> GetSlot(const ObjectId& id) const;
  arrow::Result<std::shared_ptr<const Record>> GetRecord(const ObjectId& id) const;
  std::vector<ObjectId> ObjectsIn(format::LineState state) const;
  /// \brief What was removed, and by which request: of all slots that tell it, Retired or
  /// Free.
  std::vector<std::pair<ObjectId, uint32_t>> Removers() const;
  std::vector<ObjectId> UnnamedOf(
      uint64_t creator_session) const;  ///< Sealed and not kept.
  uint32_t num_objects() const;         ///< Sealed, Bound or Retired.

  /// \brief Space in the record area for `size_bytes`, really allocated; also used for
  /// the index.
  arrow::Result<uint64_t> AllocateRecordSpace(uint64_t size_bytes);
  void FreeRecordSpace(uint64_t offset, uint64_t size_bytes);

  region::Segment* own_segment() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf::directory
