#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/checked_cast.h>

#include "base/check.h"
#include "base/math.h"
#include "codec/check.h"
#include "codec/codec.h"
#include "codec/layout.h"
#include "codec/schema_codec.h"
#include "format/descriptor_generated.h"
#include "sheaf/types.h"

namespace sheaf::codec {

using arrow::Status;

namespace {

/// Of what is in the descriptor's vectors, which the verifier of FlatBuffers 2 forgets.
constexpr uint64_t kStructAlignment = 8;
/// Root, field, key and value.
constexpr int kTableDepthMax = 3;
/// No table of a real descriptor takes fewer bytes, with what it refers to.
constexpr int64_t kTableSizeMin = 16;
constexpr int64_t kIdentifierEnd = 8;

Status CheckVersion(const arrow::Buffer& bytes) {
  if (bytes.size() > kDescriptorSizeMax) {
    return Status::Invalid("descriptor of ", bytes.size(), " bytes, at most ",
                           kDescriptorSizeMax, " are allowed");
  }
  if (bytes.size() <= kIdentifierEnd) {
    return Status::Invalid("descriptor of ", bytes.size(), " bytes is cut off");
  }
  const std::string_view expected = format::TableDescriptorIdentifier();
  const std::string_view actual(reinterpret_cast<const char*>(bytes.data()) + 4,
                                expected.size());
  if (actual == expected) return Status::OK();
  if (actual.substr(0, 3) == expected.substr(0, 3)) {
    return Status::Invalid("descriptor is of format version '", actual.substr(3),
                           "', this program reads version '", expected.substr(3), "'");
  }
  return Status::Invalid("bytes are not a table descriptor");
}

template <typename T>
bool ItemsAreAligned(const flatbuffers::Vector<T>* vector) {
  return vector == nullptr || vector->size() == 0 ||
         IsAligned(reinterpret_cast<uintptr_t>(vector->Data()), kStructAlignment);
}

arrow::Result<const format::TableDescriptor*> Verify(const arrow::Buffer& bytes) {
  flatbuffers::Verifier verifier(bytes.data(), static_cast<size_t>(bytes.size()),
                                 kTableDepthMax,
                                 CheckedCast<uint32_t>(bytes.size() / kTableSizeMin));
  if (!format::VerifyTableDescriptorBuffer(verifier)) {
    return Status::Invalid("descriptor of ", bytes.size(), " bytes is malformed");
  }
  const auto* table = format::GetTableDescriptor(bytes.data());
  if (!ItemsAreAligned(table->arrays()) || !ItemsAreAligned(table->buffers()) ||
      !ItemsAreAligned(table->checksums()) || !ItemsAreAligned(table->parts())) {
    return Status::Invalid("vectors of the descriptor are not aligned");
  }
  return table;
}

template <typename Struct>
std::span<const Struct> StructsOf(const flatbuffers::Vector<const Struct*>& vector) {
  return {reinterpret_cast<const Struct*>(vector.Data()), vector.size()};
}

ArrayTree TreeOf(const format::TableDescriptor& table) {
  ArrayTree tree = {{table.chunk_counts()->data(), table.chunk_counts()->size()},
                    StructsOf(*table.arrays()),
                    {table.buffer_refs()->data(), table.buffer_refs()->size()},
                    StructsOf(*table.buffers()),
                    {},
                    {}};
  if (const auto* checksums = table.checksums()) {
    tree.checksums = std::span(checksums->data(), checksums->size());
  }
  if (const auto* parts = table.parts()) tree.parts = StructsOf(*parts);
  return tree;
}

/// Sorts, then joins ranges that overlap or touch.
std::vector<GlobalRange> Merge(std::vector<GlobalRange> ranges) {
  std::sort(ranges.begin(), ranges.end());
  std::vector<GlobalRange> merged;
  for (const GlobalRange& range : ranges) {
    if (!merged.empty() && merged.back().begin.segment == range.begin.segment &&
        range.begin.offset <= merged.back().end_offset()) {
      const uint64_t end = std::max(merged.back().end_offset(), range.end_offset());
      merged.back().size_bytes = end - merged.back().begin.offset;
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

/// Rows [begin, end) of a table.
struct Rows {
  int64_t begin = 0;
  int64_t end = 0;
  bool are_all = true;
};

/// The chunks of one column, one after the other: where in the tree they are, and which
/// rows they have.
class ChunkWalk {
 public:
  ChunkWalk(const ArrayTree& tree, TreePosition start) : tree_(tree), position_(start) {}

  TreePosition position() const { return position_; }
  int64_t row() const { return row_; }
  int64_t length() const { return tree_.arrays[position_.array].length(); }
  /// It has some of the rows. Those of a whole table are all, empty ones too.
  bool IsIn(const Rows& rows) const {
    return rows.are_all || (row_ < rows.end && row_ + length() > rows.begin);
  }
  void Next() {
    row_ += length();
    for (uint64_t left = 1; left > 0; --left) {
      const format::ArrayNode& node = tree_.arrays[position_.array++];
      position_.buffer_ref += node.buffer_count();
      left += node.child_count();
    }
  }

 private:
  const ArrayTree& tree_;
  TreePosition position_;
  int64_t row_ = 0;
};

/// Which segment each row was built in, for rows that are asked for in rising order.
class PartWalk {
 public:
  PartWalk(std::span<const format::TablePart> parts, SegmentId otherwise)
      : parts_(parts), otherwise_(otherwise) {}

  SegmentId SegmentOf(int64_t row) {
    if (parts_.empty()) return otherwise_;
    while (next_ + 1 < parts_.size() && row >= end_ + parts_[next_].num_rows()) {
      end_ += parts_[next_++].num_rows();
    }
    return SegmentId{parts_[next_].segment()};
  }

 private:
  std::span<const format::TablePart> parts_;
  SegmentId otherwise_;
  size_t next_ = 0;
  int64_t end_ = 0;  // Rows of all parts before.
};

/// Rebuilds arrays from a tree that `CheckArrays` passed, whence the depth of the
/// recursion.
class ArrayRebuilder {
 public:
  ArrayRebuilder(const ArrayTree& tree, SegmentId home, const BufferFn& make_buffer)
      : tree_(tree), home_(home), make_buffer_(make_buffer), made_(tree.buffers.size()) {}

  arrow::Result<std::shared_ptr<arrow::ChunkedArray>> Column(
      const std::shared_ptr<arrow::DataType>& type, uint32_t chunk_count,
      TreePosition start, const Rows& rows) {
    arrow::ArrayVector chunks;
    if (rows.are_all) chunks.reserve(chunk_count);
    ChunkWalk walk(tree_, start);
    PartWalk parts(tree_.parts, home_);
    for (uint32_t i = 0; i < chunk_count; ++i, walk.Next()) {
      if (!walk.IsIn(rows)) continue;
      segment_ = parts.SegmentOf(walk.row());
      position_ = walk.position();
      ARROW_ASSIGN_OR_RAISE(auto data, Next(type));
      auto chunk = arrow::MakeArray(data);
      // Nulls of a cut chunk are counted, which reads its bitmap: only where it must be.
      const int64_t begin = std::max<int64_t>(rows.begin - walk.row(), 0);
      const int64_t end = std::min(rows.end - walk.row(), chunk->length());
      const bool is_cut = !rows.are_all && (begin > 0 || end < chunk->length());
      chunks.push_back(is_cut ? chunk->Slice(begin, end - begin) : std::move(chunk));
    }
    return std::make_shared<arrow::ChunkedArray>(std::move(chunks), type);
  }

 private:
  /// Not `ArrayData::Make`, which drops validity bitmaps where the null count is 0.
  arrow::Result<std::shared_ptr<arrow::ArrayData>> Next(
      const std::shared_ptr<arrow::DataType>& type) {
    const format::ArrayNode& node = tree_.arrays[position_.array++];
    auto data = std::make_shared<arrow::ArrayData>(type, node.length(), node.null_count(),
                                                   node.offset());
    data->buffers.reserve(node.buffer_count());
    for (uint32_t i = 0; i < node.buffer_count(); ++i) {
      ARROW_ASSIGN_OR_RAISE(auto buffer,
                            MakeBuffer(tree_.buffer_refs[position_.buffer_ref++]));
      data->buffers.push_back(std::move(buffer));
    }
    const arrow::DataType& storage = StorageOf(*type);
    if (storage.id() == arrow::Type::DICTIONARY) {
      const auto& dictionary =
          arrow::internal::checked_cast<const arrow::DictionaryType&>(storage);
      ARROW_ASSIGN_OR_RAISE(data->dictionary, Next(dictionary.value_type()));
    }
    data->child_data.reserve(static_cast<size_t>(storage.num_fields()));
    for (const auto& field : storage.fields()) {
      ARROW_ASSIGN_OR_RAISE(auto child, Next(field->type()));
      data->child_data.push_back(std::move(child));
    }
    return data;
  }

  arrow::Result<std::shared_ptr<arrow::Buffer>> MakeBuffer(uint32_t ref) {
    if (ref == 0) return nullptr;
    const GlobalRange range = RangeOf(tree_.buffers[ref - 1]);
    const auto size = static_cast<int64_t>(range.size_bytes);
    // Empty ones are one entry, and yet lie where their part does.
    std::shared_ptr<arrow::Buffer>& buffer =
        size == 0 ? empty_[segment_.value] : made_[ref - 1];
    if (buffer != nullptr) return buffer;
    ARROW_ASSIGN_OR_RAISE(
        buffer, make_buffer_(size == 0 ? GlobalAddress{segment_, 0} : range.begin, size));
    SHEAF_CHECK(buffer != nullptr && buffer->size() == size && buffer->data() != nullptr);
    return buffer;
  }

  const ArrayTree& tree_;
  const SegmentId home_;
  const BufferFn& make_buffer_;
  std::vector<std::shared_ptr<arrow::Buffer>> made_;
  std::unordered_map<uint32_t, std::shared_ptr<arrow::Buffer>> empty_;  // By segment.
  SegmentId segment_;  // Of the chunk that is being built.
  TreePosition position_;
};

}  // namespace

class Descriptor::Impl {
 public:
  static arrow::Result<std::unique_ptr<Impl>> Make(std::shared_ptr<arrow::Buffer> bytes,
                                                   const SegmentSizeFn& segment_size,
                                                   Extensions extensions) {
    if (bytes == nullptr) return Status::Invalid("there is no descriptor");
    ARROW_RETURN_NOT_OK(CheckVersion(*bytes));
    if (!IsAligned(bytes->address(), kStructAlignment)) {
      bytes = arrow::Buffer::FromString(bytes->ToString());
    }
    auto impl = std::make_unique<Impl>();
    ARROW_ASSIGN_OR_RAISE(const auto* table, Verify(*bytes));
    impl->tree = TreeOf(*table);
    impl->num_rows = table->num_rows();
    ARROW_RETURN_NOT_OK(CheckBuffers(impl->tree.buffers, segment_size));
    ARROW_RETURN_NOT_OK(CheckChecksums(impl->tree));
    ARROW_RETURN_NOT_OK(CheckParts(impl->tree.parts, impl->num_rows, segment_size));
    ARROW_ASSIGN_OR_RAISE(
        impl->schema,
        DecodeSchema(*table, static_cast<size_t>(bytes->size()), extensions));
    ARROW_ASSIGN_OR_RAISE(impl->starts, CheckArrays(*impl->schema, impl->num_rows,
                                                    impl->tree, ChunkNulls::kKnown));
    impl->bytes = std::move(bytes);
    return impl;
  }

  /// Segment of the first buffer that has bytes.
  SegmentId home() const {
    for (const format::BufferRange& buffer : tree.buffers) {
      if (buffer.size_bytes() != 0) return SegmentId{buffer.segment()};
    }
    return SegmentId{};
  }

  int num_columns() const { return schema->num_fields(); }

  /// Nothing if they are not in range.
  std::optional<Rows> RowsOf(const Selection& selection) const {
    const int64_t begin = selection.row_offset;
    if (begin < 0 || begin > num_rows) return std::nullopt;
    const int64_t length = selection.num_rows < 0 ? num_rows - begin : selection.num_rows;
    if (length > num_rows - begin) return std::nullopt;
    return Rows{begin, begin + length, length == num_rows};
  }

  std::vector<int> ColumnsOf(const Selection& selection) const {
    if (selection.columns) return *selection.columns;
    std::vector<int> all(static_cast<size_t>(num_columns()));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }

  /// By buffer: whether a chunk of the selection refers to it.
  std::vector<bool> UsedBuffers(const Selection& selection) const {
    const auto rows = RowsOf(selection);
    SHEAF_CHECK(rows.has_value());
    std::vector<bool> used(tree.buffers.size(), false);
    for (const int column : ColumnsOf(selection)) {
      SHEAF_CHECK(column >= 0 && column < num_columns());
      const auto i = static_cast<size_t>(column);
      ChunkWalk walk(tree, starts[i]);
      for (uint32_t chunk = 0; chunk < tree.chunk_counts[i]; ++chunk) {
        const bool is_in = walk.IsIn(*rows);
        const size_t begin = walk.position().buffer_ref;
        walk.Next();
        if (!is_in) continue;
        for (size_t k = begin; k < walk.position().buffer_ref; ++k) {
          if (tree.buffer_refs[k] != 0) used[tree.buffer_refs[k] - 1] = true;
        }
      }
    }
    return used;
  }

  std::shared_ptr<arrow::Buffer> bytes;
  ArrayTree tree;  // Points into `bytes`.
  int64_t num_rows = 0;
  std::shared_ptr<arrow::Schema> schema;
  std::vector<TreePosition> starts;  // [num_columns + 1]
};

Descriptor::Descriptor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Descriptor::~Descriptor() = default;

arrow::Result<std::shared_ptr<const Descriptor>> Descriptor::Make(
    std::shared_ptr<arrow::Buffer> bytes, const SegmentSizeFn& segment_size,
    Extensions extensions) {
  ARROW_ASSIGN_OR_RAISE(auto impl,
                        Impl::Make(std::move(bytes), segment_size, extensions));
  return std::shared_ptr<const Descriptor>(new Descriptor(std::move(impl)));
}

int64_t Descriptor::num_rows() const { return impl_->num_rows; }

int Descriptor::num_columns() const { return impl_->schema->num_fields(); }

int64_t Descriptor::num_chunks() const {
  const auto& counts = impl_->tree.chunk_counts;
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

const std::shared_ptr<arrow::Schema>& Descriptor::schema() const { return impl_->schema; }

const std::shared_ptr<arrow::Buffer>& Descriptor::bytes() const { return impl_->bytes; }

std::vector<Part> Descriptor::parts() const {
  std::vector<Part> parts;
  parts.reserve(impl_->tree.parts.size());
  for (const format::TablePart& part : impl_->tree.parts) {
    parts.push_back({part.num_rows(), part.put(), SegmentId{part.segment()}});
  }
  return parts;
}

std::vector<GlobalRange> Descriptor::Ranges(const Selection& selection) const {
  const std::vector<bool> used = impl_->UsedBuffers(selection);
  std::vector<GlobalRange> ranges;
  for (size_t i = 0; i < used.size(); ++i) {
    const GlobalRange range = RangeOf(impl_->tree.buffers[i]);
    if (used[i] && range.size_bytes != 0) ranges.push_back(range);
  }
  return Merge(std::move(ranges));
}

int64_t Descriptor::data_bytes() const {
  int64_t bytes = 0;
  for (const GlobalRange& range : Ranges()) {
    bytes += static_cast<int64_t>(range.size_bytes);
  }
  return bytes;
}

bool Descriptor::has_checksums() const { return impl_->tree.checksums.has_value(); }

Status Descriptor::VisitBuffers(const VisitBufferFn& visit,
                                const Selection& selection) const {
  const ArrayTree& tree = impl_->tree;
  std::vector<bool> wanted_columns(static_cast<size_t>(num_columns()), false);
  for (const int column : impl_->ColumnsOf(selection)) {
    SHEAF_CHECK(column >= 0 && column < num_columns());
    wanted_columns[static_cast<size_t>(column)] = true;
  }
  std::vector<bool> wanted = impl_->UsedBuffers(selection);
  // The walk that has checked the tree knows where in the table it is.
  return CheckArrays(*impl_->schema, impl_->num_rows, tree, ChunkNulls::kKnown,
                     [&](size_t buffer, int column) {
                       const GlobalRange range = RangeOf(tree.buffers[buffer]);
                       if (!wanted_columns[static_cast<size_t>(column)] ||
                           !wanted[buffer] || range.size_bytes == 0) {
                         return Status::OK();
                       }
                       wanted[buffer] = false;
                       std::optional<uint64_t> checksum;
                       if (tree.checksums) checksum = (*tree.checksums)[buffer];
                       return visit(range, checksum);
                     })
      .status();
}

arrow::Result<std::shared_ptr<arrow::Table>> Descriptor::ToTable(
    const BufferFn& make_buffer, const Selection& selection) const {
  const auto rows = impl_->RowsOf(selection);
  if (!rows) {
    return Status::Invalid("no ", selection.num_rows, " rows from ", selection.row_offset,
                           " on: the table has ", num_rows());
  }
  ArrayRebuilder builder(impl_->tree, impl_->home(), make_buffer);
  arrow::ChunkedArrayVector built(static_cast<size_t>(num_columns()));
  arrow::FieldVector fields;
  arrow::ChunkedArrayVector arrays;
  for (const int index : impl_->ColumnsOf(selection)) {
    if (index < 0 || index >= num_columns()) {
      return Status::Invalid("no column ", index, ": the table has ", num_columns());
    }
    const auto i = static_cast<size_t>(index);
    fields.push_back(impl_->schema->field(index));
    if (built[i] == nullptr) {
      ARROW_ASSIGN_OR_RAISE(
          built[i], builder.Column(fields.back()->type(), impl_->tree.chunk_counts[i],
                                   impl_->starts[i], *rows));
    }
    arrays.push_back(built[i]);
  }
  auto schema = selection.columns
                    ? arrow::schema(std::move(fields), impl_->schema->metadata())
                    : impl_->schema;
  return arrow::Table::Make(std::move(schema), std::move(arrays),
                            rows->end - rows->begin);
}

}  // namespace sheaf::codec
