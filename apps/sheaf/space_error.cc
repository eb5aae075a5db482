#include "apps/sheaf/space_error.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>

#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/thread_pool.h>
#include <fmt/format.h>

#include "apps/sheaf/decode_pool.h"
#include "apps/sheaf/output.h"
#include "client/node_info.h"
#include "sheaf/status.h"
#include "sheaf/store.h"

namespace sheaf::cli {
namespace {

// Decoding takes more for a moment, and not every file says what its data takes: where
// that would fit, it is not all.
std::string Needed(const DecodePool& pool, const NodeInfo& home,
                   const std::string& file) {
  const auto bytes = static_cast<uint64_t>(pool.bytes_needed());
  const bool fits = bytes <= home.free_bytes;
  std::string text =
      fmt::format("{} {} bytes ({}) of shared memory",
                  fits ? "more than" : "at least about", bytes, HumanBytes(bytes));
  if (!fits) return text;
  text += fmt::format(": decoding had taken {} when that ran out",
                      HumanBytes(static_cast<uint64_t>(pool.max_memory())));
  std::error_code error;
  const auto file_bytes = std::filesystem::file_size(file, error);
  if (error) return text;
  return text + fmt::format(", and the file has {}", HumanBytes(file_bytes));
}

}  // namespace

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
  ARROW_ASSIGN_OR_RAISE(const auto nodes, store.Nodes());
  return client::DoesNotFit(what, Needed(pool, nodes[node], file), nodes, node,
                            how_elsewhere);
}

}  // namespace sheaf::cli
