#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/c/abi.h>
#include <arrow/c/bridge.h>
#include <arrow/extension_type.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type.h>
#include <arrow/util/checked_cast.h>
#include <arrow/util/key_value_metadata.h>

#include "codec/codec.h"
#include "codec/field_flags.h"
#include "codec/layout.h"
#include "codec/schema_codec.h"

namespace sheaf::codec {

using arrow::Type;
using arrow::internal::checked_cast;
using flatbuffers::FlatBufferBuilder;

namespace {

arrow::Status CheckRoom(const FlatBufferBuilder& builder, size_t more) {
  constexpr auto kMax = static_cast<size_t>(kDescriptorSizeMax);
  if (more <= kMax && builder.GetSize() <= kMax - more) return arrow::Status::OK();
  return arrow::Status::CapacityError(
      "the schema alone exceeds the largest descriptor of ", kDescriptorSizeMax,
      " bytes");
}

arrow::Result<flatbuffers::Offset<flatbuffers::String>> AddString(
    std::string_view text, FlatBufferBuilder* builder) {
  ARROW_RETURN_NOT_OK(CheckRoom(*builder, text.size()));
  return builder->CreateString(text.data(), text.size());
}

arrow::Result<flatbuffers::Offset<flatbuffers::Vector<uint8_t>>> AddBytes(
    std::string_view bytes, FlatBufferBuilder* builder) {
  ARROW_RETURN_NOT_OK(CheckRoom(*builder, bytes.size()));
  return builder->CreateVector(reinterpret_cast<const uint8_t*>(bytes.data()),
                               bytes.size());
}

/// Format of a type without children. What Arrow cannot take back exactly is not written
/// at all.
arrow::Result<std::string> LeafFormatOf(const arrow::DataType& type) {
  ArrowSchema exported;
  ARROW_RETURN_NOT_OK(arrow::ExportType(type, &exported));
  std::string format = exported.format;
  ARROW_ASSIGN_OR_RAISE(auto imported, arrow::ImportType(&exported));
  if (!imported->Equals(type)) {
    return arrow::Status::NotImplemented("type ", type.ToString(),
                                         " cannot be described: its format '", format,
                                         "' stands for ", imported->ToString());
  }
  return format;
}

std::string UnionFormatOf(const arrow::UnionType& type) {
  std::string format = type.mode() == arrow::UnionMode::DENSE ? "+ud:" : "+us:";
  for (const int8_t code : type.type_codes()) {
    if (format.back() != ':') format += ',';
    format += std::to_string(code);
  }
  return format;
}

arrow::Result<std::string> FormatOf(const arrow::DataType& type) {
  switch (type.id()) {
    case Type::LIST:
      return "+l";
    case Type::LARGE_LIST:
      return "+L";
    case Type::LIST_VIEW:
      return "+vl";
    case Type::LARGE_LIST_VIEW:
      return "+vL";
    case Type::FIXED_SIZE_LIST:
      return "+w:" + std::to_string(
                         checked_cast<const arrow::FixedSizeListType&>(type).list_size());
    case Type::STRUCT:
      return "+s";
    case Type::MAP:
      return "+m";
    case Type::SPARSE_UNION:
    case Type::DENSE_UNION:
      return UnionFormatOf(checked_cast<const arrow::UnionType&>(type));
    case Type::RUN_END_ENCODED:
      return "+r";
    case Type::DICTIONARY:
      return LeafFormatOf(*checked_cast<const arrow::DictionaryType&>(type).index_type());
    default:
      return LeafFormatOf(type);
  }
}

uint32_t FlagsOf(const arrow::DataType& type, bool nullable) {
  uint32_t flags = nullable ? kFieldNullable : 0;
  if (type.id() == Type::DICTIONARY) {
    flags |= kFieldHasDictionary;
    if (checked_cast<const arrow::DictionaryType&>(type).ordered()) {
      flags |= kFieldDictionaryOrdered;
    }
  }
  if (type.id() == Type::MAP && checked_cast<const arrow::MapType&>(type).keys_sorted()) {
    flags |= kFieldMapKeysSorted;
  }
  return flags;
}

class FieldEncoder {
 public:
  FieldEncoder(FlatBufferBuilder* builder, std::vector<FieldNodeOffset>* nodes)
      : builder_(builder), nodes_(nodes) {}

