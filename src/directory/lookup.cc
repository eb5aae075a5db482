// One-sided look-up of a name (docs/protocol.md C7).

#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/index_writer.h"
#include "directory/slot_reader.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"

namespace sheaf::directory {
namespace {

/// Whole look-ups that found the catalog changing under them. Each change is another
/// table, entry or claim; so many in the time of so few loads means that something is
/// wrong.
constexpr int kLookupAttempts = 100;
/// Reads of one entry while what it leads to keeps moving.
constexpr int kEntryReads = 100;

arrow::Status Unavailable(const std::string& what) {
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost, what);
}

/// The index that may say "absent": of the node with the highest epoch.
struct IndexView {
  uint64_t epoch = 0;
  const region::Segment* leader = nullptr;
  format::LineWords header_words{};
  bool operator==(const IndexView&) const = default;
};

IndexView ReadHeader(const region::SegmentList& segments, const LeaderView& of) {
  IndexView view{of.epoch, segments[of.node.value]};
  view.header_words = region::LoadControlLine(
      *view.leader, view.leader->NodeLine(format::NodeLine::kIndexHeader));
  return view;
}

arrow::Result<IndexView> ReadIndexView(const region::SegmentList& segments) {
  const LeaderView of = FindLeader(segments);
  if (of.epoch == 0) return Unavailable("no node has claimed the catalog yet");
  return ReadHeader(segments, of);
}

/// The header, if it is whole, of the view's epoch, and leads into the record area.
std::optional<format::IndexHeaderLine> OpenHeader(const IndexView& view) {
  const auto header = format::OpenLine<format::IndexHeaderLine>(view.header_words);
  const uint64_t area = view.leader->header().records_size_bytes;
  if (!header || header->epoch != view.epoch ||
      !std::has_single_bit(header->capacity_entries) ||
      header->capacity_entries > area / format::kLineBytes ||
      !IsAligned(header->table_offset, format::kGranuleBytes) ||
      !FitsWithin(header->table_offset, header->capacity_entries * format::kLineBytes,
                  area)) {
    return std::nullopt;
  }
  return header;
}

enum class Answer : uint8_t {
  kFound,
  kOtherName,  ///< A bound object of another name with an equal hash.
  kNotBound,   ///< The slot holds something else by now, or is not yet Bound.
};

class Lookups {
 public:
  Lookups(const region::SegmentList& segments, const std::string& name, HashFn hash)
      : segments_(segments), name_(name), hash_(hash(name)) {}

  arrow::Result<std::optional<Found>> Run() {
    for (int i = 0; i < kLookupAttempts; ++i) {
      ARROW_ASSIGN_OR_RAISE(const IndexView view, ReadIndexView(segments_));
      const auto header = OpenHeader(view);
      if (!header) continue;  // A claim is under way, or the line is being changed.
      ARROW_ASSIGN_OR_RAISE(const bool is_whole, Probe(view, *header));
      if (found_) return found_;
      // Absent only if that index was the one all the time (another table, another
      // claim).
      ARROW_ASSIGN_OR_RAISE(const IndexView again, ReadIndexView(segments_));
      if (is_whole && again == view) return std::nullopt;
    }
    return Unavailable("the catalog has no complete index at the moment");
  }

 private:
  /// Follows the run of the name's hash. True if it was read to its end; `found_` if it
  /// is there.
  arrow::Result<bool> Probe(const IndexView& view,
                            const format::IndexHeaderLine& header) {
    const uint64_t table = view.leader->layout().records + header.table_offset;
    const uint64_t mask = header.capacity_entries - 1;
    for (uint64_t i = 0; i < std::min(kProbeMax, header.capacity_entries); ++i) {
      const uint64_t* line =
          view.leader->ControlLine(table + ((hash_ + i) & mask) * format::kLineBytes);
      ARROW_ASSIGN_OR_RAISE(const auto state, FollowEntry(view, line));
      if (!state) return false;
      if (found_ || *state == EntryState::kNeverUsed) return true;
    }
    return true;
  }

  /// Reads the entry, and again for as long as it changes while what it leads to is
  /// looked at. Nothing if it is not an entry of this index.
  arrow::Result<std::optional<EntryState>> FollowEntry(const IndexView& view,
                                                       const uint64_t* line) {
    std::optional<format::IndexEntry> entry = ReadEntry(view, line);
    for (int reads = 0; entry && reads < kEntryReads; ++reads) {
      const auto state = static_cast<EntryState>(entry->state);
      if (state != EntryState::kBound || entry->name_hash != hash_) return state;
      ARROW_ASSIGN_OR_RAISE(const Answer answer, FollowSlot(*entry));
      if (answer != Answer::kNotBound) return state;
      // A new version is in the entry before the old one is Retired.
      const auto again = ReadEntry(view, line);
      if (again && again->generation == entry->generation && again->slot == entry->slot &&
          again->home == entry->home && again->state == entry->state) {
        return state;
      }
      entry = again;
    }
    return std::nullopt;
  }

  static std::optional<format::IndexEntry> ReadEntry(const IndexView& view,
                                                     const uint64_t* line) {
    auto entry = region::ReadControlLine<format::IndexEntry>(*view.leader, line);
    if (entry && entry->epoch != view.epoch) entry.reset();  // The place was used again.
    return entry;
  }

  arrow::Result<Answer> FollowSlot(const format::IndexEntry& entry) {
    const region::Segment* home =
        entry.home < segments_.size() ? segments_[entry.home] : nullptr;
    if (home == nullptr) {
      return Unavailable("name leads to segment " + std::to_string(entry.home) +
                         ", which is not attached");
    }
    ARROW_ASSIGN_OR_RAISE(const format::Slot slot, ReadSlot(*home, entry.slot));
    if (StateOf(slot) != format::LineState::kBound ||
        slot.generation != entry.generation || slot.name_hash != hash_) {
      return Answer::kNotBound;
    }
    const auto record = ReadRecord(*home, slot);
    if (!record.ok()) {
      ARROW_ASSIGN_OR_RAISE(const format::Slot again, ReadSlot(*home, entry.slot));
      if (again.checksum != slot.checksum) return Answer::kNotBound;
      return record.status();
    }
    if (record->name != name_) return Answer::kOtherName;
    found_ = Found{{home->id(), entry.slot, slot.generation},
                   {slot.version_epoch, slot.version_sequence}};
    return Answer::kFound;
  }

  const region::SegmentList& segments_;
  const std::string& name_;
  const uint64_t hash_;
  std::optional<Found> found_;
};

}  // namespace

bool HasIndex(const region::SegmentList& segments, const LeaderView& view) {
  return view.epoch != 0 && OpenHeader(ReadHeader(segments, view)).has_value();
}

arrow::Result<std::optional<Found>> Lookup(const region::SegmentList& segments,
                                           const std::string& name, HashFn hash) {
  ARROW_RETURN_NOT_OK(ValidateName(name));
  return Lookups(segments, name, hash).Run();
}

arrow::Result<std::optional<Found>> Lookup(const region::Region& region,
                                           const std::string& name, HashFn hash) {
  return Lookup(region::SegmentsOf(region), name, hash);
}

}  // namespace sheaf::directory
