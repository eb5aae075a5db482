#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/c/abi.h>
#include <arrow/c/bridge.h>
#include <arrow/extension_type.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>

#include "codec/codec.h"
#include "codec/field_flags.h"
#include "codec/layout.h"
#include "codec/schema_codec.h"

namespace sheaf::codec {

using arrow::Status;
using TypePtr = std::shared_ptr<arrow::DataType>;

namespace {

using KeyValues = flatbuffers::Vector<flatbuffers::Offset<format::KeyValue>>;

constexpr char kExtensionNameKey[] = "ARROW:extension:name";
constexpr char kExtensionDataKey[] = "ARROW:extension:metadata";

std::string ToString(const flatbuffers::Vector<uint8_t>* bytes) {
  if (bytes == nullptr) return {};
  return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

size_t SizeOf(const KeyValues* pairs) {
  size_t size = 0;
  if (pairs == nullptr) return size;
  for (const auto* pair : *pairs) {
    size += pair->key() != nullptr ? pair->key()->size() : 0;
    size += pair->value() != nullptr ? pair->value()->size() : 0;
  }
  return size;
}

std::shared_ptr<arrow::KeyValueMetadata> DecodeMetadata(const KeyValues* pairs) {
  if (pairs == nullptr) return nullptr;
  auto metadata = std::make_shared<arrow::KeyValueMetadata>();
  for (const auto* pair : *pairs) {
    metadata->Append(ToString(pair->key()), ToString(pair->value()));
  }
  return metadata;
}

template <typename Integer>
arrow::Result<Integer> ParseInteger(std::string_view text) {
  Integer value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    return Status::Invalid("type format has '", text, "' in place of a number");
  }
  return value;
}

void ReleaseNothing(ArrowSchema* schema) { schema->release = nullptr; }

/// Type without children. Arrow knows whether it knows it.
arrow::Result<TypePtr> ImportLeaf(const flatbuffers::String& format) {
  if (format.string_view().find('\0') != std::string_view::npos) {
    return Status::Invalid("type format has a zero byte");
  }
  ArrowSchema schema{};
  schema.format = format.c_str();
  schema.name = "";
  schema.flags = ARROW_FLAG_NULLABLE;
  schema.release = ReleaseNothing;
  auto imported = arrow::ImportType(&schema);
  if (imported.ok()) return imported;
  return Status::NotImplemented("type format '", format.string_view(),
                                "' is malformed or newer than this Arrow (",
                                imported.status().message(), ")");
}

arrow::Result<TypePtr> MakeUnion(std::string_view format,
                                 const arrow::FieldVector& children) {
  std::vector<int8_t> codes;
  std::string_view rest = format.substr(4);
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    ARROW_ASSIGN_OR_RAISE(const auto code, ParseInteger<int8_t>(rest.substr(0, comma)));
    codes.push_back(code);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  // Not `UnionType::Make`, which checks nothing.
  if (format.starts_with("+ud:")) {
    return arrow::DenseUnionType::Make(children, codes);
  }
  return arrow::SparseUnionType::Make(children, codes);
}

arrow::Result<TypePtr> MakeMap(const std::shared_ptr<arrow::Field>& entries,
                               bool keys_sorted) {
  if (entries->type()->id() != arrow::Type::STRUCT ||
      entries->type()->num_fields() != 2) {
    return Status::Invalid("entries of a map must be a struct of two fields, not ",
                           entries->type()->ToString());
  }
  return std::make_shared<arrow::MapType>(entries, keys_sorted);
}

arrow::Result<TypePtr> MakeRunEndEncoded(const TypePtr& run_ends, const TypePtr& values) {
  if (!arrow::RunEndEncodedType::RunEndTypeValid(*run_ends)) {
    return Status::Invalid("run ends cannot be of type ", run_ends->ToString());
  }
  return arrow::run_end_encoded(run_ends, values);
}

Status CheckChildCount(std::string_view format, size_t actual, size_t expected) {
  if (actual == expected) return Status::OK();
  return Status::Invalid("type format '", format, "' has ", actual, " children, not ",
                         expected);
}

arrow::Result<TypePtr> MakeNested(std::string_view format, bool keys_sorted,
                                  const arrow::FieldVector& children) {
  if (format == "+s") return arrow::struct_(children);
  if (format.starts_with("+us:") || format.starts_with("+ud:")) {
    return MakeUnion(format, children);
  }
  if (format == "+r") {
    ARROW_RETURN_NOT_OK(CheckChildCount(format, children.size(), 2));
    return MakeRunEndEncoded(children[0]->type(), children[1]->type());
  }
  ARROW_RETURN_NOT_OK(CheckChildCount(format, children.size(), 1));
  const auto& child = children[0];
  if (format == "+l") return arrow::list(child);
  if (format == "+L") return arrow::large_list(child);
  if (format == "+vl") return arrow::list_view(child);
  if (format == "+vL") return arrow::large_list_view(child);
  if (format == "+m") return MakeMap(child, keys_sorted);
  if (format.starts_with("+w:")) {
    ARROW_ASSIGN_OR_RAISE(const auto list_size, ParseInteger<int32_t>(format.substr(3)));
    return arrow::fixed_size_list(child, list_size);
  }
  return Status::NotImplemented("nested type format '", format, "' is not known");
}

/// The extension type, if `name` is registered here; null otherwise.
arrow::Result<TypePtr> MakeExtension(const TypePtr& storage, const std::string& name,
                                     const std::string& data) {
  const auto registered = arrow::GetExtensionType(name);
  if (registered == nullptr) return nullptr;
  ARROW_ASSIGN_OR_RAISE(TypePtr type, registered->Deserialize(storage, data));
  if (type->id() != arrow::Type::EXTENSION || !StorageOf(*type).Equals(*storage)) {
    return Status::Invalid("extension '", name, "' made ", type->ToString(),
                           " of storage ", storage->ToString());
  }
  return type;
}

/// A node whose children are still being collected.
struct OpenNode {
  const format::FieldNode* node;
  arrow::FieldVector children;
  TypePtr dictionary;

