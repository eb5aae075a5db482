// How the command line says what to do with clusters and nodes.

#pragma once

#include <functional>

#include <CLI/CLI.hpp>
#include <arrow/status.h>

#include "apps/sheaf/commands.h"
#include "sheaf/cluster.h"

namespace sheaf::cli {

/// What is to be done once all arguments are parsed.
using Command = std::function<arrow::Status()>;

/// \brief Adds the commands up, down, nodes, fsck, doctor, format and node, which set
/// `command`. All that is pointed to outlives `app`.
void AddClusterCommands(CLI::App* app, Global* global, ClusterOptions* up,
                        Command* command);

}  // namespace sheaf::cli
