// The cluster of one command.

#pragma once

#include <memory>
#include <string>

#include <arrow/result.h>

#include "apps/sheaf/commands.h"
#include "region/cluster_config.h"
#include "sheaf/store.h"

namespace sheaf::cli {

/// \brief Connect as `global` says. If its cluster does not run here, start it with one
/// node and say so on standard error, as tmux starts its server.
arrow::Result<std::shared_ptr<Store>> ConnectOrStart(const Global& global);

/// \brief The same for what needs a table that is there: a cluster of which a crash or
/// `down --keep` left anything is restarted, but none is made. Disconnected if there is
/// none.
arrow::Result<std::shared_ptr<Store>> ConnectOrRestart(const Global& global);

/// \brief How cluster `cluster` was set up, from its own file or the one that lies beside
/// its memory. KeyError if this host has no such cluster. Starts nothing.
arrow::Result<region::ClusterConfig> LoadConfig(const std::string& cluster);

}  // namespace sheaf::cli
