#include "codec/layout.h"

#include <cstdint>
#include <limits>
#include <optional>

#include <arrow/extension_type.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type.h>
#include <arrow/util/checked_cast.h>

#include "base/check.h"

namespace sheaf::codec {

using arrow::Type;
using arrow::internal::checked_cast;

namespace {

constexpr BufferSpec kValidity{BufferKind::kValidity, 0};
constexpr BufferSpec kAbsent{BufferKind::kAbsent, 0};
constexpr BufferSpec kBytes{BufferKind::kBytes, 0};
constexpr BufferSpec kBits{BufferKind::kBits, 0};
constexpr int64_t kViewSize = 16;

constexpr BufferSpec Fixed(int64_t width) { return {BufferKind::kFixed, width}; }
constexpr BufferSpec Offsets(int64_t width) { return {BufferKind::kOffsets, width}; }

Layout Flat(BufferSpec values) {
  return {.buffer_count = 2, .buffers = {kValidity, values}};
}

Layout Binary(int64_t offset_width) {
  return {.buffer_count = 3, .buffers = {kValidity, Offsets(offset_width), kBytes}};
}

Layout Views() {
  return {.buffer_count = 2, .variadic = true, .buffers = {kValidity, Fixed(kViewSize)}};
}

Layout List(int64_t offset_width, ChildRule rule = ChildRule::kFree) {
  return {.buffer_count = 2,
          .buffers = {kValidity, Offsets(offset_width)},
          .child_rule = rule};
}

Layout ListView(int64_t width) {
  return {.buffer_count = 3, .buffers = {kValidity, Fixed(width), Fixed(width)}};
}

/// Layouts that do not depend on the type's parameters; `child_count` is not yet filled
/// in.
arrow::Result<Layout> NestedLayoutOf(const arrow::DataType& storage) {
  switch (storage.id()) {
    case Type::LIST:
      return List(sizeof(int32_t));
    case Type::LARGE_LIST:
      return List(sizeof(int64_t));
    case Type::MAP:
      return List(sizeof(int32_t), ChildRule::kMapEntries);
    case Type::LIST_VIEW:
      return ListView(sizeof(int32_t));
    case Type::LARGE_LIST_VIEW:
      return ListView(sizeof(int64_t));
    case Type::FIXED_SIZE_LIST:
      return Layout{
          .buffer_count = 1,
          .buffers = {kValidity},
          .child_rule = ChildRule::kCoversLists,
          .list_size =
              checked_cast<const arrow::FixedSizeListType&>(storage).list_size()};
    case Type::STRUCT:
      return Layout{
          .buffer_count = 1, .buffers = {kValidity}, .child_rule = ChildRule::kCovers};
    case Type::SPARSE_UNION:
      return Layout{.buffer_count = 2,
                    .buffers = {kAbsent, Fixed(sizeof(int8_t))},
                    .child_rule = ChildRule::kCovers};
    case Type::DENSE_UNION:
      return Layout{.buffer_count = 3,
                    .buffers = {kAbsent, Fixed(sizeof(int8_t)), Fixed(sizeof(int32_t))}};
    case Type::RUN_END_ENCODED:
      return Layout{
          .buffer_count = 1, .buffers = {kAbsent}, .child_rule = ChildRule::kRunEnds};
    default:
      return arrow::Status::NotImplemented("type ", storage.ToString(), " (id ",
                                           static_cast<int>(storage.id()),
                                           ") is not known to this version of sheaf");
  }
}

arrow::Result<Layout> LayoutWithoutChildren(const arrow::DataType& storage) {
  switch (storage.id()) {
    case Type::NA:
      return Layout{.buffer_count = 1, .buffers = {kAbsent}};
    case Type::BOOL:
      return Flat(kBits);
    case Type::UINT8:
    case Type::INT8:
      return Flat(Fixed(1));
    case Type::UINT16:
    case Type::INT16:
    case Type::HALF_FLOAT:
      return Flat(Fixed(2));
    case Type::UINT32:
    case Type::INT32:
    case Type::FLOAT:
    case Type::DATE32:
    case Type::TIME32:
    case Type::INTERVAL_MONTHS:
    case Type::DECIMAL32:
      return Flat(Fixed(4));
    case Type::UINT64:
    case Type::INT64:
    case Type::DOUBLE:
    case Type::DATE64:
    case Type::TIME64:
    case Type::TIMESTAMP:
    case Type::DURATION:
    case Type::INTERVAL_DAY_TIME:
    case Type::DECIMAL64:
      return Flat(Fixed(8));
    case Type::INTERVAL_MONTH_DAY_NANO:
    case Type::DECIMAL128:
      return Flat(Fixed(16));
    case Type::DECIMAL256:
      return Flat(Fixed(32));
    case Type::FIXED_SIZE_BINARY:
      return Flat(
          Fixed(checked_cast<const arrow::FixedSizeBinaryType&>(storage).byte_width()));
    case Type::STRING:
    case Type::BINARY:
      return Binary(sizeof(int32_t));
    case Type::LARGE_STRING:
    case Type::LARGE_BINARY:
      return Binary(sizeof(int64_t));
    case Type::STRING_VIEW:
    case Type::BINARY_VIEW:
      return Views();
    case Type::DICTIONARY:
      return LayoutWithoutChildren(
          *checked_cast<const arrow::DictionaryType&>(storage).index_type());
    default:
      return NestedLayoutOf(storage);
  }
}

}  // namespace

const arrow::DataType& StorageOf(const arrow::DataType& type) {
  // NOLINTNEXTLINE(bugprone-return-const-ref-from-parameter): types live in schemas
  if (type.id() != Type::EXTENSION) return type;
  return *checked_cast<const arrow::ExtensionType&>(type).storage_type();
}

arrow::Result<Layout> LayoutOf(const arrow::DataType& storage) {
  ARROW_ASSIGN_OR_RAISE(Layout layout, LayoutWithoutChildren(storage));
  layout.child_count = storage.num_fields() + (storage.id() == Type::DICTIONARY ? 1 : 0);
  return layout;
}

const arrow::DataType& ChildTypeOf(const arrow::DataType& storage, int index) {
  if (storage.id() == Type::DICTIONARY) {
    return *checked_cast<const arrow::DictionaryType&>(storage).value_type();
  }
  SHEAF_DCHECK(index < storage.num_fields());
  return *storage.field(index)->type();
}

std::optional<int64_t> BytesFor(const BufferSpec& spec, int64_t elements) {
  switch (spec.kind) {
    case BufferKind::kValidity:
    case BufferKind::kBits:
      return elements / 8 + (elements % 8 != 0 ? 1 : 0);
    case BufferKind::kOffsets:
      if (elements == std::numeric_limits<int64_t>::max()) return std::nullopt;
      ++elements;
      break;
    case BufferKind::kFixed:
      break;
    case BufferKind::kBytes:
    case BufferKind::kAbsent:
      return 0;
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(elements, spec.width, &bytes)) return std::nullopt;
  return bytes;
}

}  // namespace sheaf::codec
