// What a user is told whose file found no room.

#pragma once

#include <cstdint>
#include <string>

#include <arrow/status.h>
#include <arrow/type_fwd.h>

#include "apps/sheaf/decode_pool.h"
#include "sheaf/store.h"

namespace sheaf::cli {

/// \brief OK if `pool`, over `memory` of `node`, had room for all that was decoded in it,
/// which is freed by now. Else why not, of which table and file, and what to do:
/// `how_elsewhere` says how the memory of other nodes is used, unless empty.
arrow::Status ExplainSpace(Store& store, uint32_t node, arrow::MemoryPool* memory,
                           const DecodePool& pool, const std::string& table,
                           const std::string& file, const std::string& how_elsewhere);

}  // namespace sheaf::cli
