// A store for one command; starts a one-node cluster when none runs.

#pragma once

#include <memory>

#include <arrow/result.h>

#include "apps/sheaf/commands.h"
#include "sheaf/store.h"

namespace sheaf::cli {

/// \brief Connect as `global` says. If its cluster does not run here, start it with one
/// node and say so on standard error, as tmux starts its server.
arrow::Result<std::shared_ptr<Store>> ConnectOrStart(const Global& global);

}  // namespace sheaf::cli
