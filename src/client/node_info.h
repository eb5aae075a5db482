// What a node says about itself, and the error that says that a table does not fit there.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <arrow/status.h>

#include "region/region.h"
#include "sheaf/store.h"

namespace sheaf::client {

/// \brief Node `id` as its daemon described it last: by the time that a reply of it is
/// received, with what the request did. Down while its segment is not there, or its
/// daemon stopped or died while it wrote the line that says more.
NodeInfo LoadNodeInfo(const region::Region& region, uint32_t id);

/// \brief All nodes of the cluster, by id.
std::vector<NodeInfo> LoadNodeInfos(const region::Region& region);

/// \brief OutOfMemory: `what` needs `needed` ("at least 5 bytes of shared memory") of
/// node `home_id`; says what that and others have free, and `how_elsewhere` that of
/// others is used, if not empty. To be called once all that was allocated for it is given
/// back, and with `nodes`, all by id, read after that.
arrow::Status DoesNotFit(const std::string& what, const std::string& needed,
                         const std::vector<NodeInfo>& nodes, uint32_t home_id,
                         const std::string& how_elsewhere);

}  // namespace sheaf::client
