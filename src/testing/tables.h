// Tables of every type that Arrow has, and every way in which a table may lie in memory:
// what any part that carries tables is tested with. The same ones in every process and on
// every machine.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/type_fwd.h>
#include <gtest/gtest.h>

namespace sheaf::testing {

struct NamedType {
  std::string name;
  std::shared_ptr<arrow::DataType> type;
};

struct NamedTable {
  std::string name;
  std::shared_ptr<arrow::Table> table;
};

struct TableOptions {
  int64_t num_rows = 200;
  uint64_t seed = 1;
  /// Where all buffers come from; a region's pool makes tables that need no copy.
  arrow::MemoryPool* pool = arrow::default_memory_pool();
};

/// \brief Every type id, with parameters that matter, and nested combinations of them.
std::vector<NamedType> AllTypes();

/// \brief One table for each of `AllTypes()`: columns with some nulls, without validity,
/// and all null. Then tables that are special as a whole: no columns, no rows, duplicate
/// and empty names, metadata of any bytes, columns that share buffers, columns cut
/// differently.
std::vector<NamedTable> AllTypesTables(const TableOptions& options = {});

/// \brief `table` whole, sliced from rows 3, 63, 64 and 65, cut into many uneven chunks
/// (other ones in each column, some empty), without rows, of empty chunks only, and
/// without chunks.
std::vector<NamedTable> VariantsOf(const NamedTable& table, uint64_t seed = 1);

/// \brief `VariantsOf` each of `AllTypesTables`.
std::vector<NamedTable> AllTypesTableVariants(const TableOptions& options = {});

/// \brief An extension type "sheaf.test" over `storage`, with `parameter` as its data.
std::shared_ptr<arrow::DataType> TestExtension(std::shared_ptr<arrow::DataType> storage,
                                               std::string parameter = "p");

/// \brief While it lives, "sheaf.test" is registered (or is not, for `false`) in this
/// process. `AllTypesTables` registers it for good.
class TestExtensionRegistration {
 public:
  explicit TestExtensionRegistration(bool registered = true);
  ~TestExtensionRegistration();
  TestExtensionRegistration(const TestExtensionRegistration&) = delete;
  TestExtensionRegistration& operator=(const TestExtensionRegistration&) = delete;

 private:
  bool was_registered_;
};

/// \brief Do two tables agree in all that Arrow can tell apart: schema with names,
/// nullability and metadata in order, at every depth; chunks; values; and, with `layout`,
/// offsets, null counts and the presence of buffers at every depth (an absent one may be
/// an empty one, validity bitmaps apart)? Strictly more than `Table::Equals`.
::testing::AssertionResult AreIdentical(const arrow::Table& expected,
                                        const arrow::Table& actual, bool layout = true);

}  // namespace sheaf::testing
