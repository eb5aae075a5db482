#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/chunked_array.h>
#include <arrow/extension_type.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/checked_cast.h>
#include <arrow/util/key_value_metadata.h>

#include "testing/tables.h"

namespace sheaf::testing {

using ::testing::AssertionFailure;
using ::testing::AssertionResult;
using ::testing::AssertionSuccess;

namespace {

using arrow::internal::checked_cast;

#define SHEAF_RETURN_UNLESS(claim, where)                           \
  if (!(claim)) {                                                   \
    return AssertionFailure() << (where) << ": not so: " << #claim; \
  }
#define SHEAF_RETURN_DIFFERENCE(result)                     \
  if (AssertionResult difference = (result); !difference) { \
    return difference;                                      \
  }

/// Order counts, as do duplicates; absent is not the same as empty.
AssertionResult SameMetadata(const std::shared_ptr<const arrow::KeyValueMetadata>& a,
                             const std::shared_ptr<const arrow::KeyValueMetadata>& b,
                             const std::string& where) {
  SHEAF_RETURN_UNLESS((a == nullptr) == (b == nullptr), where);
  if (a == nullptr) return AssertionSuccess();
  SHEAF_RETURN_UNLESS(a->keys() == b->keys(), where);
  SHEAF_RETURN_UNLESS(a->values() == b->values(), where);
  return AssertionSuccess();
}

AssertionResult SameType(const arrow::DataType& a, const arrow::DataType& b,
                         const std::string& where);

AssertionResult SameField(const arrow::Field& a, const arrow::Field& b,
                          const std::string& parent) {
  const std::string where = parent + "." + a.name();
  SHEAF_RETURN_UNLESS(a.name() == b.name(), where);
  SHEAF_RETURN_UNLESS(a.nullable() == b.nullable(), where);
  SHEAF_RETURN_DIFFERENCE(SameMetadata(a.metadata(), b.metadata(), where));
  return SameType(*a.type(), *b.type(), where);
}

AssertionResult SameType(const arrow::DataType& a, const arrow::DataType& b,
                         const std::string& where) {
  SHEAF_RETURN_UNLESS(a.id() == b.id(), where);
  SHEAF_RETURN_UNLESS(a.Equals(b, /*check_metadata=*/true), where);
  SHEAF_RETURN_UNLESS(a.ToString(true) == b.ToString(true), where);
  SHEAF_RETURN_UNLESS(a.num_fields() == b.num_fields(), where);
  for (int i = 0; i < a.num_fields(); ++i) {
    SHEAF_RETURN_DIFFERENCE(SameField(*a.field(i), *b.field(i), where));
  }
  if (a.id() == arrow::Type::DICTIONARY) {
    return SameType(*checked_cast<const arrow::DictionaryType&>(a).value_type(),
                    *checked_cast<const arrow::DictionaryType&>(b).value_type(),
                    where + ".dictionary");
  }
  if (a.id() == arrow::Type::EXTENSION) {
    return SameType(*checked_cast<const arrow::ExtensionType&>(a).storage_type(),
                    *checked_cast<const arrow::ExtensionType&>(b).storage_type(),
                    where + ".storage");
  }
  return AssertionSuccess();
}

AssertionResult SameLayout(const arrow::ArrayData& a, const arrow::ArrayData& b,
                           const std::string& where) {
  SHEAF_RETURN_UNLESS(a.type->Equals(*b.type, true), where);
  SHEAF_RETURN_UNLESS(a.length == b.length, where);
  SHEAF_RETURN_UNLESS(a.offset == b.offset, where);
  SHEAF_RETURN_UNLESS(a.null_count == b.null_count, where);
  SHEAF_RETURN_UNLESS(a.buffers.size() == b.buffers.size(), where);
  for (size_t i = 0; i < a.buffers.size(); ++i) {
    const int64_t size = a.buffers[i] == nullptr ? 0 : a.buffers[i]->size();
    if (b.buffers[i] == nullptr) {
      SHEAF_RETURN_UNLESS(a.buffers[i] == nullptr, where);
      continue;
    }
    // An absent buffer may come back as one without bytes, but for validity bitmaps.
    SHEAF_RETURN_UNLESS(i > 0 || a.buffers[i] != nullptr, where);
    SHEAF_RETURN_UNLESS(b.buffers[i]->size() == size, where);
    SHEAF_RETURN_UNLESS(b.buffers[i]->data() != nullptr, where);
  }
  SHEAF_RETURN_UNLESS(a.child_data.size() == b.child_data.size(), where);
  for (size_t i = 0; i < a.child_data.size(); ++i) {
    SHEAF_RETURN_DIFFERENCE(SameLayout(*a.child_data[i], *b.child_data[i],
                                       where + ".child " + std::to_string(i)));
  }
  SHEAF_RETURN_UNLESS((a.dictionary == nullptr) == (b.dictionary == nullptr), where);
  if (a.dictionary == nullptr) return AssertionSuccess();
  return SameLayout(*a.dictionary, *b.dictionary, where + ".dictionary");
}

AssertionResult SameColumn(const arrow::ChunkedArray& a, const arrow::ChunkedArray& b,
                           bool layout, const std::string& where) {
  SHEAF_RETURN_DIFFERENCE(SameType(*a.type(), *b.type(), where));
  SHEAF_RETURN_UNLESS(a.num_chunks() == b.num_chunks(), where);
  SHEAF_RETURN_UNLESS(a.null_count() == b.null_count(), where);
  for (int i = 0; i < a.num_chunks(); ++i) {
    const std::string chunk = where + " chunk " + std::to_string(i);
    SHEAF_RETURN_UNLESS(a.chunk(i)->length() == b.chunk(i)->length(), chunk);
    if (layout) {
      SHEAF_RETURN_DIFFERENCE(
          SameLayout(*a.chunk(i)->data(), *b.chunk(i)->data(), chunk));
    }
    const auto status = b.chunk(i)->ValidateFull();
    if (!status.ok()) return AssertionFailure() << chunk << ": " << status.ToString();
    SHEAF_RETURN_UNLESS(a.chunk(i)->Equals(*b.chunk(i)), chunk);
  }
  return AssertionSuccess();
}

}  // namespace

AssertionResult AreIdentical(const arrow::Table& expected, const arrow::Table& actual,
                             bool layout) {
  const arrow::Table& a = expected;
  const arrow::Table& b = actual;
  SHEAF_RETURN_UNLESS(a.num_rows() == b.num_rows(), "table");
  SHEAF_RETURN_UNLESS(a.num_columns() == b.num_columns(), "table");
  SHEAF_RETURN_UNLESS(a.schema()->Equals(*b.schema(), /*check_metadata=*/true), "table");
  SHEAF_RETURN_DIFFERENCE(
      SameMetadata(a.schema()->metadata(), b.schema()->metadata(), "schema"));
  for (int i = 0; i < a.num_columns(); ++i) {
    SHEAF_RETURN_DIFFERENCE(SameField(*a.field(i), *b.field(i), "schema"));
    SHEAF_RETURN_DIFFERENCE(
        SameColumn(*a.column(i), *b.column(i), layout,
                   "column " + std::to_string(i) + " '" + a.field(i)->name() + "'"));
  }
  const auto status = b.ValidateFull();
  if (!status.ok()) return AssertionFailure() << status.ToString();
  SHEAF_RETURN_UNLESS(a.Equals(b, /*check_metadata=*/true), "table");
  return AssertionSuccess();
}

#undef SHEAF_RETURN_UNLESS
#undef SHEAF_RETURN_DIFFERENCE

}  // namespace sheaf::testing
