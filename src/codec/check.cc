#include "codec/check.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type.h>

#include "base/math.h"
#include "codec/codec.h"
#include "codec/layout.h"
#include "sheaf/types.h"

namespace sheaf::codec {

using arrow::Status;

namespace {

constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();
constexpr int64_t kUnknown = -1;

/// An array whose children are not all checked yet.
struct OpenArray {
  const arrow::DataType* storage;
  const format::ArrayNode* node;
  Layout layout;
  int next_child = 0;
  bool has_validity = false;
  int64_t run_ends_length = 0;

  int64_t end() const { return node->offset() + node->length(); }
  /// An array of type null has them whatever its null count says.
  bool may_have_nulls() const {
    return storage->id() == arrow::Type::NA ? node->length() > 0
                                            : has_validity && node->null_count() != 0;
  }
};

int64_t RunEndMax(const arrow::DataType& run_end_type) {
  switch (run_end_type.id()) {
    case arrow::Type::INT16:
      return std::numeric_limits<int16_t>::max();
    case arrow::Type::INT32:
      return std::numeric_limits<int32_t>::max();
    default:
      return kInt64Max;
  }
}

Status CheckNumbers(const OpenArray& array) {
  const format::ArrayNode& node = *array.node;
  if (node.length() < 0 || node.offset() < 0 ||
      node.offset() > kInt64Max - node.length()) {
    return Status::Invalid("impossible length ", node.length(), " at offset ",
                           node.offset());
  }
  if (node.null_count() < kUnknown || node.null_count() > node.length()) {
    return Status::Invalid("null count ", node.null_count(), " of ", node.length(),
                           " elements");
  }
  if (node.child_count() != static_cast<uint32_t>(array.layout.child_count)) {
    return Status::Invalid(node.child_count(), " children, type ",
                           array.storage->ToString(), " has ", array.layout.child_count);
  }
  const auto buffer_count = static_cast<uint32_t>(array.layout.buffer_count);
  if (node.buffer_count() < buffer_count ||
      (node.buffer_count() > buffer_count && !array.layout.variadic)) {
    return Status::Invalid(node.buffer_count(), " buffers, type ",
                           array.storage->ToString(), " has ", buffer_count);
  }
  if (array.storage->id() == arrow::Type::RUN_END_ENCODED &&
      array.end() > RunEndMax(ChildTypeOf(*array.storage, 0))) {
    return Status::Invalid("offset and length of ", array.end(),
                           " exceed what a run end can tell");
  }
  return Status::OK();
}

/// \param size bytes of the buffer, or nothing if it is absent
Status CheckBuffer(const OpenArray& array, uint32_t index, std::optional<int64_t> size) {
  const BufferSpec spec = array.layout.buffer(index);
  if (spec.kind == BufferKind::kAbsent) {
    if (!size) return Status::OK();
    return Status::Invalid("buffer ", index, " must be absent");
  }
  if (!size) {
    if (MayBeAbsent(spec)) return Status::OK();
    return Status::Invalid("buffer ", index, " must not be absent");
  }
  // Also of arrays without elements: kernels look at their offset all the same.
  const std::optional<int64_t> needed = BytesFor(spec, array.end());
  if (!needed || *needed > *size) {
    return Status::Invalid("buffer ", index, " has ", *size, " bytes, ",
                           needed.value_or(kInt64Max), " are needed for offset ",
                           array.node->offset(), " and length ", array.node->length());
  }
  return Status::OK();
}

Status CheckNulls(const OpenArray& array) {
  const int64_t null_count = array.node->null_count();
  if (null_count <= 0 || array.has_validity || array.storage->id() == arrow::Type::NA) {
    return Status::OK();
  }
  return Status::Invalid("null count ", null_count, " without a validity bitmap");
}

/// What the type of `parent` demands of its child.
Status CheckAgainstParent(const OpenArray& parent, const OpenArray& child) {
  const int64_t length = child.node->length();
  int64_t needed = 0;
  switch (parent.layout.child_rule) {
    case ChildRule::kFree:
      break;
    case ChildRule::kCovers:
      needed = parent.end();
      break;
    case ChildRule::kCoversLists:
      if (__builtin_mul_overflow(parent.end(), parent.layout.list_size, &needed)) {
        return Status::Invalid("lists of ", parent.layout.list_size, " elements times ",
                               parent.end(), " overflow");
      }
      break;
    case ChildRule::kRunEnds:
      needed = parent.next_child == 0 ? (parent.node->length() > 0 ? 1 : 0)
                                      : parent.run_ends_length;
      if (parent.next_child == 0 && child.node->null_count() > 0) {
        return Status::Invalid("run ends have ", child.node->null_count(), " nulls");
      }
      break;
    case ChildRule::kMapEntries:
      if (child.may_have_nulls()) return Status::Invalid("entries of a map have nulls");
      break;
  }
  if (length >= needed) return Status::OK();
  return Status::Invalid("length ", length, ", ", needed,
                         " elements are needed for the array around it");
}

class ArrayChecker {
 public:
  ArrayChecker(const arrow::Schema& schema, const ArrayTree& tree, ChunkNulls chunk_nulls,
               const VisitRefFn& visit)
      : schema_(schema), tree_(tree), chunk_nulls_(chunk_nulls), visit_(visit) {}

