#include "directory/index_writer.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/fault_point.h"
#include "directory/directory.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "region/region.h"

namespace sheaf::directory {
namespace {

constexpr uint64_t kCapacityMin = 64;
/// Some tens of milliseconds' work.
constexpr uint64_t kLinesBetweenProgress = uint64_t{1} << 18;

}  // namespace

IndexWriter::IndexWriter(HomeDirectory* home, uint32_t epoch)
    : home_(home), epoch_(epoch) {
  const region::Segment& segment = *home->own_segment();
  const auto header = region::ReadControlLine<format::IndexHeaderLine>(
      segment, segment.NodeLine(format::NodeLine::kIndexHeader));
  if (header && header->epoch != 0) {
    is_active_ = true;
    current_.offset = header->table_offset;
    current_.capacity_entries = header->capacity_entries;
  }
}

/// The table that the header line leads to stays until the next claim.
IndexWriter::~IndexWriter() {
  Free(&next_);
  Free(&previous_);
  if (!is_active_) Free(&current_);
}

void IndexWriter::Deactivate() {
  region::Segment* segment = home_->own_segment();
  region::StoreControlLine(segment, segment->NodeLine(format::NodeLine::kIndexHeader),
                           format::IndexHeaderLine{}, region::kBusyLine,
                           region::Arrival::kSettled);
  is_active_ = false;
}

uint64_t* IndexWriter::LineAt(const Table& table, uint64_t position) const {
  SHEAF_CHECK(position < table.capacity_entries);
  const region::Segment& segment = *home_->own_segment();
  return segment.ControlLine(segment.layout().records + table.offset +
                             position * format::kLineBytes);
}

void IndexWriter::Free(Table* table) {
  if (table->capacity_entries != 0) {
    home_->FreeRecordSpace(table->offset, table->size_bytes());
  }
  *table = {};
}

arrow::Status IndexWriter::Allocate(uint64_t capacity) {
  ARROW_ASSIGN_OR_RAISE(next_.offset,
                        home_->AllocateRecordSpace(capacity * format::kLineBytes));
  next_.capacity_entries = capacity;
  return arrow::Status::OK();
}

arrow::Status IndexWriter::Begin(uint64_t names) {
  SHEAF_CHECK(next_.capacity_entries == 0);
  const uint64_t wanted = std::bit_ceil(std::max(4 * names, kCapacityMin));
  arrow::Status status = Allocate(wanted);
  if (!status.ok() && !is_active_) {
    // A claim must not fail for want of space. No header line leads to the last life's
    // table, whose place is enough for all names; who still reads it sees another epoch.
    Free(&current_);
    for (uint64_t capacity = wanted; !status.ok() && capacity > names; capacity /= 2) {
      status = Allocate(capacity);
    }
  }
  ARROW_RETURN_NOT_OK(status);
  const uint64_t capacity = next_.capacity_entries;
  next_.is_used.resize(capacity);
  // Each line says of which epoch it is empty: what lay here before never looks like that
  // (L6).
  format::IndexEntry empty{};
  empty.epoch = epoch_;
  const format::LineWords words = format::SealLine(empty);
  for (uint64_t i = 0; i < capacity; ++i) {
    platform::StoreLine(LineAt(next_, i), words, region::kBusyLine);
    if (i % kLinesBetweenProgress == kLinesBetweenProgress - 1) progress_();
  }
  return arrow::Status::OK();
}

arrow::Result<uint64_t> IndexWriter::Take(Table* table, uint64_t hash) {
  const uint64_t mask = table->capacity_entries - 1;
  for (uint64_t i = 0; i < std::min(kProbeMax, table->capacity_entries); ++i) {
    const uint64_t position = (hash + i) & mask;
    if (table->is_used[position]) continue;
    table->is_used[position] = true;
    ++table->num_used;
    return position;
  }
  return arrow::Status::CapacityError("more than ", kProbeMax,
                                      " names in one run of the catalog's index");
}

arrow::Result<uint64_t> IndexWriter::Place(const format::IndexEntry& entry) {
  ARROW_ASSIGN_OR_RAISE(const uint64_t position, Take(&next_, entry.name_hash));
  platform::StoreLine(LineAt(next_, position), format::SealLine(entry),
                      region::kBusyLine);
  return position;
}

void IndexWriter::Abandon() { Free(&next_); }

void IndexWriter::Publish() {
  SHEAF_CHECK(next_.capacity_entries != 0);
  region::Segment* segment = home_->own_segment();
  for (uint64_t i = 0; i < next_.capacity_entries; i += kLinesBetweenProgress) {
    const uint64_t lines = std::min(kLinesBetweenProgress, next_.capacity_entries - i);
    segment->control().cache()->Settle(LineAt(next_, i), lines * format::kLineBytes);
    progress_();
  }
  format::IndexHeaderLine header{};
  header.epoch = epoch_;
  header.table_offset = next_.offset;
  header.capacity_entries = next_.capacity_entries;
  header.build = ++build_;
  PassFaultPoint("daemon.index.before-header");
  region::StoreControlLine(segment, segment->NodeLine(format::NodeLine::kIndexHeader),
                           header, region::kBusyLine, region::Arrival::kSettled);
  PassFaultPoint("daemon.index.after-header");
  is_active_ = true;
  Free(&previous_);
  previous_ = std::exchange(current_, std::exchange(next_, {}));
}

bool IndexWriter::is_full() const {
  return 2 * (current_.num_used + 1) > current_.capacity_entries;
}

arrow::Result<uint64_t> IndexWriter::Add(const format::IndexEntry& entry,
                                         region::Arrival arrival) {
  ARROW_ASSIGN_OR_RAISE(const uint64_t position, Take(&current_, entry.name_hash));
  Update(position, entry, arrival);
  return position;
}

void IndexWriter::Update(uint64_t position, const format::IndexEntry& entry,
                         region::Arrival arrival) {
  PassFaultPoint("daemon.catalog.before-entry");
  region::StoreControlLine(home_->own_segment(), LineAt(current_, position), entry,
                           region::kBusyLine, arrival);
  PassFaultPoint("daemon.catalog.after-entry");
}

}  // namespace sheaf::directory
