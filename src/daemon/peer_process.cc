#include "daemon/peer_process.h"

#include <fstream>
#include <string>

#include <arrow/status.h>

#include "platform/file.h"

namespace sheaf::daemon {

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
