#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

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

struct BufferKey {
  const uint8_t* address;
  int64_t size_bytes;
  bool operator==(const BufferKey&) const = default;
};

struct BufferKeyHash {
  size_t operator()(const BufferKey& key) const noexcept {
    return std::hash<const uint8_t*>()(key.address) * 31 +
           std::hash<int64_t>()(key.size_bytes);
  }
};

/// Flattens `arrow::ArrayData` trees. Recursion is bounded: types were checked before.
class ArrayFlattener {
 public:
  explicit ArrayFlattener(LocateFn locate, ChecksumFn checksum = nullptr)
      : locate_(std::move(locate)), checksum_(std::move(checksum)) {}

  Status AddColumn(const arrow::DataType& type,
                   std::span<const std::shared_ptr<arrow::ArrayData>> chunks) {
    chunk_counts_.push_back(CheckedCast<uint32_t>(chunks.size()));
    for (const auto& chunk : chunks) {
      ARROW_RETURN_NOT_OK(AddArray(type, *chunk));
      if (size_bytes() > kDescriptorSizeMax) {
        return Status::CapacityError("the descriptor exceeds ", kDescriptorSizeMax,
                                     " bytes: combine small chunks");
      }
    }
    return Status::OK();
  }

  Status AddColumns(const arrow::Schema& schema, const ColumnChunks& columns) {
    if (columns.size() != static_cast<size_t>(schema.num_fields())) {
      return Status::Invalid(columns.size(), " columns, the schema has ",
                             schema.num_fields());
    }
    for (int i = 0; i < schema.num_fields(); ++i) {
      const arrow::Field& field = *schema.field(i);
      const Status status = AddColumn(*field.type(), columns[static_cast<size_t>(i)]);
      if (!status.ok()) {
        return status.WithMessage("column ", i, " '", field.name(),
                                  "': ", status.message());
      }
    }
    return Status::OK();
  }

  ArrayTree tree() const {
    ArrayTree tree = {chunk_counts_, arrays_, buffer_refs_, buffers_, {}, {}};
    if (checksum_ != nullptr) tree.checksums = checksums_;
    return tree;
  }

 private:
  int64_t size_bytes() const {
    return static_cast<int64_t>(arrays_.size() * sizeof(format::ArrayNode) +
                                (buffer_refs_.size() + chunk_counts_.size()) *
                                    sizeof(uint32_t) +
                                buffers_.size() * sizeof(format::BufferRange) +
                                checksums_.size() * sizeof(uint64_t));
  }

  Status AddArray(const arrow::DataType& type, const arrow::ArrayData& data) {
    if (data.type == nullptr || (data.type.get() != &type && !data.type->Equals(type))) {
      return Status::Invalid("array is of type ",
                             data.type == nullptr ? "(none)" : data.type->ToString(),
                             ", its field of type ", type.ToString());
    }
    const size_t child_count =
        data.child_data.size() + (data.dictionary == nullptr ? 0 : 1);
    arrays_.emplace_back(data.length, data.null_count.load(), data.offset,
                         CheckedCast<uint32_t>(data.buffers.size()),
                         CheckedCast<uint32_t>(child_count));
    const arrow::DataType& storage = StorageOf(type);
    ARROW_ASSIGN_OR_RAISE(const Layout layout, LayoutOf(storage));
    for (size_t i = 0; i < data.buffers.size(); ++i) {
      const arrow::Buffer* buffer = data.buffers[i].get();
      uint32_t ref = 0;
      // Arrow leaves out buffers of arrays without elements: readers get an empty one.
      if (buffer != nullptr || !MayBeAbsent(layout.buffer(i))) {
        ARROW_ASSIGN_OR_RAISE(ref, AddBuffer(buffer));
      }
      buffer_refs_.push_back(ref);
    }
    return AddChildren(storage, layout, data, child_count);
  }

  Status AddChildren(const arrow::DataType& storage, const Layout& layout,
                     const arrow::ArrayData& data, size_t child_count) {
    if (child_count != static_cast<size_t>(layout.child_count)) {
      return Status::Invalid("array has ", child_count, " children, type ",
                             storage.ToString(), " has ", layout.child_count);
    }
    for (int i = 0; i < layout.child_count; ++i) {
      const auto& child = data.dictionary != nullptr
                              ? data.dictionary
                              : data.child_data[static_cast<size_t>(i)];
      if (child == nullptr) return Status::Invalid("child ", i, " of an array is null");
      ARROW_RETURN_NOT_OK(AddArray(ChildTypeOf(storage, i), *child));
    }
    return Status::OK();
  }

  /// 1 + its place in `buffers_`. Null is a buffer without bytes.
  arrow::Result<uint32_t> AddBuffer(const arrow::Buffer* buffer) {
    if (buffer != nullptr && !buffer->is_cpu()) {
      return Status::NotImplemented("buffer on device ", buffer->device()->ToString());
    }
    // All buffers without bytes are one: their addresses mean nothing.
    BufferKey key{nullptr, 0};
    if (buffer != nullptr && buffer->size() != 0) key = {buffer->data(), buffer->size()};
    const auto [found, is_new] =
        indices_.try_emplace(key, CheckedCast<uint32_t>(buffers_.size() + 1));
    if (!is_new) return found->second;
    format::BufferRange range;
    if (key.size_bytes != 0) {
      ARROW_ASSIGN_OR_RAISE(const GlobalAddress at, locate_(key.address, key.size_bytes));
      range = {at.segment.value, 0, at.offset, CheckedCast<uint64_t>(key.size_bytes)};
    }
    buffers_.push_back(range);
    if (checksum_ != nullptr) {
      checksums_.push_back(0);
      if (key.size_bytes != 0) {
        ARROW_ASSIGN_OR_RAISE(checksums_.back(), checksum_(RangeOf(range)));
      }
    }
    return found->second;
  }

