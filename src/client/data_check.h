// Is the data of a table what was put, and can it be read at all?

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "codec/codec.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief Checksum of `range` (inside the region) as memory holds it: this node's caches
/// are invalidated first. For codec::Encode. IOError with reason damaged if memory fails.
arrow::Result<uint64_t> ChecksumInMemory(const region::Region& region,
                                         const GlobalRange& range);

/// \brief Read all data that the selected chunks refer to, and compare it with its
/// checksums where there are any. IOError with reason damaged names column, chunk, field
/// and buffer. It must be leased.
arrow::Status CheckData(const region::Region& region, const codec::Descriptor& descriptor,
                        const codec::Selection& selection = {});

}  // namespace sheaf::client
