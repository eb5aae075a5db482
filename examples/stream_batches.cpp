// A table that grows batch by batch and becomes visible whole, and another process' view
// of versions: who opened version 1 keeps it while version 2 replaces it.

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <vector>

#include <arrow/builder.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <sheaf/sheaf.h>

namespace {

arrow::Result<std::shared_ptr<arrow::RecordBatch>> MakeBatch(
    const std::shared_ptr<arrow::Schema>& schema, int64_t first,
    arrow::MemoryPool* pool) {
  arrow::Int64Builder builder(pool);
  for (int64_t i = 0; i < 1000; ++i) ARROW_RETURN_NOT_OK(builder.Append(first + i));
  ARROW_ASSIGN_OR_RAISE(auto values, builder.Finish());
  return arrow::RecordBatch::Make(schema, values->length(), {values});
}

arrow::Status Append(sheaf::Store* store, int64_t batches) {
  const auto schema = arrow::schema({arrow::field("tick", arrow::int64())});
  ARROW_ASSIGN_OR_RAISE(
      auto writer,
      store->NewWriter("ticks", schema, {.replace = true, .expected_version = {}}));
  for (int64_t i = 0; i < batches; ++i) {
    ARROW_ASSIGN_OR_RAISE(auto batch, MakeBatch(schema, i * 1000, store->memory_pool()));
    ARROW_RETURN_NOT_OK(writer->Append(*batch));
  }
  ARROW_ASSIGN_OR_RAISE(const sheaf::PutReceipt receipt, writer->Seal());
  std::cout << "version " << receipt.version << ": " << receipt.num_rows << " rows, "
            << receipt.bytes_copied << " bytes copied\n";
  return arrow::Status::OK();
}

arrow::Status Run() {
  ARROW_ASSIGN_OR_RAISE(auto store, sheaf::Store::Connect());
  ARROW_RETURN_NOT_OK(Append(store.get(), 3));
  ARROW_ASSIGN_OR_RAISE(auto before, store->Get("ticks"));
  ARROW_RETURN_NOT_OK(Append(store.get(), 5));
  ARROW_ASSIGN_OR_RAISE(auto after, store->Get("ticks"));
  std::cout << "opened before: " << before->num_rows()
            << " rows; after: " << after->num_rows() << " rows\n";
  return store->Remove("ticks");
}

}  // namespace

int main() {
  const arrow::Status status = Run();
  if (status.ok()) return EXIT_SUCCESS;
  std::cerr << status.ToString() << '\n';
  return EXIT_FAILURE;
}
