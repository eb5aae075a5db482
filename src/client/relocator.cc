#include "client/relocator.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/concatenate.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/byte_size.h>

#include "base/fault_point.h"
#include "base/math.h"
#include "client/home_pools.h"
#include "client/session.h"
#include "client/source_check.h"
#include "codec/codec.h"
#include "platform/bus_error.h"
#include "platform/cache.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

using arrow::ArrayData;
using arrow::Buffer;

// A compacting copy costs more per byte than streaming whole buffers: worth it when less
// than half of them is referred to.
constexpr int64_t kWasteFactor = 2;
constexpr int64_t kWasteIgnoredBytes = 4096;

// Largest single allocation for copies that need not be contiguous.
constexpr uint64_t kCopyBlockBytes = uint64_t{64} << 20;
constexpr uint64_t kCopyAlignment = 64;

using VisitBuffer = std::function<arrow::Status(const std::shared_ptr<Buffer>&)>;

arrow::Status VisitBuffers(const ArrayData& array, const VisitBuffer& visit) {
  for (const auto& buffer : array.buffers) {
    if (buffer != nullptr && buffer->size() > 0) ARROW_RETURN_NOT_OK(visit(buffer));
  }
  for (const auto& child : array.child_data)
    ARROW_RETURN_NOT_OK(VisitBuffers(*child, visit));
  if (array.dictionary != nullptr) return VisitBuffers(*array.dictionary, visit);
  return arrow::Status::OK();
}

// The buffer that owns the bytes.
std::shared_ptr<Buffer> RootOf(std::shared_ptr<Buffer> buffer) {
  while (buffer->parent() != nullptr) buffer = buffer->parent();
  return buffer;
}

// A private buffer that is to be copied; the name is the caller's.
struct PrivateBuffer {
  std::shared_ptr<Buffer> buffer;
  const std::string* field_name;
};

arrow::Status NameField(const arrow::Status& status, const std::string& field_name) {
  return status.WithMessage("column '", field_name,
                            "' cannot be copied: ", status.message());
}

// A run of private memory that is copied as a whole, and where to.
struct Interval {
  const uint8_t* begin = nullptr;
  const uint8_t* end = nullptr;
  std::shared_ptr<Buffer> block;  // The allocation that holds the copy.
  int64_t block_offset = 0;
  uint64_t size() const { return static_cast<uint64_t>(end - begin); }
  // Bytes it takes in a block: a copy keeps its source's offset in a line.
  uint64_t Footprint() const { return RoundUp(Skew() + size(), kCopyAlignment); }
  uint64_t Skew() const { return reinterpret_cast<uintptr_t>(begin) % kCopyAlignment; }
};

}  // namespace

// One call of Relocate: find private memory, copy it, rewrite the arrays.
class Relocator::Pass {
 public:
  explicit Pass(Relocator* relocator)
      : relocator_(*relocator), session_(*relocator->session_) {}

  arrow::Result<std::shared_ptr<ArrayData>> Cut(const std::shared_ptr<ArrayData>& array,
                                                const std::string& field_name);
  arrow::Status Collect(const ArrayData& array, const std::string& field_name) {
    return VisitBuffers(array, [&](const std::shared_ptr<Buffer>& buffer) {
      if (IsThere(buffer)) return arrow::Status::OK();
      intervals_.push_back({buffer->data(), buffer->data() + buffer->size(), nullptr, 0});
      to_copy_.push_back({buffer, &field_name});
      return arrow::Status::OK();
    });
  }
  arrow::Status Copy();
  std::shared_ptr<ArrayData> Rewrite(const ArrayData& array) const;

