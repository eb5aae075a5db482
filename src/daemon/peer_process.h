// Who is behind a connection.

#pragma once

#include <arrow/status.h>

#include "platform/file.h"

namespace sheaf::daemon {

/// \brief Invalid unless `fd` is a pidfd of the living process `process_id`.
arrow::Status CheckPidFd(const platform::UniqueFd& fd, int process_id);

}  // namespace sheaf::daemon