  arrow::Result<std::vector<TreePosition>> Run(int64_t num_rows) {
    const auto num_columns = static_cast<size_t>(schema_.num_fields());
    if (tree_.chunk_counts.size() != num_columns) {
      return Status::Invalid("chunk counts of ", tree_.chunk_counts.size(),
                             " columns, the schema has ", num_columns);
    }
    if (num_rows < 0) return Status::Invalid("number of rows is ", num_rows);
    std::vector<TreePosition> starts;
    starts.reserve(num_columns + 1);
    for (column_ = 0; column_ < schema_.num_fields(); ++column_) {
      starts.push_back(position_);
      const Status status = CheckColumn(num_rows);
      if (!status.ok()) return Place(status);
    }
    starts.push_back(position_);
    if (position_.array != tree_.arrays.size() ||
        position_.buffer_ref != tree_.buffer_refs.size()) {
      return Status::Invalid("arrays or buffers that belong to no column: ",
                             tree_.arrays.size() - position_.array, " and ",
                             tree_.buffer_refs.size() - position_.buffer_ref);
    }
    return starts;
  }

 private:
  Status CheckColumn(int64_t num_rows) {
    const arrow::DataType& type = *schema_.field(column_)->type();
    const uint32_t chunk_count = tree_.chunk_counts[static_cast<size_t>(column_)];
    int64_t rows = 0;
    for (chunk_ = 0; chunk_ < chunk_count; ++chunk_) {
      ARROW_RETURN_NOT_OK(Open(type));
      const OpenArray& chunk = stack_.front();
      if (chunk.node->null_count() == kUnknown && chunk.has_validity &&
          chunk_nulls_ == ChunkNulls::kKnown) {
        // `arrow::ChunkedArray` would count at once, and so read data that may be stale.
        return Status::Invalid("null count of a chunk is not known");
      }
      if (chunk.node->length() > num_rows - rows) {
        return Status::Invalid("chunks have more than the table's ", num_rows, " rows");
      }
      rows += chunk.node->length();
      ARROW_RETURN_NOT_OK(CheckBelow());
    }
    if (rows == num_rows) return Status::OK();
    return Status::Invalid("chunks have ", rows, " rows, the table ", num_rows);
  }

  /// Finishes what is on the stack.
  Status CheckBelow() {
    while (!stack_.empty()) {
      const OpenArray& top = stack_.back();
      if (top.next_child == top.layout.child_count) {
        stack_.pop_back();
        if (!stack_.empty()) ++stack_.back().next_child;
        continue;
      }
      if (stack_.size() >= static_cast<size_t>(kNestingMax)) {
        return Status::Invalid("nested more than ", kNestingMax, " levels deep");
      }
      ARROW_RETURN_NOT_OK(Open(ChildTypeOf(*top.storage, top.next_child)));
    }
    return Status::OK();
  }

  /// Takes the next node, checks it and puts it on the stack.
  Status Open(const arrow::DataType& type) {
    if (position_.array == tree_.arrays.size())
      return Status::Invalid("array is missing");
    OpenArray array{&StorageOf(type), &tree_.arrays[position_.array++], {}};
    ARROW_ASSIGN_OR_RAISE(array.layout, LayoutOf(*array.storage));
    Status status = CheckOne(&array);
    if (status.ok() && !stack_.empty()) {
      status = CheckAgainstParent(stack_.back(), array);
      if (status.ok()) status = CheckMapKeys(array);
    }
    if (!stack_.empty()) stack_.back().run_ends_length = array.node->length();
    stack_.push_back(array);
    return status;
  }

  Status CheckOne(OpenArray* array) {
    ARROW_RETURN_NOT_OK(CheckNumbers(*array));
    const uint32_t count = array->node->buffer_count();
    if (count > tree_.buffer_refs.size() - position_.buffer_ref) {
      return Status::Invalid("buffers are missing");
    }
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t ref = tree_.buffer_refs[position_.buffer_ref++];
      if (ref > tree_.buffers.size()) {
        return Status::Invalid("buffer ", i, " is number ", ref, " of ",
                               tree_.buffers.size());
      }
      std::optional<int64_t> size;
      if (ref != 0) size = static_cast<int64_t>(tree_.buffers[ref - 1].size_bytes());
      if (i == 0) array->has_validity = ref != 0;
      ARROW_RETURN_NOT_OK(CheckBuffer(*array, i, size));
      if (visit_ != nullptr && ref != 0) ARROW_RETURN_NOT_OK(Visit(i, ref));
    }
    return CheckNulls(*array);
  }