 private:
  // In the region, or copied there by an earlier pass.
  bool IsThere(const std::shared_ptr<Buffer>& buffer) {
    return InRegion(*buffer) || relocator_.FindCopy(buffer) != nullptr;
  }
  bool InRegion(const Buffer& buffer);
  arrow::Result<std::optional<int64_t>> CompactedSize(const ArrayData& array);
  void MergeIntervals();
  arrow::Status AllocateBlocks();
  arrow::Status CopyIntervals();
  arrow::Status NameFailed(const arrow::Status& status) const;
  std::shared_ptr<Buffer> CopyOf(const Buffer& buffer) const;

  Relocator& relocator_;
  Session& session_;
  std::vector<PrivateBuffer> to_copy_;
  std::vector<Interval> intervals_;  // What these cover.
};

arrow::Result<std::vector<std::shared_ptr<ArrayData>>> Relocator::Relocate(
    const std::vector<std::shared_ptr<ArrayData>>& arrays,
    const std::vector<std::string>& field_names) {
  Pass pass(this);
  std::vector<std::shared_ptr<ArrayData>> result;
  result.reserve(arrays.size());
  const auto move_all = [&]() -> arrow::Status {
    for (size_t i = 0; i < arrays.size(); ++i) {
      ARROW_ASSIGN_OR_RAISE(auto cut, pass.Cut(arrays[i], field_names[i]));
      ARROW_RETURN_NOT_OK(pass.Collect(*cut, field_names[i]));
      result.push_back(std::move(cut));
    }
    return pass.Copy();
  };
  const int64_t copied_before = bytes_copied_;
  bytes_missing_ = 0;
  const arrow::Status moved = move_all();
  if (!moved.ok()) {
    if (bytes_missing_ > 0) bytes_missing_ += bytes_copied_ - copied_before;
    bytes_copied_ = copied_before;
    return moved;
  }
  for (auto& array : result) array = pass.Rewrite(*array);
  return result;
}

// The copy of these bytes, if the buffer that owned them then owns them now.
std::shared_ptr<Buffer> Relocator::FindCopy(const std::shared_ptr<Buffer>& buffer) const {
  const auto root = RootOf(buffer);
  const auto source = sources_.find(root.get());
  if (source == sources_.end() || source->second.buffer.lock() != root) return nullptr;
  const CopiesByBegin& copies = source->second.copies;
  auto it = copies.upper_bound(buffer->data());
  if (it == copies.begin()) return nullptr;
  --it;
  if (buffer->data() + buffer->size() > it->second.end) return nullptr;
  return arrow::SliceBuffer(it->second.bytes, buffer->data() - it->first, buffer->size());
}

void Relocator::Remember(const std::shared_ptr<Buffer>& buffer,
                         std::shared_ptr<Buffer> copy) {
  if (sources_.size() >= sources_until_sweep_) {
    std::erase_if(sources_,
                  [](const auto& entry) { return entry.second.buffer.expired(); });
    sources_until_sweep_ = std::max(kSourcesUntilSweepMin, 2 * sources_.size());
  }
  const auto root = RootOf(buffer);
  Source& source = sources_[root.get()];
  // Another buffer may have had this address before.
  if (source.buffer.lock() != root) source = {root, {}};
  const uint8_t* const end = buffer->data() + buffer->size();
  // None within another: the last that begins before some bytes is the one that can cover
  // them.
  auto it = source.copies.upper_bound(buffer->data());
  if (it != source.copies.begin() && std::prev(it)->second.end >= end) return;
  it = source.copies.lower_bound(buffer->data());
  while (it != source.copies.end() && it->second.end <= end) it = source.copies.erase(it);
  source.copies.insert_or_assign(buffer->data(), Copy{end, std::move(copy)});
}

