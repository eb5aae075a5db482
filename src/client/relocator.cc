#include "client/relocator.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
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

#include "base/math.h"
#include "client/session.h"
#include "codec/codec.h"
#include "platform/cache.h"

namespace sheaf::client {
namespace {

using arrow::ArrayData;
using arrow::Buffer;

// A compacting copy costs more per byte than streaming whole buffers: worth it when less
// than half of them is referred to.
constexpr int64_t kWasteFactor = 2;
constexpr int64_t kWasteIgnoredBytes = 4096;

// Largest single allocation for copies that need not be contiguous: fits a fragmented
// segment.
constexpr uint64_t kCopyBlockBytes = uint64_t{64} << 20;
constexpr uint64_t kCopyAlignment = 64;

using VisitBuffer = std::function<arrow::Status(const Buffer&)>;

arrow::Status VisitBuffers(const ArrayData& array, const VisitBuffer& visit) {
  for (const auto& buffer : array.buffers) {
    if (buffer != nullptr && buffer->size() > 0) ARROW_RETURN_NOT_OK(visit(*buffer));
  }
  for (const auto& child : array.child_data)
    ARROW_RETURN_NOT_OK(VisitBuffers(*child, visit));
  if (array.dictionary != nullptr) return VisitBuffers(*array.dictionary, visit);
  return arrow::Status::OK();
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
  arrow::Status Collect(const ArrayData& array) {
    return VisitBuffers(array, [this](const Buffer& buffer) {
      if (!InRegion(buffer))
        intervals_.push_back({buffer.data(), buffer.data() + buffer.size(), nullptr, 0});
      return arrow::Status::OK();
    });
  }
  arrow::Status Copy();
  std::shared_ptr<ArrayData> Rewrite(const ArrayData& array) const;

 private:
  bool InRegion(const Buffer& buffer);
  arrow::Result<bool> IsWorthCompacting(const ArrayData& array);
  void MergeIntervals();
  arrow::Status AllocateBlocks();
  std::shared_ptr<Buffer> Moved(const std::shared_ptr<Buffer>& buffer) const;

  Relocator& relocator_;
  Session& session_;
  std::vector<Interval> intervals_;
};

arrow::Result<std::vector<std::shared_ptr<ArrayData>>> Relocator::Relocate(
    const std::vector<std::shared_ptr<ArrayData>>& arrays,
    const std::vector<std::string>& field_names) {
  Pass pass(this);
  std::vector<std::shared_ptr<ArrayData>> result;
  result.reserve(arrays.size());
  for (size_t i = 0; i < arrays.size(); ++i) {
    ARROW_ASSIGN_OR_RAISE(auto cut, pass.Cut(arrays[i], field_names[i]));
    ARROW_RETURN_NOT_OK(pass.Collect(*cut));
    result.push_back(std::move(cut));
  }
  ARROW_RETURN_NOT_OK(pass.Copy());
  for (auto& array : result) array = pass.Rewrite(*array);
  return result;
}

bool Relocator::Pass::InRegion(const Buffer& buffer) {
  const auto size = CheckedCast<uint64_t>(buffer.size());
  const auto address = session_.region().Locate(buffer.data(), size);
  if (!address) return false;
  const bool foreign = address->segment != session_.region().own_segment().id();
  if (foreign && relocator_.copies_foreign_) return false;
  if (session_.pool().FindOpen(buffer.data(), size)) return true;
  auto parent = session_.leases().FindCovering({*address, size});
  if (parent == nullptr) return session_.pool().Owns(buffer.data(), size);
  relocator_.shares_foreign_ = relocator_.shares_foreign_ || foreign;
  if (relocator_.known_parents_.insert(parent.get()).second) {
    relocator_.parents_.push_back(std::move(parent));
  }
  return true;
}

arrow::Result<bool> Relocator::Pass::IsWorthCompacting(const ArrayData& array) {
  bool all_private = true;
  std::map<const uint8_t*, int64_t> distinct;
  ARROW_RETURN_NOT_OK(VisitBuffers(array, [&](const Buffer& buffer) {
    all_private = all_private && !InRegion(buffer);
    int64_t& size = distinct[buffer.data()];
    size = std::max(size, buffer.size());
    return arrow::Status::OK();
  }));
  if (!all_private) return false;
  int64_t held = 0;
  for (const auto& [data, size] : distinct) held += size;
  if (held <= kWasteIgnoredBytes) return false;
  ARROW_ASSIGN_OR_RAISE(const int64_t referred, arrow::util::ReferencedBufferSize(
                                                    *arrow::MakeArray(array.Copy())));
  return held > kWasteFactor * referred + kWasteIgnoredBytes;
}

arrow::Result<std::shared_ptr<ArrayData>> Relocator::Pass::Cut(
    const std::shared_ptr<ArrayData>& array, const std::string& field_name) {
  ARROW_RETURN_NOT_OK(VisitBuffers(*array, [&](const Buffer& buffer) {
    if (buffer.is_cpu()) return arrow::Status::OK();
    return arrow::Status::NotImplemented("column '", field_name, "' lies in ",
                                         buffer.device()->ToString(),
                                         ", not in main memory");
  }));
  auto trimmed = codec::Trim(array);
  ARROW_ASSIGN_OR_RAISE(const bool compact, IsWorthCompacting(*trimmed));
  if (!compact) return trimmed;
  auto copy = arrow::Concatenate({arrow::MakeArray(trimmed)}, &session_.pool());
  if (copy.status().IsOutOfMemory()) return copy.status();
  if (!copy.ok()) return trimmed;  // A type that cannot be concatenated is copied whole.
  const auto& data = (*copy)->data();
  ARROW_RETURN_NOT_OK(VisitBuffers(*data, [&](const Buffer& buffer) {
    if (InRegion(buffer)) relocator_.bytes_copied_ += buffer.size();
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
  for (size_t first = 0; first < intervals_.size();) {
    uint64_t block_bytes = intervals_[first].Footprint();
    size_t end = first + 1;
    while (end < intervals_.size() &&
           block_bytes + intervals_[end].Footprint() <= kCopyBlockBytes) {
      block_bytes += intervals_[end++].Footprint();
    }
    ARROW_ASSIGN_OR_RAISE(
        std::shared_ptr<Buffer> block,
        arrow::AllocateBuffer(CheckedCast<int64_t>(block_bytes), &session_.pool()));
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
  uint64_t needed_bytes = 0;
  for (const Interval& interval : intervals_) needed_bytes += interval.Footprint();
  const arrow::Status allocated = AllocateBlocks();
  if (allocated.IsOutOfMemory()) {
    return allocated.WithMessage("copying ", needed_bytes,
                                 " bytes into shared memory: ", allocated.message());
  }
  ARROW_RETURN_NOT_OK(allocated);
  for (const Interval& interval : intervals_) {
    uint8_t* to = const_cast<uint8_t*>(interval.block->data()) + interval.block_offset;
    platform::StreamingCopy(to, interval.begin, interval.size());
    relocator_.bytes_copied_ += CheckedCast<int64_t>(interval.size());
  }
  return arrow::Status::OK();
}

std::shared_ptr<Buffer> Relocator::Pass::Moved(
    const std::shared_ptr<Buffer>& buffer) const {
  if (buffer == nullptr || buffer->size() == 0) return buffer;
  auto it = std::upper_bound(intervals_.begin(), intervals_.end(), buffer->data(),
                             [](const uint8_t* address, const Interval& interval) {
                               return address < interval.begin;
                             });
  if (it == intervals_.begin()) return buffer;
  --it;
  if (buffer->data() >= it->end) return buffer;
  return arrow::SliceBuffer(it->block, it->block_offset + (buffer->data() - it->begin),
                            buffer->size());
}

std::shared_ptr<ArrayData> Relocator::Pass::Rewrite(const ArrayData& array) const {
  auto moved = array.Copy();
  for (auto& buffer : moved->buffers) buffer = Moved(buffer);
  for (auto& child : moved->child_data) child = Rewrite(*child);
  if (moved->dictionary != nullptr) moved->dictionary = Rewrite(*moved->dictionary);
  return moved;
}

}  // namespace sheaf::client
