// Builds a table in shared memory with Arrow's own builders, publishes it, and reads it
// back: not a byte is copied. Needs a running cluster: `sheaf up`, then run this.

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include <arrow/builder.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <sheaf/sheaf.h>

namespace {

arrow::Status Run() {
  ARROW_ASSIGN_OR_RAISE(auto store, sheaf::Store::Connect());

  // Whatever takes a memory pool builds in the region: builders, file readers, compute
  // kernels.
  arrow::Int64Builder ids(store->memory_pool());
  arrow::StringBuilder names(store->memory_pool());
  for (int64_t i = 0; i < 100'000; ++i) {
    ARROW_RETURN_NOT_OK(ids.Append(i));
    ARROW_RETURN_NOT_OK(names.Append("name " + std::to_string(i)));
  }
  ARROW_ASSIGN_OR_RAISE(auto id_array, ids.Finish());
  ARROW_ASSIGN_OR_RAISE(auto name_array, names.Finish());
  const auto schema = arrow::schema(
      {arrow::field("id", arrow::int64()), arrow::field("name", arrow::utf8())});
  const auto table = arrow::Table::Make(schema, {id_array, name_array});

  ARROW_ASSIGN_OR_RAISE(
      const sheaf::PutReceipt receipt,
      store->Put("people", *table, {.replace = true, .expected_version = {}}));
  std::cout << "put " << receipt.bytes << " bytes, version " << receipt.version << ": "
            << receipt.bytes_shared << " shared, " << receipt.bytes_copied << " copied\n";

  // Any process of any node opens the same bytes, all of them or some columns.
  ARROW_ASSIGN_OR_RAISE(auto opened, store->Get("people"));
  std::cout << "opened " << opened->num_rows() << " rows, equal: " << std::boolalpha
            << opened->Equals(*table) << '\n';
  return store->Remove("people");
}

}  // namespace

int main() {
  const arrow::Status status = Run();
  if (status.ok()) return EXIT_SUCCESS;
  std::cerr << status.ToString() << '\n';
  return EXIT_FAILURE;
}
