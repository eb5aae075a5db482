#include "testing/random_array.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/data.h>
#include <arrow/buffer.h>
#include <arrow/extension_type.h>
#include <arrow/memory_pool.h>
#include <arrow/type.h>
#include <arrow/type_traits.h>
#include <arrow/util/bit_util.h>
#include <arrow/util/checked_cast.h>

#include "base/check.h"

namespace sheaf::testing {

using arrow::Type;
using arrow::internal::checked_cast;

namespace {

using ArrayDataPtr = std::shared_ptr<arrow::ArrayData>;
using BufferPtr = std::shared_ptr<arrow::Buffer>;
using TypePtr = std::shared_ptr<arrow::DataType>;

constexpr int64_t kDayMs = 86'400'000;

class ArrayMaker {
 public:
  ArrayMaker(Random* random, arrow::MemoryPool* pool) : random_(*random), pool_(pool) {}

  ArrayDataPtr Make(const TypePtr& type, int64_t length, Nulls nulls) {
    if (type->id() == Type::EXTENSION) {
      const auto& extension = checked_cast<const arrow::ExtensionType&>(*type);
      auto data = Make(extension.storage_type(), length, nulls);
      data->type = type;
      return data;
    }
    auto data = std::make_shared<arrow::ArrayData>(type, length, /*null_count=*/0);
    data->buffers = {nullptr};
    if (type->id() == Type::NA) {
      data->null_count = length;
      return data;
    }
    const bool has_bitmap = type->id() != Type::SPARSE_UNION &&
                            type->id() != Type::DENSE_UNION &&
                            type->id() != Type::RUN_END_ENCODED;
    if (has_bitmap && nulls != Nulls::kNone) AddValidity(nulls, data.get());
    AddContents(nulls, data.get());
    return data;
  }

 private:
  BufferPtr Allocate(int64_t size) {
    BufferPtr buffer = arrow::AllocateBuffer(size, pool_).ValueOrDie();
    std::memset(buffer->mutable_data(), 0, static_cast<size_t>(size));
    return buffer;
  }

  template <typename Value, typename Make>
  BufferPtr Values(int64_t count, Make&& make) {
    BufferPtr buffer = Allocate(count * static_cast<int64_t>(sizeof(Value)));
    auto* values = buffer->mutable_data_as<Value>();
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<Value>(make(i));
    return buffer;
  }

  BufferPtr RandomBytes(int64_t size) {
    return Values<uint8_t>(size, [&](int64_t) { return random_.Below(256); });
  }

  void AddValidity(Nulls nulls, arrow::ArrayData* data) {
    data->buffers[0] = Allocate(arrow::bit_util::BytesForBits(data->length));
    int64_t null_count = 0;
    for (int64_t i = 0; i < data->length; ++i) {
      const bool is_null = nulls == Nulls::kAll || random_.OneIn(4);
      null_count += is_null ? 1 : 0;
      arrow::bit_util::SetBitTo(data->buffers[0]->mutable_data(), i, !is_null);
    }
    data->null_count = null_count;
  }

  /// A child that may start in the middle of its buffers.
  ArrayDataPtr Child(const TypePtr& type, int64_t length, Nulls nulls) {
    const int64_t offset = random_.OneIn(2) ? random_.Below(70) : 0;
    return Make(type, offset + length, nulls)->Slice(offset, length);
  }

  /// An integer of the type's width that it allows.
  BufferPtr Integers(const arrow::DataType& type, int64_t count) {
    switch (type.byte_width()) {
      case 1:
        return RandomBytes(count);
      case 2:
        return Values<int16_t>(count, [&](int64_t) { return Integer(type); });
      case 4:
        return Values<int32_t>(count, [&](int64_t) { return Integer(type); });
      default:
        return Values<int64_t>(count, [&](int64_t) { return Integer(type); });
    }
  }

