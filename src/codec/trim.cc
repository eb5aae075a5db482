#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "codec/codec.h"
#include "codec/layout.h"

namespace sheaf::codec {

namespace {

using ArrayDataPtr = std::shared_ptr<arrow::ArrayData>;
using BufferPtr = std::shared_ptr<arrow::Buffer>;

/// 512 bits are 64 bytes: a bitmap cut at a multiple of it keeps its alignment, and so
/// does anything wider.
constexpr int64_t kCutElements = 512;

/// Elements to drop at the front, and those to keep after them.
struct Cut {
  int64_t dropped;
  int64_t kept;
};

/// What of `buffer` holds the kept elements. Never more than there is: an array that is
/// too short for its own length is for `Encode` to refuse.
BufferPtr CutBuffer(const BufferPtr& buffer, BufferSpec spec, const Cut& cut) {
  if (buffer == nullptr || spec.kind == BufferKind::kBytes) return buffer;
  const int64_t kept = BytesFor(spec, cut.kept).value_or(buffer->size());
  if (spec.kind == BufferKind::kOffsets) spec.kind = BufferKind::kFixed;
  const int64_t dropped =
      std::min(BytesFor(spec, cut.dropped).value_or(0), buffer->size());
  const int64_t size = std::min(kept, buffer->size() - dropped);
  return size == buffer->size() ? buffer : arrow::SliceBuffer(buffer, dropped, size);
}

/// The part of the children that the kept elements stand on, or nothing if they are too
/// short.
std::optional<Cut> CutOfChildren(const arrow::ArrayData& array, const Layout& layout,
                                 const Cut& cut) {
  Cut below = cut;
  if (layout.child_rule == ChildRule::kCoversLists &&
      (__builtin_mul_overflow(cut.dropped, layout.list_size, &below.dropped) ||
       __builtin_mul_overflow(cut.kept, layout.list_size, &below.kept))) {
    return std::nullopt;
  }
  for (const ArrayDataPtr& child : array.child_data) {
    if (child == nullptr || child->length < below.dropped ||
        child->length - below.dropped < below.kept) {
      return std::nullopt;
    }
  }
  return below;
}

ArrayDataPtr CutChild(const ArrayDataPtr& child, const Cut& cut) {
  if (cut.dropped == 0 && cut.kept == child->length) return Trim(child);
  return Trim(child->Slice(cut.dropped, cut.kept));
}

/// As wide as the widest.
const BufferPtr& OneOffset() {
  static constexpr int64_t kZero = 0;
  static const auto kOne = std::make_shared<arrow::Buffer>(
      reinterpret_cast<const uint8_t*>(&kZero), int64_t{sizeof(kZero)});
  return kOne;
}

void AddOffsetsOf(arrow::ArrayData* array) {
  const auto layout = LayoutOf(StorageOf(*array->type));
  if (!layout.ok()) return;  // For `Encode` to refuse.
  for (size_t i = 0; i < array->buffers.size(); ++i) {
    BufferPtr& buffer = array->buffers[i];
    if (layout->buffer(i).kind != BufferKind::kOffsets) continue;
    if (buffer == nullptr || buffer->size() == 0) buffer = OneOffset();
  }
}

}  // namespace

ArrayDataPtr AddOffsets(const ArrayDataPtr& array) {
  if (array == nullptr) return array;
  auto complete = array->Copy();
  if (array->length == 0 && array->offset == 0) AddOffsetsOf(complete.get());
  for (ArrayDataPtr& child : complete->child_data) child = AddOffsets(child);
  complete->dictionary = AddOffsets(array->dictionary);
  const bool changed = complete->buffers != array->buffers ||
                       complete->child_data != array->child_data ||
                       complete->dictionary != array->dictionary;
  return changed ? complete : array;
}

ArrayDataPtr Trim(const ArrayDataPtr& array) {
  const auto layout = LayoutOf(StorageOf(*array->type));
  if (!layout.ok() || layout->child_rule == ChildRule::kRunEnds || array->offset < 0 ||
      array->length < 0 ||
      array->buffers.size() < static_cast<size_t>(layout->buffer_count)) {
    return array;
  }
  const int64_t offset = array->offset % kCutElements;
  const Cut cut{array->offset - offset, offset + array->length};

  auto trimmed = array->Copy();
  trimmed->offset = offset;
  if (layout->child_rule == ChildRule::kCovers ||
      layout->child_rule == ChildRule::kCoversLists) {
    const std::optional<Cut> below = CutOfChildren(*array, *layout, cut);
    if (!below) return array;
    for (ArrayDataPtr& child : trimmed->child_data) child = CutChild(child, *below);
  }
  for (int i = 0; i < layout->buffer_count; ++i) {
    BufferPtr& buffer = trimmed->buffers[static_cast<size_t>(i)];
    buffer = CutBuffer(buffer, layout->buffers[static_cast<size_t>(i)], cut);
  }
  const bool changed = cut.dropped != 0 || trimmed->buffers != array->buffers ||
                       trimmed->child_data != array->child_data;
  return changed ? trimmed : array;
}

std::shared_ptr<arrow::Table> Trim(const arrow::Table& table) {
  arrow::ChunkedArrayVector columns;
  for (const auto& column : table.columns()) {
    arrow::ArrayVector chunks;
    for (const auto& chunk : column->chunks()) {
      const ArrayDataPtr trimmed = Trim(chunk->data());
      chunks.push_back(trimmed == chunk->data() ? chunk : arrow::MakeArray(trimmed));
    }
    columns.push_back(
        std::make_shared<arrow::ChunkedArray>(std::move(chunks), column->type()));
  }
  return arrow::Table::Make(table.schema(), std::move(columns), table.num_rows());
}

}  // namespace sheaf::codec
