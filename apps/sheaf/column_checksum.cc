#include "apps/sheaf/column_checksum.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/array_binary.h>
#include <arrow/array/array_dict.h>
#include <arrow/array/array_nested.h>
#include <arrow/array/array_primitive.h>
#include <arrow/array/array_run_end.h>
#include <arrow/chunked_array.h>
#include <arrow/extension_type.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type.h>

#include "base/math.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sheaf::cli {
namespace {

template <typename T>
const T& As(const arrow::Array& array) {
  return static_cast<const T&>(array);
}

int64_t RunEnd(const arrow::Array& run_ends, int64_t run) {
  switch (run_ends.type_id()) {
    case arrow::Type::INT16:
      return As<arrow::Int16Array>(run_ends).Value(run);
    case arrow::Type::INT32:
      return As<arrow::Int32Array>(run_ends).Value(run);
    default:
      return As<arrow::Int64Array>(run_ends).Value(run);
  }
}

// The values at one place of a nested type, over all chunks. What stands for other values
// (dictionaries, run ends, extensions) has no place of its own.
class ValueHash {
 public:
  ValueHash() { XXH3_64bits_reset(&state_); }

  arrow::Status Add(const arrow::Array& array, int64_t begin, int64_t length) {
    switch (array.type_id()) {
      case arrow::Type::NA:
        CountRun(/*valid=*/false, length);
        return arrow::Status::OK();
      case arrow::Type::DICTIONARY:
        return AddMeant(As<arrow::DictionaryArray>(array), begin, length);
      case arrow::Type::RUN_END_ENCODED:
        return AddRuns(As<arrow::RunEndEncodedArray>(*array.Slice(begin, length)));
      case arrow::Type::EXTENSION:
        return Add(*As<arrow::ExtensionArray>(array).storage(), begin, length);
      case arrow::Type::SPARSE_UNION:
      case arrow::Type::DENSE_UNION:
        return AddChosen(As<arrow::UnionArray>(array), begin, length);
      default:
        break;
    }
    const int64_t end = begin + length;
    for (int64_t i = begin, run_end; i < end; i = run_end) {
      const bool valid = array.IsValid(i);
      run_end = array.null_count() == 0 ? end : i + 1;
      while (run_end < end && array.IsValid(run_end) == valid) ++run_end;
      CountRun(valid, run_end - i);
      if (valid) ARROW_RETURN_NOT_OK(AddValid(array, i, run_end - i));
    }
    return arrow::Status::OK();
  }

  uint64_t Finish() {
    CountRun(!run_is_valid_, 0);
    for (const auto& child : children_) AddWord(child->Finish());
    return XXH3_64bits_digest(&state_);
  }

 private:
  void AddBytes(const void* data, int64_t size) {
    if (size > 0) XXH3_64bits_update(&state_, data, CheckedCast<size_t>(size));
  }
  void AddWord(uint64_t word) { AddBytes(&word, sizeof(word)); }

  // A run is told when it ends, wherever chunks end.
  void CountRun(bool valid, int64_t length) {
    if (valid != run_is_valid_) {
      AddWord(CheckedCast<uint64_t>(run_length_));
      run_is_valid_ = valid;
      run_length_ = 0;
    }
    run_length_ += length;
  }

  ValueHash& Child(int index) {
    while (children_.size() <= static_cast<size_t>(index)) {
      children_.push_back(std::make_unique<ValueHash>());
    }
    return *children_[static_cast<size_t>(index)];
  }

  arrow::Status AddMeant(const arrow::DictionaryArray& array, int64_t begin,
                         int64_t length) {
    const arrow::Array& dictionary = *array.dictionary();
    for (int64_t i = begin; i < begin + length; ++i) {
      if (array.IsNull(i)) {
        CountRun(/*valid=*/false, 1);
      } else {
        ARROW_RETURN_NOT_OK(Add(dictionary, array.GetValueIndex(i), 1));
      }
    }
    return arrow::Status::OK();
  }

  arrow::Status AddRuns(const arrow::RunEndEncodedArray& array) {
    ARROW_ASSIGN_OR_RAISE(const auto ends,
                          array.LogicalRunEnds(arrow::default_memory_pool()));
    const auto values = array.LogicalValues();
    for (int64_t run = 0, i = 0; run < ends->length(); ++run) {
      for (const int64_t end = RunEnd(*ends, run); i < end; ++i) {
        ARROW_RETURN_NOT_OK(Add(*values, run, 1));
      }
    }
    return arrow::Status::OK();
  }