  arrow::Status Add(const arrow::Field& field, int depth) {
    return AddNode(*field.type(), field.name(), field.nullable(), field.metadata().get(),
                   depth);
  }

 private:
  arrow::Status AddNode(const arrow::DataType& type, std::string_view name, bool nullable,
                        const arrow::KeyValueMetadata* metadata, int depth) {
    if (depth > kNestingMax) {
      return arrow::Status::Invalid("nested more than ", kNestingMax, " levels deep");
    }
    const arrow::DataType& storage = StorageOf(type);
    ARROW_RETURN_NOT_OK(LayoutOf(storage));
    ARROW_ASSIGN_OR_RAISE(const std::string format, FormatOf(storage));

    ARROW_ASSIGN_OR_RAISE(const auto format_offset, AddString(format, builder_));
    ARROW_ASSIGN_OR_RAISE(const auto name_offset, AddString(name, builder_));
    ARROW_ASSIGN_OR_RAISE(const auto metadata_offset, EncodeMetadata(metadata, builder_));
    flatbuffers::Offset<flatbuffers::String> extension_name;
    flatbuffers::Offset<flatbuffers::Vector<uint8_t>> extension_data;
    if (type.id() == Type::EXTENSION) {
      const auto& extension = checked_cast<const arrow::ExtensionType&>(type);
      ARROW_ASSIGN_OR_RAISE(extension_name,
                            AddString(extension.extension_name(), builder_));
      ARROW_ASSIGN_OR_RAISE(extension_data, AddBytes(extension.Serialize(), builder_));
    }
    nodes_->push_back(format::CreateFieldNode(
        *builder_, format_offset, name_offset, FlagsOf(storage, nullable),
        static_cast<uint32_t>(storage.num_fields()), metadata_offset, extension_name,
        extension_data));
    return AddChildren(storage, depth + 1);
  }

  arrow::Status AddChildren(const arrow::DataType& storage, int depth) {
    for (const auto& field : storage.fields()) ARROW_RETURN_NOT_OK(Add(*field, depth));
    if (storage.id() != Type::DICTIONARY) return arrow::Status::OK();
    const auto& values = checked_cast<const arrow::DictionaryType&>(storage).value_type();
    return AddNode(*values, /*name=*/"", /*nullable=*/true, /*metadata=*/nullptr, depth);
  }

  FlatBufferBuilder* builder_;
  std::vector<FieldNodeOffset>* nodes_;
};

}  // namespace

arrow::Status EncodeFields(const arrow::Schema& schema, FlatBufferBuilder* builder,
                           std::vector<FieldNodeOffset>* nodes) {
  FieldEncoder encoder(builder, nodes);
  for (int i = 0; i < schema.num_fields(); ++i) {
    const arrow::Status status = encoder.Add(*schema.field(i), /*depth=*/1);
    if (!status.ok()) {
      return status.WithMessage("column ", i, " '", schema.field(i)->name(),
                                "': ", status.message());
    }
  }
  return arrow::Status::OK();
}

arrow::Result<KeyValueOffsets> EncodeMetadata(const arrow::KeyValueMetadata* metadata,
                                              FlatBufferBuilder* builder) {
  if (metadata == nullptr) return KeyValueOffsets();
  std::vector<flatbuffers::Offset<format::KeyValue>> pairs;
  for (int64_t i = 0; i < metadata->size(); ++i) {
    ARROW_ASSIGN_OR_RAISE(const auto key, AddBytes(metadata->key(i), builder));
    ARROW_ASSIGN_OR_RAISE(const auto value, AddBytes(metadata->value(i), builder));
    pairs.push_back(format::CreateKeyValue(*builder, key, value));
  }
  return builder->CreateVector(pairs);
}

}  // namespace sheaf::codec
