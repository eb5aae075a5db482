// Two programs on two hosts that have a cluster's memory in common: one shares a table
// and prints its handle, the other is given these letters by any means and opens it in
// place.
//   handle_between_hosts share 1000000      on node 0: prints the handle and a sum
//   handle_between_hosts open <letters>     on node 1: prints the sum, and again for each
//                                           line that it reads, until there are no more
// Without arguments it does both, on one node.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/array/array_primitive.h>
#include <arrow/builder.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <sheaf/sheaf.h>

namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

std::string ToLetters(const std::string& bytes) {
  std::string letters;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    letters += kDigits[byte >> 4];
    letters += kDigits[byte & 15];
  }
  return letters;
}

std::string FromLetters(const std::string& letters) {
  std::string bytes;
  for (size_t i = 0; i + 1 < letters.size(); i += 2) {
    const size_t byte = kDigits.find(letters[i]) * 16 + kDigits.find(letters[i + 1]);
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

// Reads every value where it lies.
uint64_t Sum(const arrow::Table& table) {
  uint64_t sum = 0;
  for (const auto& chunk : table.column(0)->chunks()) {
    const auto& values = static_cast<const arrow::UInt64Array&>(*chunk);
    for (int64_t i = 0; i < values.length(); ++i) sum += values.Value(i);
  }
  return sum;
}

arrow::Result<std::string> Share(int64_t rows) {
  ARROW_ASSIGN_OR_RAISE(auto store, sheaf::Store::Connect());
  arrow::UInt64Builder builder(store->memory_pool());
  ARROW_RETURN_NOT_OK(builder.Reserve(rows));
  uint64_t value = 1;
  for (int64_t i = 0; i < rows; ++i) {
    value = value * 6364136223846793005 + 1442695040888963407;
    builder.UnsafeAppend(value);
  }
  ARROW_ASSIGN_OR_RAISE(auto values, builder.Finish());
  const auto table =
      arrow::Table::Make(arrow::schema({arrow::field("x", arrow::uint64())}), {values});
  ARROW_ASSIGN_OR_RAISE(const sheaf::PutReceipt receipt, store->Share(*table));
  // Else it would end with this process.
  ARROW_RETURN_NOT_OK(store->Keep(receipt.handle));
  std::string letters = ToLetters(receipt.handle.Serialize());
  std::cout << letters << ' ' << Sum(*table) << '\n';
  return letters;
}

arrow::Status Open(const std::string& letters) {
  ARROW_ASSIGN_OR_RAISE(const auto handle,
                        sheaf::Handle::Deserialize(FromLetters(letters)));
  ARROW_ASSIGN_OR_RAISE(auto store, sheaf::Store::Connect());
  ARROW_ASSIGN_OR_RAISE(const auto table, store->Open(handle));
  std::cout << Sum(*table) << '\n' << std::flush;
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << Sum(*table) << '\n' << std::flush;
  }
  return arrow::Status::OK();
}

arrow::Status Run(const std::vector<std::string>& words) {
  constexpr int64_t kRows = 1'000'000;
  if (words.empty()) {
    ARROW_ASSIGN_OR_RAISE(const std::string letters, Share(kRows));
    return Open(letters);
  }
  if (words.size() == 2 && words[0] == "share")
    return Share(std::stoll(words[1])).status();
  if (words.size() == 2 && words[0] == "open") return Open(words[1]);
  return arrow::Status::Invalid("usage: handle_between_hosts [share ROWS | open HANDLE]");
}

}  // namespace

int main(int argc, char** argv) {
  const arrow::Status status = Run({argv + 1, argv + argc});
  if (status.ok()) return EXIT_SUCCESS;
  std::cerr << status.ToString() << '\n';
  return EXIT_FAILURE;
}