  arrow::Status AddChosen(const arrow::UnionArray& array, int64_t begin, int64_t length) {
    const bool dense = array.type_id() == arrow::Type::DENSE_UNION;
    CountRun(/*valid=*/true, length);
    for (int64_t i = begin; i < begin + length; ++i) {
      AddBytes(array.raw_type_codes() + i, sizeof(int8_t));
      const int chosen = array.child_id(i);
      const int64_t at = dense ? As<arrow::DenseUnionArray>(array).value_offset(i) : i;
      ARROW_RETURN_NOT_OK(Child(chosen).Add(*array.field(chosen), at, 1));
    }
    return arrow::Status::OK();
  }

  template <typename ArrayType>
  arrow::Status AddText(const arrow::Array& array, int64_t begin, int64_t length) {
    for (int64_t i = begin; i < begin + length; ++i) {
      const std::string_view text = As<ArrayType>(array).GetView(i);
      AddWord(text.size());
      AddBytes(text.data(), CheckedCast<int64_t>(text.size()));
    }
    return arrow::Status::OK();
  }

  template <typename ArrayType>
  arrow::Status AddLists(const arrow::Array& array, int64_t begin, int64_t length) {
    const auto& lists = As<ArrayType>(array);
    for (int64_t i = begin; i < begin + length; ++i) {
      const int64_t size = lists.value_length(i);
      AddWord(CheckedCast<uint64_t>(size));
      ARROW_RETURN_NOT_OK(Child(0).Add(*lists.values(), lists.value_offset(i), size));
    }
    return arrow::Status::OK();
  }

  arrow::Status AddFixedWidth(const arrow::Array& array, int64_t begin, int64_t length) {
    const int64_t width = array.type()->byte_width();
    if (width > 0) {
      const uint8_t* values = array.data()->buffers[1]->data();
      AddBytes(values + (array.offset() + begin) * width, length * width);
    }
    return arrow::Status::OK();
  }

  arrow::Status AddValid(const arrow::Array& array, int64_t begin, int64_t length) {
    switch (array.type_id()) {
      case arrow::Type::BOOL:
        for (int64_t i = begin; i < begin + length; ++i) {
          const bool value = As<arrow::BooleanArray>(array).Value(i);
          AddBytes(&value, sizeof(value));
        }
        return arrow::Status::OK();
      case arrow::Type::STRING:
      case arrow::Type::BINARY:
        return AddText<arrow::BinaryArray>(array, begin, length);
      case arrow::Type::LARGE_STRING:
      case arrow::Type::LARGE_BINARY:
        return AddText<arrow::LargeBinaryArray>(array, begin, length);
      case arrow::Type::STRING_VIEW:
      case arrow::Type::BINARY_VIEW:
        return AddText<arrow::BinaryViewArray>(array, begin, length);
      case arrow::Type::LIST:
      case arrow::Type::MAP:
        return AddLists<arrow::ListArray>(array, begin, length);
      case arrow::Type::LARGE_LIST:
        return AddLists<arrow::LargeListArray>(array, begin, length);
      case arrow::Type::LIST_VIEW:
        return AddLists<arrow::ListViewArray>(array, begin, length);
      case arrow::Type::LARGE_LIST_VIEW:
        return AddLists<arrow::LargeListViewArray>(array, begin, length);
      case arrow::Type::FIXED_SIZE_LIST:
        return AddLists<arrow::FixedSizeListArray>(array, begin, length);
      case arrow::Type::STRUCT:
        for (int k = 0; k < array.num_fields(); ++k) {
          ARROW_RETURN_NOT_OK(
              Child(k).Add(*As<arrow::StructArray>(array).field(k), begin, length));
        }
        return arrow::Status::OK();
      default:
        return AddFixedWidth(array, begin, length);
    }
  }

  XXH3_state_t state_;
  bool run_is_valid_ = true;
  int64_t run_length_ = 0;
  std::vector<std::unique_ptr<ValueHash>> children_;
};

}  // namespace

arrow::Result<uint64_t> ColumnChecksum(const arrow::ChunkedArray& column) {
  ValueHash hash;
  for (const auto& chunk : column.chunks()) {
    ARROW_RETURN_NOT_OK(hash.Add(*chunk, 0, chunk->length()));
  }
  return hash.Finish();
}

}  // namespace sheaf::cli
