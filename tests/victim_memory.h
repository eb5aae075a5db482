// What the process that a kill matrix ends does in the memory of another node.

#pragma once

#include <cstdint>
#include <memory>

#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/table.h>

#include "sheaf/store.h"
#include "tests/seeded_table.h"

namespace sheaf::testing {

/// \brief On one of two nodes: put, read and remove a table of the other home, and one of
/// the own home whose bytes lie at the other (O4, with a holder). Returns one there that
/// is not put.
inline arrow::Result<std::shared_ptr<arrow::Table>> UseOtherMemory(Store* store) {
  constexpr const char* kName = "victim/elsewhere";
  const uint32_t other = store->node() == 0 ? 1 : 0;
  ARROW_ASSIGN_OR_RAISE(arrow::MemoryPool* const pool, store->memory_pool(other));
  for (const uint64_t seed : {6U, 7U}) {
    const auto table = SeededTable(seed, 400, pool);
    PutOptions options;
    options.on = seed == 6 ? other : store->node();
    ARROW_RETURN_NOT_OK(store->Put(kName, *table, options).status());
    ARROW_ASSIGN_OR_RAISE(const auto opened, store->Get(kName));
    ARROW_RETURN_NOT_OK(CheckSeededTable(*opened));
    ARROW_RETURN_NOT_OK(store->Remove(kName));
  }
  return SeededTable(8, 400, pool);
}

}  // namespace sheaf::testing
