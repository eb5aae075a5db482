// Who would read bytes that are not a table's any more, if memory were given up now.

#pragma once

#include <arrow/status.h>

#include "region/cluster_config.h"

namespace sheaf::client {

/// \brief IOError, naming who and what to do, if sessions of other hosts hold leases on
/// tables of this host's nodes, or, with devices, whose bytes stay mapped, processes of
/// this host still use them. Other memory is new files when it is made again: whoever
/// maps the old ones keeps them. The daemons of this host have ended. OK where no lines
/// can be read: there is nothing to lose.
arrow::Status CheckNotReadElsewhere(const region::ClusterConfig& config);

}  // namespace sheaf::client
