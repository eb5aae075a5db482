// Who is behind a connection.

#pragma once

#include <cstdint>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"

namespace sheaf::daemon {

/// \brief The peer of `socket_fd`; IOError if it is another user's process.
arrow::Result<platform::PeerCredentials> CheckPeer(int socket_fd);

/// \brief Length of the longest greeting: of a session that holds every grant there is.
uint32_t GreetingBytesMax(const region::ClusterConfig& config);

/// \brief Invalid unless `fd` is a pidfd of the living process `process_id`.
arrow::Status CheckPidFd(const platform::UniqueFd& fd, int process_id);

}  // namespace sheaf::daemon
