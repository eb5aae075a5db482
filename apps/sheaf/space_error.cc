#include "apps/sheaf/space_error.h"

#include <cstdint>
#include <string>

#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/thread_pool.h>

#include "apps/sheaf/decode_pool.h"
#include "apps/sheaf/output.h"
#include "client/node_info.h"
#include "sheaf/status.h"
#include "sheaf/store.h"

namespace sheaf::cli {

arrow::Status ExplainSpace(Store& store, uint32_t node, arrow::MemoryPool* memory,
                           const DecodePool& pool, const std::string& table,
                           const std::string& file, const std::string& how_elsewhere) {
  const arrow::Status space = pool.CheckSpace();
  if (space.ok()) return arrow::Status::OK();
  // All that was decoded is freed once the decoder's workers have let go of it.
  arrow::internal::GetCpuThreadPool()->WaitForIdle();
  memory->ReleaseUnused();
  const std::string what = "table '" + table + "' from '" + file + "'";
  // Neither is mended by more memory.
  if (IsOverQuota(space) || !space.IsOutOfMemory()) {
    return space.WithMessage("cannot put ", what, ": ", space.message());
  }
  const auto bytes = static_cast<uint64_t>(pool.bytes_needed());
  const std::string needed =
      "at least about " + std::to_string(bytes) + " bytes (" + HumanBytes(bytes) + ")";
  ARROW_ASSIGN_OR_RAISE(const auto nodes, store.Nodes());
  return client::DoesNotFit(what, needed, nodes, node, how_elsewhere);
}

}  // namespace sheaf::cli