  int64_t Integer(const arrow::DataType& type) {
    switch (type.id()) {
      case Type::HALF_FLOAT:  // All exponents but that of NaN and infinity.
        return random_.Below(0x7C00);
      case Type::DATE64:
        return (random_.Below(40'000) - 20'000) * kDayMs;
      case Type::TIME32:
      case Type::TIME64:
        return random_.Below(86'400);
      default:
        return static_cast<int64_t>(random_.Next());
    }
  }

  BufferPtr Decimals(const arrow::DecimalType& type, int64_t count) {
    const int64_t width = type.byte_width();
    BufferPtr buffer = Allocate(count * width);
    const int64_t limit = type.precision() > 2 ? 1000 : 10;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t value = random_.Below(2 * limit - 1) - limit + 1;
      uint8_t* at = buffer->mutable_data() + i * width;
      std::memset(at, value < 0 ? 0xFF : 0, static_cast<size_t>(width));
      std::memcpy(at, &value, static_cast<size_t>(std::min<int64_t>(width, 8)));
    }
    return buffer;
  }

  /// Valid UTF-8 of about `size` bytes.
  std::string Text(int64_t size) {
    std::string text;
    while (static_cast<int64_t>(text.size()) < size) {
      text += random_.OneIn(8)
                  ? "\xC3\xA9"
                  : std::string(1, static_cast<char>('a' + random_.Below(26)));
    }
    return text;
  }

  BufferPtr FromString(const std::string& bytes) {
    BufferPtr buffer = Allocate(static_cast<int64_t>(bytes.size()));
    if (!bytes.empty()) std::memcpy(buffer->mutable_data(), bytes.data(), bytes.size());
    return buffer;
  }

  template <typename Offset>
  void AddBinary(arrow::ArrayData* data) {
    std::string bytes;
    auto offsets = Values<Offset>(data->length + 1, [&](int64_t i) {
      if (i > 0) bytes += Text(random_.Below(20));
      return bytes.size();
    });
    data->buffers.insert(data->buffers.end(), {std::move(offsets), FromString(bytes)});
  }

  void AddViews(arrow::ArrayData* data) {
    constexpr int kDataBuffers = 2;
    std::string bytes[kDataBuffers];
    BufferPtr views = Allocate(data->length * 16);
    for (int64_t i = 0; i < data->length; ++i) {
      const std::string text = Text(random_.Below(30));
      const auto size = static_cast<int32_t>(text.size());
      uint8_t* view = views->mutable_data() + i * 16;
      std::memcpy(view, &size, 4);
      if (size <= 12) {
        std::copy(text.begin(), text.end(), view + 4);
        continue;
      }
      const auto index = static_cast<int32_t>(random_.Below(kDataBuffers));
      const auto offset = static_cast<int32_t>(bytes[index].size());
      bytes[index] += text;
      std::memcpy(view + 4, text.data(), 4);
      std::memcpy(view + 8, &index, 4);
      std::memcpy(view + 12, &offset, 4);
    }
    data->buffers.push_back(std::move(views));
    for (const std::string& part : bytes) data->buffers.push_back(FromString(part));
  }

  template <typename Offset>
  void AddList(Nulls nulls, arrow::ArrayData* data) {
    int64_t end = 0;
    data->buffers.push_back(Values<Offset>(data->length + 1, [&](int64_t i) {
      if (i > 0) end += random_.Below(4);
      return end;
    }));
    const TypePtr& child = data->type->field(0)->type();
    if (data->type->id() != Type::MAP) {
      data->child_data = {Child(child, end, nulls)};
      return;
    }
    // Entries and keys are never null, and Arrow does not expect entries with an offset.
    auto entries = std::make_shared<arrow::ArrayData>(child, end, /*null_count=*/0);
    entries->buffers = {nullptr};
    entries->child_data = {Make(child->field(0)->type(), end, Nulls::kNone),
                           Child(child->field(1)->type(), end, nulls)};
    data->child_data = {std::move(entries)};
  }

  template <typename Offset>
  void AddListView(Nulls nulls, arrow::ArrayData* data) {
    const int64_t child_length = data->length + 5;
    auto sizes = Values<Offset>(data->length, [&](int64_t) { return random_.Below(4); });
    auto offsets = Values<Offset>(
        data->length, [&](int64_t) { return random_.Below(child_length - 3); });
    data->buffers.insert(data->buffers.end(), {std::move(offsets), std::move(sizes)});
    data->child_data = {Child(data->type->field(0)->type(), child_length, nulls)};
  }

  void AddUnion(Nulls nulls, arrow::ArrayData* data) {
    const auto& type = checked_cast<const arrow::UnionType&>(*data->type);
    const bool dense = type.mode() == arrow::UnionMode::DENSE;
    const auto num_fields = static_cast<size_t>(type.num_fields());
    std::vector<int64_t> lengths(num_fields, dense ? 0 : data->length);
    auto codes = Allocate(data->length);
    auto offsets = dense ? Allocate(data->length * 4) : nullptr;
    SHEAF_CHECK(num_fields > 0 || data->length == 0);
    for (int64_t i = 0; i < data->length; ++i) {
      const auto child = static_cast<size_t>(random_.Below(type.num_fields()));
      codes->mutable_data_as<int8_t>()[i] = type.type_codes()[child];
      if (dense) {
        offsets->mutable_data_as<int32_t>()[i] = static_cast<int32_t>(lengths[child]++);
      }
    }
    data->buffers.push_back(std::move(codes));
    if (dense) data->buffers.push_back(std::move(offsets));
    for (size_t i = 0; i < num_fields; ++i) {
      data->child_data.push_back(
          Child(type.field(static_cast<int>(i))->type(), lengths[i], nulls));
    }
  }

  void AddRuns(Nulls nulls, arrow::ArrayData* data) {
    std::vector<int64_t> ends;
    int64_t end = 0;
    while (end < data->length) {
      end = std::min(end + 1 + random_.Below(9), data->length);
      ends.push_back(end);
    }
    const auto count = static_cast<int64_t>(ends.size());
    const TypePtr& run_end_type = data->type->field(0)->type();
    const auto end_of = [&](int64_t i) { return ends[static_cast<size_t>(i)]; };
    auto run_ends = std::make_shared<arrow::ArrayData>(run_end_type, count, 0);
    run_ends->buffers = {
        nullptr, run_end_type->id() == Type::INT16   ? Values<int16_t>(count, end_of)
                 : run_end_type->id() == Type::INT32 ? Values<int32_t>(count, end_of)
                                                     : Values<int64_t>(count, end_of)};
    data->child_data = {std::move(run_ends),
                        Child(data->type->field(1)->type(), count, nulls)};
  }

  void AddIndices(Nulls nulls, arrow::ArrayData* data) {
    constexpr int64_t kDictionaryLength = 11;
    const auto& type = checked_cast<const arrow::DictionaryType&>(*data->type);
    const auto index = [&](int64_t) { return random_.Below(kDictionaryLength); };
    switch (type.index_type()->byte_width()) {
      case 1:
        data->buffers.push_back(Values<int8_t>(data->length, index));
        break;
      case 2:
        data->buffers.push_back(Values<int16_t>(data->length, index));
        break;
      case 4:
        data->buffers.push_back(Values<int32_t>(data->length, index));
        break;
      default:
        data->buffers.push_back(Values<int64_t>(data->length, index));
    }
    data->dictionary = Child(type.value_type(), kDictionaryLength, nulls);
  }

  void AddContents(Nulls nulls, arrow::ArrayData* data) {
    switch (data->type->id()) {
      case Type::STRING:
      case Type::BINARY:
        return AddBinary<int32_t>(data);
      case Type::LARGE_STRING:
      case Type::LARGE_BINARY:
        return AddBinary<int64_t>(data);
      case Type::STRING_VIEW:
      case Type::BINARY_VIEW:
        return AddViews(data);
      case Type::LIST:
      case Type::MAP:
        return AddList<int32_t>(nulls, data);
      case Type::LARGE_LIST:
        return AddList<int64_t>(nulls, data);
      case Type::LIST_VIEW:
        return AddListView<int32_t>(nulls, data);
      case Type::LARGE_LIST_VIEW:
        return AddListView<int64_t>(nulls, data);
      case Type::FIXED_SIZE_LIST: {
        const auto& type = checked_cast<const arrow::FixedSizeListType&>(*data->type);
        data->child_data = {
            Child(type.value_type(), data->length * type.list_size(), nulls)};
        return;
      }
      case Type::STRUCT:
        for (const auto& field : data->type->fields()) {
          data->child_data.push_back(Child(field->type(), data->length, nulls));
        }
        return;
      case Type::SPARSE_UNION:
      case Type::DENSE_UNION:
        return AddUnion(nulls, data);
      case Type::RUN_END_ENCODED:
        return AddRuns(nulls, data);
      case Type::DICTIONARY:
        return AddIndices(nulls, data);
      default:
        data->buffers.push_back(FlatValues(*data->type, data->length));
    }
  }

  BufferPtr FlatValues(const arrow::DataType& type, int64_t count) {
    switch (type.id()) {
      case Type::BOOL:
        return RandomBytes(arrow::bit_util::BytesForBits(count));
      case Type::FLOAT:
        return Values<float>(count, [&](int64_t) { return random_.Below(1 << 20); });
      case Type::DOUBLE:
        return Values<double>(count, [&](int64_t) { return random_.Below(1 << 20); });
      case Type::DECIMAL32:
      case Type::DECIMAL64:
      case Type::DECIMAL128:
      case Type::DECIMAL256:
        return Decimals(checked_cast<const arrow::DecimalType&>(type), count);
      case Type::FIXED_SIZE_BINARY:
      case Type::INTERVAL_DAY_TIME:
      case Type::INTERVAL_MONTH_DAY_NANO:
        return RandomBytes(count * type.byte_width());
      default:
        SHEAF_CHECK(arrow::is_primitive(type.id()) || type.id() == Type::INTERVAL_MONTHS);
        return Integers(type, count);
    }
  }

  Random& random_;
  arrow::MemoryPool* pool_;
};

}  // namespace

ArrayDataPtr RandomArray(const TypePtr& type, int64_t length, Nulls nulls, Random* random,
                         arrow::MemoryPool* pool) {
  return ArrayMaker(random, pool).Make(type, length, nulls);
}

}  // namespace sheaf::testing
