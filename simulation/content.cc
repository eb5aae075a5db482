#include "simulation/content.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include <arrow/array/array_primitive.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <arrow/type.h>

namespace sheaf::simulation {
namespace {

int64_t ValueAt(uint64_t source, uint64_t row) {
  uint64_t z = source * 0x9E3779B97F4A7C15 + row + 1;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return static_cast<int64_t>(z ^ (z >> 31));
}

}  // namespace

std::string ToString(const Content& content) {
  std::string text;
  for (const Piece& piece : content) {
    text += (text.empty() ? "" : " ") + std::to_string(piece.source) + "[" +
            std::to_string(piece.begin) + "+" + std::to_string(piece.count) + "]";
  }
  return text.empty() ? "nothing" : text;
}

std::shared_ptr<arrow::Array> MakeChunk(const Piece& piece, arrow::MemoryPool* pool) {
  const auto size = static_cast<int64_t>(piece.count * sizeof(int64_t));
  auto buffer = arrow::AllocateBuffer(size, pool);
  if (!buffer.ok()) return nullptr;
  auto* values = reinterpret_cast<int64_t*>((*buffer)->mutable_data());
  for (uint64_t i = 0; i < piece.count; ++i) {
    values[i] = ValueAt(piece.source, piece.begin + i);
  }
  return std::make_shared<arrow::Int64Array>(static_cast<int64_t>(piece.count),
                                             std::shared_ptr(std::move(*buffer)));
}

std::shared_ptr<arrow::Table> MakeTable(arrow::ArrayVector chunks) {
  static const auto kSchema = arrow::schema({arrow::field("x", arrow::int64())});
  return arrow::Table::Make(kSchema, {std::make_shared<arrow::ChunkedArray>(
                                         std::move(chunks), arrow::int64())});
}

std::string Difference(const arrow::Table& table, const Content& content) {
  const auto& column = *table.column(0);
  if (column.num_chunks() != static_cast<int>(content.size())) {
    return std::to_string(column.num_chunks()) + " chunks, expected " +
           std::to_string(content.size());
  }
  for (size_t i = 0; i < content.size(); ++i) {
    const auto& chunk =
        static_cast<const arrow::Int64Array&>(*column.chunk(static_cast<int>(i)));
    const Piece& piece = content[i];
    if (chunk.length() != static_cast<int64_t>(piece.count)) {
      return "chunk " + std::to_string(i) + " of " + std::to_string(chunk.length()) +
             " rows, expected " + std::to_string(piece.count);
    }
    for (uint64_t row = 0; row < piece.count; ++row) {
      const int64_t found = chunk.Value(static_cast<int64_t>(row));
      const int64_t expected = ValueAt(piece.source, piece.begin + row);
      if (found == expected) continue;
      return "chunk " + std::to_string(i) + " row " + std::to_string(row) + ": " +
             std::to_string(found) + ", expected " + std::to_string(expected);
    }
  }
  return "";
}

}  // namespace sheaf::simulation
