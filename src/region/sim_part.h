// A part of the incoherent simulator (docs/architecture.md section 8): as a FilePart over
// this node's image, with cache operations that move lines between image and truth.

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "region/cluster_config.h"
#include "region/file_part.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::region {

/// \brief Which part; borrows the configuration.
struct SimPartId {
  const ClusterConfig& config;
  SegmentId segment;
  const std::string& path;  ///< Of the truth.
};

/// \brief Map the image of `node`; readers get it read-only, as the file of other
/// backends.
arrow::Result<std::unique_ptr<Part>> OpenSimPart(const SimPartId& id, NodeId node,
                                                 uint64_t size_bytes,
                                                 const PartAccess& access);

/// \brief Create, beside the truth, image and shadow of each of `config.nodes` nodes and
/// the state that all share, all of `size_bytes` zero bytes: every node's caches hold
/// zeros.
arrow::Status CreateSimFiles(const SimPartId& id, uint64_t size_bytes);

}  // namespace sheaf::region