  bool wants_dictionary() const {
    return (node->flags() & kFieldHasDictionary) != 0 && dictionary == nullptr;
  }
  bool complete() const {
    return children.size() == node->child_count() && !wants_dictionary();
  }
};

Status CheckFlags(const format::FieldNode& node) {
  const uint32_t flags = node.flags();
  const bool has_dictionary = (flags & kFieldHasDictionary) != 0;
  if ((flags & ~kFieldFlagsAll) != 0 ||
      ((flags & kFieldDictionaryOrdered) != 0 && !has_dictionary) ||
      ((flags & kFieldMapKeysSorted) != 0 && node.format()->string_view() != "+m") ||
      (has_dictionary && node.child_count() != 0)) {
    return Status::Invalid("field flags ", flags, " do not fit type format '",
                           node.format()->string_view(), "' with ", node.child_count(),
                           " children");
  }
  return Status::OK();
}

arrow::Result<TypePtr> MakeStorage(const OpenNode& open) {
  const format::FieldNode& node = *open.node;
  const std::string_view format = node.format()->string_view();
  if (open.dictionary != nullptr) {
    ARROW_ASSIGN_OR_RAISE(const auto index_type, ImportLeaf(*node.format()));
    return arrow::DictionaryType::Make(index_type, open.dictionary,
                                       (node.flags() & kFieldDictionaryOrdered) != 0);
  }
  if (format.starts_with('+')) {
    return MakeNested(format, (node.flags() & kFieldMapKeysSorted) != 0, open.children);
  }
  ARROW_RETURN_NOT_OK(CheckChildCount(format, open.children.size(), 0));
  return ImportLeaf(*node.format());
}

/// The extension that the node tells of, with name and data in `metadata` where it is not
/// known here, and the other way round.
arrow::Result<TypePtr> ResolveExtension(
    const format::FieldNode& node, const TypePtr& storage,
    std::shared_ptr<arrow::KeyValueMetadata>* metadata) {
  if (node.extension_name() != nullptr) {
    const std::string name = node.extension_name()->str();
    const std::string data = ToString(node.extension_data());
    ARROW_ASSIGN_OR_RAISE(TypePtr type, MakeExtension(storage, name, data));
    if (type != nullptr) return type;
    auto extended =
        *metadata ? (*metadata)->Copy() : std::make_shared<arrow::KeyValueMetadata>();
    ARROW_RETURN_NOT_OK(extended->Set(kExtensionNameKey, name));
    ARROW_RETURN_NOT_OK(extended->Set(kExtensionDataKey, data));
    *metadata = std::move(extended);
    return storage;
  }
  if (*metadata == nullptr || !(*metadata)->Contains(kExtensionNameKey)) return storage;
  // Came through a process that did not know it. If it does not fit, it stays what it is.
  const std::string name = (*metadata)->Get(kExtensionNameKey).ValueOr("");
  const std::string data = (*metadata)->Get(kExtensionDataKey).ValueOr("");
  TypePtr type = MakeExtension(storage, name, data).ValueOr(nullptr);
  if (type == nullptr) return storage;
  ARROW_RETURN_NOT_OK((*metadata)->Delete(kExtensionNameKey));
  if ((*metadata)->Contains(kExtensionDataKey)) {
    ARROW_RETURN_NOT_OK((*metadata)->Delete(kExtensionDataKey));
  }
  return type;
}

arrow::Result<std::shared_ptr<arrow::Field>> MakeField(const OpenNode& open,
                                                       Extensions extensions) {
  ARROW_ASSIGN_OR_RAISE(const TypePtr storage, MakeStorage(open));
  ARROW_RETURN_NOT_OK(LayoutOf(*storage));
  auto metadata = DecodeMetadata(open.node->metadata());
  TypePtr type = storage;
  if (extensions == Extensions::kMake) {
    ARROW_ASSIGN_OR_RAISE(type, ResolveExtension(*open.node, storage, &metadata));
  }
  return arrow::field(open.node->name()->str(), std::move(type),
                      (open.node->flags() & kFieldNullable) != 0, std::move(metadata));
}

/// Puts the tree together with a stack of its own: the bytes may come from anyone.
class FieldDecoder {
 public:
  explicit FieldDecoder(Extensions extensions) : extensions_(extensions) {}

