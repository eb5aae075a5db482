// One control line at a time: LOAD! with its checksum, and updates that a reader on any
// node tells from torn ones (docs/protocol.md L2).

#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/checksum.h"
#include "format/layout.h"
#include "platform/shared_word.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::region {

/// Word 0 of a line that is being changed, where word 0 is an incarnation or epoch.
constexpr uint64_t kBusyLine = ~uint64_t{0};

/// A line with a bad checksum that is not Busy is garbage after so many reads: an update
/// stores Busy first, so that only a reader that was in the middle of the line sees it
/// torn.
constexpr int kTornReadsMax = 64;
/// A line that stays Busy for so many reads (5 to 100 ms) has lost its writer. Long
/// enough for a writer that was preempted in the middle of an update.
constexpr int kBusyReadsMax = 1 << 18;

/// \brief LOAD! of a line of `segment`'s control part.
inline format::LineWords LoadControlLine(const Segment& segment, const uint64_t* line) {
  segment.control().cache()->Invalidate(line, format::kLineBytes);
  return platform::LoadLine(line);
}

/// \brief LOAD! of a line that carries its checksum, repeated while it is Busy or torn.
/// Nothing if it stays so.
template <format::LineStruct T>
std::optional<T> ReadControlLine(const Segment& segment, const uint64_t* line) {
  int torn_reads = 0;
  for (int reads = 0; reads < kBusyReadsMax && torn_reads < kTornReadsMax; ++reads) {
    const format::LineWords words = LoadControlLine(segment, line);
    if (auto value = format::OpenLine<T>(words)) return value;
    if (words[0] != format::kBusyWord && words[0] != kBusyLine) ++torn_reads;
  }
  return std::nullopt;
}

enum class Arrival : uint8_t {
  kFlushed,  ///< On its way: FLUSH; FENCE.
  kSettled,  ///< In memory when the call returns: SETTLE besides.
};

/// \brief Update a line that only this process writes: Busy, fields, checksum, FLUSH,
/// FENCE (which orders the store before later loads, also on coherent memory), SETTLE if
/// asked.
template <format::LineStruct T>
void StoreControlLine(Segment* segment, uint64_t* line, const T& value,
                      uint64_t busy_word, Arrival arrival) {
  platform::CacheControl* cache = segment->control().cache();
  platform::StoreLine(line, format::SealLine(value), busy_word);
  cache->Flush(line, format::kLineBytes);
  cache->Fence();
  if (arrival == Arrival::kSettled) cache->Settle(line, format::kLineBytes);
}

/// \brief Store one control word that only this process writes, settled.
inline void StoreControlWord(Segment* segment, uint64_t* word, uint64_t value) {
  platform::CacheControl* cache = segment->control().cache();
  platform::SharedWord(word).StoreFenced(value);
  cache->Flush(word, sizeof(uint64_t));
  cache->Fence();
  cache->Settle(word, sizeof(uint64_t));
}

/// \brief True if the marks of `line` are within the limits of the segment's header.
inline bool IsPlausible(const Segment& segment, const format::IncarnationLine& line) {
  return line.slots_used <= segment.header().slots_max &&
         line.lease_pages_used <= segment.header().lease_pages_max;
}

/// \brief The incarnation line of `segment`'s home as it is now; nothing while it is
/// being written, or if it is damaged.
inline std::optional<format::IncarnationLine> PeekIncarnation(const Segment& segment) {
  const auto line = format::OpenLine<format::IncarnationLine>(
      LoadControlLine(segment, segment.NodeLine(format::NodeLine::kIncarnation)));
  return line && IsPlausible(segment, *line) ? line : std::nullopt;
}

/// \brief The incarnation line of `segment`'s home; its marks are within the header's
/// limits. IOError if it cannot be read.
inline arrow::Result<format::IncarnationLine> ReadIncarnation(const Segment& segment) {
  const auto line = ReadControlLine<format::IncarnationLine>(
      segment, segment.NodeLine(format::NodeLine::kIncarnation));
  if (!line) {
    return arrow::Status::IOError("incarnation line of segment ", segment.id().value,
                                  " stays busy or damaged");
  }
  if (!IsPlausible(segment, *line)) {
    return arrow::Status::IOError("segment ", segment.id().value, " claims ",
                                  line->slots_used, " slots and ", line->lease_pages_used,
                                  " lease pages, more than it was formatted for");
  }
  return *line;
}

