// Who would read bytes that are not a table's any more, or write to what is another's, if
// memory were given up now.

#pragma once

#include <arrow/status.h>

#include "region/cluster_config.h"

namespace sheaf::client {

/// \brief IOError, naming who and what to do, if sessions of other hosts hold leases on
/// tables of this host's nodes or build in their memory, or, with devices, whose bytes
/// stay mapped, processes of this host still use them; and if that cannot be told, since
/// the memory of some node cannot be read. Other memory is new files when it is made
/// again: whoever maps the old ones keeps them. The daemons of this host have ended. No
/// other node is honoured by these homes afterwards, whatever is found: who begins to
/// read meanwhile is told so, and comes back as its next incarnation if they do. With
/// `force` only the processes of this host count.
arrow::Status CheckNotUsedElsewhere(const region::ClusterConfig& config, bool force);

}  // namespace sheaf::client
