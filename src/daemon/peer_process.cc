#include "daemon/peer_process.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "format/message_generated.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"

namespace sheaf::daemon {

arrow::Result<platform::PeerCredentials> CheckPeer(int socket_fd) {
  ARROW_ASSIGN_OR_RAISE(const platform::PeerCredentials peer,
                        platform::GetPeerCredentials(socket_fd));
  if (peer.user_id != platform::CurrentUserId()) {
    return arrow::Status::IOError("process ", peer.process_id, " belongs to user ",
                                  peer.user_id, ", this daemon to user ",
                                  platform::CurrentUserId());
  }
  return peer;
}

uint32_t GreetingBytesMax(const region::ClusterConfig& config) {
  // The longest path of a program takes a third of it.
  constexpr uint64_t kWithoutGrants = 16384;
  return CheckedCast<uint32_t>(
      std::min<uint64_t>(kWithoutGrants + config.grants_max() * sizeof(format::GrantKey),
                         platform::kFramePayloadMax));
}

// Only pidfds have a line "Pid:" here; it says -1 once the process has ended.
arrow::Status CheckPidFd(const platform::UniqueFd& fd, int process_id) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd.get()));
  std::string key;
  int value = 0;
  while (info >> key) {
    if (key == "Pid:" && info >> value) {
      if (value == process_id) return arrow::Status::OK();
      return arrow::Status::Invalid("the pidfd is of process ", value,
                                    ", the connection of process ", process_id);
    }
  }
  return arrow::Status::Invalid("the descriptor sent is not a pidfd");
}

}  // namespace sheaf::daemon