bool Relocator::Pass::InRegion(const Buffer& buffer) {
  const auto size = CheckedCast<uint64_t>(buffer.size());
  const auto address = session_.region().Locate(buffer.data(), size);
  if (!address) return false;
  if (session_.pools().IsOpen(buffer.data(), size)) return true;
  auto parent = session_.leases().FindCovering({*address, size});
  if (parent == nullptr) return session_.pools().Owns(buffer.data(), size);
  // Bytes of the own home as well, where an object of another one refers to them: to
  // share them our home needs a lease there.
  const SegmentId home = relocator_.home_;
  const bool foreign = address->segment != home || parent->object().segment != home;
  if (foreign && relocator_.copies_foreign_) return false;
  relocator_.shares_foreign_ = relocator_.shares_foreign_ || foreign;
  if (relocator_.known_parents_.insert(parent.get()).second) {
    relocator_.parents_.push_back(std::move(parent));
  }
  return true;
}

// The size of a compacting copy, if one is worth while.
arrow::Result<std::optional<int64_t>> Relocator::Pass::CompactedSize(
    const ArrayData& array) {
  bool all_private = true;
  std::map<const uint8_t*, int64_t> distinct;
  ARROW_RETURN_NOT_OK(VisitBuffers(array, [&](const std::shared_ptr<Buffer>& buffer) {
    all_private = all_private && !IsThere(buffer);
    int64_t& size = distinct[buffer->data()];
    size = std::max(size, buffer->size());
    return arrow::Status::OK();
  }));
  if (!all_private) return std::nullopt;
  int64_t held = 0;
  for (const auto& [data, size] : distinct) held += size;
  if (held <= kWasteIgnoredBytes) return std::nullopt;
  ARROW_RETURN_NOT_OK(CheckIndexes(array));
  ARROW_ASSIGN_OR_RAISE(const int64_t referred, arrow::util::ReferencedBufferSize(
                                                    *arrow::MakeArray(array.Copy())));
  if (held <= kWasteFactor * referred + kWasteIgnoredBytes) return std::nullopt;
  return referred;
}

arrow::Result<std::shared_ptr<ArrayData>> Relocator::Pass::Cut(
    const std::shared_ptr<ArrayData>& array, const std::string& field_name) {
  ARROW_RETURN_NOT_OK(VisitBuffers(*array, [&](const std::shared_ptr<Buffer>& buffer) {
    if (buffer->is_cpu()) return arrow::Status::OK();
    return arrow::Status::NotImplemented("column '", field_name, "' lies in ",
                                         buffer->device()->ToString(),
                                         ", not in main memory");
  }));
  auto trimmed = codec::Trim(array);
  const auto measured = CompactedSize(*trimmed);
  if (!measured.ok()) return NameField(measured.status(), field_name);
  const std::optional<int64_t>& compacted_size = *measured;
  if (!compacted_size) return trimmed;
  const arrow::Status readable = CheckReferenced(*trimmed);
  if (!readable.ok()) return NameField(readable, field_name);
  auto copy = arrow::Concatenate({arrow::MakeArray(trimmed)}, relocator_.pool_);
  if (copy.status().IsOutOfMemory()) relocator_.bytes_missing_ += *compacted_size;
  if (copy.status().IsOutOfMemory()) return copy.status();
  if (!copy.ok()) return trimmed;  // A type that cannot be concatenated is copied whole.
  const auto& data = (*copy)->data();
  ARROW_RETURN_NOT_OK(VisitBuffers(*data, [&](const std::shared_ptr<Buffer>& buffer) {
    if (InRegion(*buffer)) relocator_.bytes_copied_ += buffer->size();
    return arrow::Status::OK();
  }));
  return data;
}