/// \brief How far slots and lease pages of a segment are in use.
struct HighWaterMarks {
  uint32_t slots = 0;
  uint32_t lease_pages = 0;
};

/// \brief The marks of `segment`, also from a line that is being written, or whose home
/// stopped or died in the middle of it: each is the old or the new one then, and both are
/// right, since a mark is settled before anything above it is in use. IOError if the line
/// is damaged.
inline arrow::Result<HighWaterMarks> ReadMarks(const Segment& segment) {
  const uint64_t* address = segment.NodeLine(format::NodeLine::kIncarnation);
  for (int reads = 0; reads < kTornReadsMax; ++reads) {
    const format::LineWords words = LoadControlLine(segment, address);
    const auto line = std::bit_cast<format::IncarnationLine>(words);
    const bool is_whole = format::OpenLine<format::IncarnationLine>(words).has_value();
    if ((is_whole || line.incarnation == kBusyLine) && IsPlausible(segment, line)) {
      return HighWaterMarks{static_cast<uint32_t>(line.slots_used),
                            static_cast<uint32_t>(line.lease_pages_used)};
    }
  }
  return arrow::Status::IOError("incarnation line of segment ", segment.id().value,
                                " is damaged");
}

/// Before a damaged line says Busy, from when on its marks are believed.
inline void RaiseMarks(Segment* own_segment, const format::IncarnationLine& value) {
  const auto words = std::bit_cast<format::LineWords>(value);
  uint64_t* line = own_segment->NodeLine(format::NodeLine::kIncarnation);
  // Whatever else is there, the line stays neither whole nor Busy meanwhile.
  platform::SharedWord(line).StoreRelease(0);
  constexpr size_t kSlotsWord = offsetof(format::IncarnationLine, slots_used) / 8;
  constexpr size_t kPagesWord = offsetof(format::IncarnationLine, lease_pages_used) / 8;
  for (const size_t word : {kSlotsWord, kPagesWord}) {
    StoreControlWord(own_segment, line + word, words[word]);
  }
}

/// \brief Change fields of the own segment's incarnation line, settled. Every change of
/// that line goes through here, in one thread: directory, lease pages and daemon each own
/// other fields. Of a line that a crash cut short each word but the first, the
/// incarnation, is the old or the new one, and both are right; a damaged line starts anew
/// with its marks at their limits, and up. The incarnation is that of the own admit line
/// then (F9). Marks beyond their limits become the limits.
template <typename ChangeFn>
void UpdateIncarnation(Segment* own_segment, ChangeFn change) {
  uint64_t* line = own_segment->NodeLine(format::NodeLine::kIncarnation);
  const format::LineWords words = platform::LoadLine(line);
  const auto stored = format::OpenLine<format::IncarnationLine>(words);
  const format::SegmentHeader& header = own_segment->header();
  auto value = std::bit_cast<format::IncarnationLine>(words);
  const bool is_plausible = IsPlausible(*own_segment, value);
  if (!stored) {
    if (words[0] != kBusyLine || !is_plausible) {
      value = {};
      value.state = static_cast<uint32_t>(format::NodeState::kUp);
      value.slots_used = header.slots_max;
      value.lease_pages_used = header.lease_pages_max;
      RaiseMarks(own_segment, value);
    }
    const uint64_t* admit = own_segment->ControlLine(
        own_segment->layout().admit + own_segment->id().value * format::kLineBytes);
    value.incarnation = platform::SharedWord(admit).LoadAcquire();
  } else if (!is_plausible) {
    value.slots_used = std::min<uint64_t>(value.slots_used, header.slots_max);
    value.lease_pages_used =
        std::min<uint64_t>(value.lease_pages_used, header.lease_pages_max);
  }
  change(&value);
  StoreControlLine(own_segment, line, value, kBusyLine, Arrival::kSettled);
}

/// The segments of a region; index = segment id, nullptr where none is attached.
using SegmentList = std::vector<Segment*>;

inline SegmentList SegmentsOf(const Region& region) {
  SegmentList segments;
  for (uint32_t k = 0; k < region.num_segments(); ++k) {
    segments.push_back(region.segment(SegmentId{k}));
  }
  return segments;
}

}  // namespace sheaf::region
