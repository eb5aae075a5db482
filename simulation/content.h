// Tables whose every byte follows from what they are: a stale or wrong one is seen.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/table.h>

namespace sheaf::simulation {

/// \brief Rows [begin, begin + count) of the endless column number `source`.
struct Piece {
  uint64_t source = 0;
  uint64_t begin = 0;
  uint64_t count = 0;
  bool operator==(const Piece&) const = default;
};

/// \brief What a table is: one chunk for each piece.
using Content = std::vector<Piece>;

std::string ToString(const Content& content);

/// \brief One chunk, its memory from `pool`; null if that has none left.
std::shared_ptr<arrow::Array> MakeChunk(const Piece& piece, arrow::MemoryPool* pool);
std::shared_ptr<arrow::Table> MakeTable(arrow::ArrayVector chunks);

/// \brief What differs, "" if nothing does. Reads every value.
std::string Difference(const arrow::Table& table, const Content& content);

}  // namespace sheaf::simulation