  Status Visit(uint32_t index, uint32_t ref) const {
    Status status = visit_(ref - 1, column_);
    if (status.ok()) return status;
    return status.WithMessage("buffer ", index, ": ", status.message());
  }

  /// Arrow aborts the process when it makes a map whose keys may be null.
  Status CheckMapKeys(const OpenArray& array) const {
    if (stack_.size() < 2 || !array.may_have_nulls()) return Status::OK();
    const OpenArray& around = stack_[stack_.size() - 2];
    if (around.layout.child_rule == ChildRule::kMapEntries &&
        stack_.back().next_child == 0) {
      return Status::Invalid("keys of a map have nulls");
    }
    return Status::OK();
  }

  Status Place(const Status& status) const {
    std::string path;
    for (size_t i = 0; i + 1 < stack_.size(); ++i) {
      const arrow::DataType& storage = *stack_[i].storage;
      path += i == 0 ? ", field '" : ".";
      path += storage.num_fields() > stack_[i].next_child
                  ? storage.field(stack_[i].next_child)->name()
                  : "dictionary";
    }
    if (!path.empty()) path += "'";
    return status.WithMessage("column ", column_, " '", schema_.field(column_)->name(),
                              "', chunk ", chunk_, path, ": ", status.message());
  }

  const arrow::Schema& schema_;
  const ArrayTree& tree_;
  const ChunkNulls chunk_nulls_;
  const VisitRefFn& visit_;
  TreePosition position_;
  int column_ = 0;
  uint32_t chunk_ = 0;
  std::vector<OpenArray> stack_;
};

}  // namespace

arrow::Result<std::vector<TreePosition>> CheckArrays(const arrow::Schema& schema,
                                                     int64_t num_rows,
                                                     const ArrayTree& tree,
                                                     ChunkNulls chunk_nulls,
                                                     const VisitRefFn& visit) {
  return ArrayChecker(schema, tree, chunk_nulls, visit).Run(num_rows);
}

Status CheckBuffers(std::span<const format::BufferRange> buffers,
                    const SegmentSizeFn& segment_size) {
  std::optional<SegmentId> last;
  std::optional<uint64_t> limit;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const format::BufferRange& buffer = buffers[i];
    if (buffer.reserved() != 0 ||
        (buffer.size_bytes() == 0 && (buffer.segment() != 0 || buffer.offset() != 0))) {
      return Status::Invalid("buffer range ", i, " has bits set that mean nothing");
    }
    if (buffer.size_bytes() == 0) continue;
    const SegmentId segment{buffer.segment()};
    if (last != segment) {
      limit = segment_size(segment);
      last = segment;
    }
    if (!limit) {
      return Status::Invalid("buffer range ", i, " is in segment ", segment.value,
                             ", which there is not");
    }
    if (buffer.size_bytes() > static_cast<uint64_t>(kInt64Max) ||
        !FitsWithin(buffer.offset(), buffer.size_bytes(), *limit)) {
      return Status::Invalid("buffer range ", i, " ", segment.value, ":", buffer.offset(),
                             "+", buffer.size_bytes(), " ends past segment of ", *limit,
                             " bytes");
    }
  }
  return Status::OK();
}

Status CheckChecksums(const ArrayTree& tree) {
  if (!tree.checksums) return Status::OK();
  if (tree.checksums->size() != tree.buffers.size()) {
    return Status::Invalid(tree.checksums->size(), " checksums of ", tree.buffers.size(),
                           " buffers");
  }
  for (size_t i = 0; i < tree.buffers.size(); ++i) {
    if (tree.buffers[i].size_bytes() == 0 && (*tree.checksums)[i] != 0) {
      return Status::Invalid("buffer range ", i, " has no bytes but a checksum");
    }
  }
  return Status::OK();
}

Status CheckParts(std::span<const format::TablePart> parts, int64_t num_rows,
                  const SegmentSizeFn& segment_size) {
  int64_t rows_left = num_rows;
  for (size_t i = 0; i < parts.size(); ++i) {
    const format::TablePart& part = parts[i];
    if (part.reserved() != 0) {
      return Status::Invalid("part ", i, " has bits set that mean nothing");
    }
    if (part.num_rows() < 0 || part.num_rows() > rows_left) {
      return Status::Invalid("part ", i, " has ", part.num_rows(), " rows, of ", num_rows,
                             " of the table ", rows_left, " are left");
    }
    if (!segment_size(SegmentId{part.segment()})) {
      return Status::Invalid("part ", i, " is of segment ", part.segment(),
                             ", which there is not");
    }
    rows_left -= part.num_rows();
  }
  if (parts.empty() || rows_left == 0) return Status::OK();
  return Status::Invalid("the parts have ", num_rows - rows_left, " rows, the table has ",
                         num_rows);
}

}  // namespace sheaf::codec
