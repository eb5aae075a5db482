// The descriptor exchange of Groet et al.: no names. One process shares a table and sends
// its handle, a few dozen bytes, over any channel (here a pipe); the other opens it, or a
// slice of it, in place.

#include <sys/wait.h>
#include <unistd.h>

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

// The reader: gets bytes from somewhere, and computes on the writer's memory.
arrow::Status ReadSide(int from) {
  std::string bytes(4096, '\0');
  const ssize_t size = ::read(from, bytes.data(), bytes.size());
  if (size < 0) return arrow::Status::IOError("cannot read the handle");
  bytes.resize(static_cast<size_t>(size));
  ARROW_ASSIGN_OR_RAISE(const sheaf::Handle handle, sheaf::Handle::Deserialize(bytes));
  ARROW_ASSIGN_OR_RAISE(auto store, sheaf::Store::Connect());
  ARROW_ASSIGN_OR_RAISE(auto table, store->Open(handle));
  std::cout << "reader: " << size << " bytes of handle gave " << table->num_rows()
            << " rows, the first of them "
            << table->column(0)->GetScalar(0).ValueOrDie()->ToString() << '\n'
            << std::flush;
  return arrow::Status::OK();
}

// The writer: shares the table, sends a handle to a slice of it, and waits for the
// reader.
arrow::Status WriteSide(int to, pid_t reader) {
  ARROW_ASSIGN_OR_RAISE(auto store, sheaf::Store::Connect());
  arrow::DoubleBuilder builder(store->memory_pool());
  for (int i = 0; i < 1'000'000; ++i) ARROW_RETURN_NOT_OK(builder.Append(i * 0.5));
  ARROW_ASSIGN_OR_RAISE(auto values, builder.Finish());
  const auto table =
      arrow::Table::Make(arrow::schema({arrow::field("x", arrow::float64())}), {values});
  ARROW_ASSIGN_OR_RAISE(const sheaf::PutReceipt receipt, store->Share(*table));

  const std::string bytes = receipt.handle.Slice(1000, 10).Serialize();
  if (::write(to, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    return arrow::Status::IOError("cannot send the handle");
  }
  ::close(to);
  int code = 0;
  ::waitpid(reader, &code, 0);
  if (code != 0) return arrow::Status::IOError("the reader failed");
  // An unnamed object ends with its session, or when it is dropped.
  return store->Drop(receipt.handle);
}

int Report(const arrow::Status& status) {
  if (status.ok()) return EXIT_SUCCESS;
  std::cerr << status.ToString() << '\n';
  return EXIT_FAILURE;
}

}  // namespace

int main() {
  int ends[2];
  if (::pipe(ends) != 0) return EXIT_FAILURE;
  const pid_t reader = ::fork();  // before connecting: a session belongs to one process
  if (reader == 0) {
    ::close(ends[1]);
    return Report(ReadSide(ends[0]));
  }
  ::close(ends[0]);
  return Report(WriteSide(ends[1], reader));
}