void Relocator::Pass::MergeIntervals() {
  std::sort(intervals_.begin(), intervals_.end(),
            [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  size_t last = 0;
  for (size_t i = 1; i < intervals_.size(); ++i) {
    if (intervals_[i].begin < intervals_[last].end) {
      intervals_[last].end = std::max(intervals_[last].end, intervals_[i].end);
    } else {
      intervals_[++last] = intervals_[i];
    }
  }
  if (!intervals_.empty()) intervals_.resize(last + 1);
}

arrow::Status Relocator::Pass::AllocateBlocks() {
  uint64_t block_bytes_max = kCopyBlockBytes;
  for (size_t first = 0; first < intervals_.size();) {
    uint64_t block_bytes = intervals_[first].Footprint();
    size_t end = first + 1;
    while (end < intervals_.size() &&
           block_bytes + intervals_[end].Footprint() <= block_bytes_max) {
      block_bytes += intervals_[end++].Footprint();
    }
    auto allocated =
        arrow::AllocateBuffer(CheckedCast<int64_t>(block_bytes), relocator_.pool_);
    if (allocated.status().IsOutOfMemory() && end > first + 1) {
      block_bytes_max = block_bytes / 2;  // Smaller free ranges may do.
      continue;
    }
    ARROW_ASSIGN_OR_RAISE(const std::shared_ptr<Buffer> block, std::move(allocated));
    uint64_t offset = 0;
    for (; first < end; ++first) {
      intervals_[first].block = block;
      intervals_[first].block_offset =
          CheckedCast<int64_t>(offset + intervals_[first].Skew());
      offset += intervals_[first].Footprint();
    }
  }
  return arrow::Status::OK();
}

arrow::Status Relocator::Pass::Copy() {
  MergeIntervals();
  const arrow::Status allocated = AllocateBlocks();
  if (allocated.IsOutOfMemory()) {
    for (const Interval& interval : intervals_) {
      relocator_.bytes_missing_ += CheckedCast<int64_t>(interval.Footprint());
    }
  }
  ARROW_RETURN_NOT_OK(allocated);
  ARROW_RETURN_NOT_OK(CopyIntervals());
  PassFaultPoint("client.build.after-copy");
  for (const PrivateBuffer& source : to_copy_) {
    relocator_.Remember(source.buffer, CopyOf(*source.buffer));
  }
  return arrow::Status::OK();
}

arrow::Status Relocator::Pass::CopyIntervals() {
  for (const Interval& interval : intervals_) {
    PassFaultPoint("client.build.before-copy");
    uint8_t* to = const_cast<uint8_t*>(interval.block->data()) + interval.block_offset;
    const uint8_t* from = interval.begin;
    const uint64_t size = interval.size();
    const arrow::Status copied = platform::GuardBusError(
        {{from, size}, {to, size}}, [=] { platform::StreamingCopy(to, from, size); });
    if (!copied.ok()) return NameFailed(copied);
    relocator_.bytes_copied_ += CheckedCast<int64_t>(size);
  }
  return arrow::Status::OK();
}

// Which column it was whose memory failed under a copy.
arrow::Status Relocator::Pass::NameFailed(const arrow::Status& status) const {
  for (const auto& [buffer, field_name] : to_copy_) {
    const arrow::Status readable = CheckBuffer(*buffer);
    if (!readable.ok()) return NameField(readable, *field_name);
  }
  return status.WithMessage("where the copy goes to: ", status.message());
}

// Of a source, whose interval is there.
std::shared_ptr<Buffer> Relocator::Pass::CopyOf(const Buffer& buffer) const {
  const auto it =
      std::prev(std::upper_bound(intervals_.begin(), intervals_.end(), buffer.data(),
                                 [](const uint8_t* address, const Interval& interval) {
                                   return address < interval.begin;
                                 }));
  return arrow::SliceBuffer(it->block, it->block_offset + (buffer.data() - it->begin),
                            buffer.size());
}

std::shared_ptr<ArrayData> Relocator::Pass::Rewrite(const ArrayData& array) const {
  auto moved = array.Copy();
  for (auto& buffer : moved->buffers) {
    if (buffer == nullptr || buffer->size() == 0) continue;
    if (auto copy = relocator_.FindCopy(buffer)) buffer = std::move(copy);
  }
  for (auto& child : moved->child_data) child = Rewrite(*child);
  if (moved->dictionary != nullptr) moved->dictionary = Rewrite(*moved->dictionary);
  return moved;
}

}  // namespace sheaf::client