  Status Add(const format::FieldNode& node) {
    if (stack_.size() >= static_cast<size_t>(kNestingMax)) {
      return Place(Status::Invalid("nested more than ", kNestingMax, " levels deep"));
    }
    stack_.push_back({&node, {}, nullptr});
    const Status status = CheckFlags(node);
    if (!status.ok()) return Place(status);
    while (!stack_.empty() && stack_.back().complete()) {
      auto field = MakeField(stack_.back(), extensions_);
      if (!field.ok()) return Place(field.status());
      stack_.pop_back();
      Attach(field.MoveValueUnsafe());
    }
    return Status::OK();
  }

  arrow::Result<arrow::FieldVector> Finish() {
    if (!stack_.empty()) {
      return Place(Status::Invalid("children of the field are missing"));
    }
    return std::move(columns_);
  }

 private:
  void Attach(std::shared_ptr<arrow::Field> field) {
    if (stack_.empty()) {
      columns_.push_back(std::move(field));
    } else if (stack_.back().wants_dictionary()) {
      stack_.back().dictionary = field->type();
    } else {
      stack_.back().children.push_back(std::move(field));
    }
  }

  Status Place(const Status& status) const {
    std::string path;
    for (const OpenNode& open : stack_) {
      path += (path.empty() ? "" : ".") + open.node->name()->str();
    }
    return status.WithMessage("column ", columns_.size(), ", field '", path,
                              "': ", status.message());
  }

  const Extensions extensions_;
  std::vector<OpenNode> stack_;
  arrow::FieldVector columns_;
};

/// FlatBuffers lets many places refer to the same bytes, so that a small descriptor could
/// stand for a huge schema. Ours stores each string once for each use.
Status CheckTextSize(const format::TableDescriptor& table, size_t size_max) {
  size_t size = SizeOf(table.metadata());
  for (const auto* node : *table.fields()) {
    size += node->format()->size() + node->name()->size() + SizeOf(node->metadata());
    if (node->extension_name() != nullptr) size += node->extension_name()->size();
    if (node->extension_data() != nullptr) size += node->extension_data()->size();
    if (size > size_max) {
      return Status::Invalid("text of the schema takes more than the ", size_max,
                             " bytes of the descriptor");
    }
  }
  return Status::OK();
}

}  // namespace

arrow::Result<std::shared_ptr<arrow::Schema>> DecodeSchema(
    const format::TableDescriptor& table, size_t descriptor_size, Extensions extensions) {
  ARROW_RETURN_NOT_OK(CheckTextSize(table, descriptor_size));
  FieldDecoder decoder(extensions);
  for (const auto* node : *table.fields()) ARROW_RETURN_NOT_OK(decoder.Add(*node));
  ARROW_ASSIGN_OR_RAISE(auto columns, decoder.Finish());
  return arrow::schema(std::move(columns), DecodeMetadata(table.metadata()));
}

}  // namespace sheaf::codec
