// One table, two nodes: put on node 0 by one process, opened and queried on node 1 by
// another, beside the time that Arrow Flight takes to send it.

#pragma once

#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "apps/demo/source.h"
#include "apps/sheaf/output.h"

namespace sheaf::demo {

/// \brief The writer, on node 0 of a running cluster: puts each file, starts a reader,
/// prints a table of times. Not OK if a byte was copied or an answer differs.
arrow::Status ShowTwoNodes(const std::string& cluster,
                           const std::vector<Source>& sources);

/// \brief The reader, on node 1, in a process of its own.
arrow::Result<cli::Json> ReadOnNodeOne(const std::string& cluster, const Source& source,
                                       int flight_port);

}  // namespace sheaf::demo