  const LocateFn locate_;
  const ChecksumFn checksum_;  // Absent: no checksums.
  std::vector<uint32_t> chunk_counts_;
  std::vector<format::ArrayNode> arrays_;
  std::vector<uint32_t> buffer_refs_;
  std::vector<format::BufferRange> buffers_;
  std::vector<uint64_t> checksums_;
  std::unordered_map<BufferKey, uint32_t, BufferKeyHash> indices_;
};

/// Owns what FlatBuffers built: no copy, and nothing from Arrow's default pool.
class BuiltBuffer : public arrow::Buffer {
 public:
  explicit BuiltBuffer(flatbuffers::DetachedBuffer bytes)
      : arrow::Buffer(bytes.data(), static_cast<int64_t>(bytes.size())),
        bytes_(std::move(bytes)) {}

 private:
  flatbuffers::DetachedBuffer bytes_;
};

template <typename Struct>
auto AddStructs(std::span<const Struct> structs,
                flatbuffers::FlatBufferBuilder* builder) {
  return builder->CreateVectorOfStructs(structs.data(), structs.size());
}

/// The order of these calls is the layout of the bytes, which a golden file fixes.
void Build(const arrow::Table& table, const ArrayTree& tree,
           const std::vector<FieldNodeOffset>& field_nodes, KeyValueOffsets metadata,
           flatbuffers::FlatBufferBuilder* builder) {
  const auto fields = builder->CreateVector(field_nodes);
  const auto chunk_counts =
      builder->CreateVector(tree.chunk_counts.data(), tree.chunk_counts.size());
  const auto arrays = AddStructs(tree.arrays, builder);
  const auto buffer_refs =
      builder->CreateVector(tree.buffer_refs.data(), tree.buffer_refs.size());
  const auto buffers = AddStructs(tree.buffers, builder);
  flatbuffers::Offset<flatbuffers::Vector<uint64_t>> checksums;
  if (tree.checksums) {
    checksums = builder->CreateVector(tree.checksums->data(), tree.checksums->size());
  }
  flatbuffers::Offset<flatbuffers::Vector<const format::TablePart*>> parts;
  if (!tree.parts.empty()) parts = AddStructs(tree.parts, builder);
  builder->Finish(format::CreateTableDescriptor(*builder, table.num_rows(), fields,
                                                metadata, chunk_counts, arrays,
                                                buffer_refs, buffers, checksums, parts),
                  format::TableDescriptorIdentifier());
}

}  // namespace

ColumnChunks ChunksOf(const arrow::Table& table) {
  ColumnChunks columns(static_cast<size_t>(table.num_columns()));
  for (size_t i = 0; i < columns.size(); ++i) {
    for (const auto& chunk : table.column(static_cast<int>(i))->chunks()) {
      columns[i].push_back(chunk->data());
    }
  }
  return columns;
}

Status Check(const arrow::Schema& schema, const ColumnChunks& columns, int64_t num_rows) {
  ArrayFlattener flattener(
      [](const uint8_t* /*address*/, int64_t /*size_bytes*/) { return GlobalAddress{}; });
  ARROW_RETURN_NOT_OK(flattener.AddColumns(schema, columns));
  return CheckArrays(schema, num_rows, flattener.tree(), ChunkNulls::kMayBeUnknown)
      .status();
}

arrow::Result<std::shared_ptr<arrow::Buffer>> Encode(const arrow::Table& table,
                                                     const LocateFn& locate,
                                                     const ChecksumFn& checksum,
                                                     const std::vector<Part>& parts) {
  const arrow::Schema& schema = *table.schema();
  if (!schema.is_native_endian()) {
    return Status::NotImplemented("tables of another byte order");
  }
  flatbuffers::FlatBufferBuilder builder;
  std::vector<FieldNodeOffset> fields;
  ARROW_RETURN_NOT_OK(EncodeFields(schema, &builder, &fields));
  ARROW_ASSIGN_OR_RAISE(const auto metadata,
                        EncodeMetadata(schema.metadata().get(), &builder));

  ArrayFlattener flattener(locate, checksum);
  ARROW_RETURN_NOT_OK(flattener.AddColumns(schema, ChunksOf(table)));
  ArrayTree tree = flattener.tree();
  ARROW_RETURN_NOT_OK(CheckArrays(schema, table.num_rows(), tree, ChunkNulls::kKnown));
  std::vector<format::TablePart> stored_parts;
  stored_parts.reserve(parts.size());
  for (const Part& part : parts) {
    stored_parts.emplace_back(part.num_rows, part.put, part.segment.value, 0);
  }
  tree.parts = stored_parts;
  const auto any_segment = [](SegmentId) { return std::optional<uint64_t>(0); };
  ARROW_RETURN_NOT_OK(CheckParts(tree.parts, table.num_rows(), any_segment));

  Build(table, tree, fields, metadata, &builder);
  if (builder.GetSize() > static_cast<size_t>(kDescriptorSizeMax)) {
    return Status::CapacityError("the descriptor takes ", builder.GetSize(), " bytes, ",
                                 kDescriptorSizeMax, " are allowed");
  }
  return std::make_shared<BuiltBuffer>(builder.Release());
}

}  // namespace sheaf::codec
