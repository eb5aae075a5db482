// A daemon that a test makes die or stop at a fault point.

#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <string>
#include <utility>

#include "base/check.h"
#include "platform/file.h"
#include "region/cluster_config.h"

namespace sheaf::testing {

/// \brief sheafd as a child of this process, so that it sees it stop. Killed at the end,
/// whatever it does then. One thread at a time.
class ArmedDaemon {
 public:
  enum class State : uint8_t { kRuns, kStopped, kEnded };

  /// `node`'s daemon must not run. `fault` as in SHEAF_FAULT; `log` gets its output.
  ArmedDaemon(const std::string& cluster, uint32_t node, const std::string& fault,
              const std::string& log) {
    const platform::UniqueFd log_fd(
        ::open(log.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
    SHEAF_CHECK(log_fd.valid());
    std::array<std::string, 5> words = {SHEAFD_BINARY, "--cluster-file",
                                        region::ClusterFilePath(cluster), "--node",
                                        std::to_string(node)};
    std::array<char*, words.size() + 1> argv = {};
    for (size_t i = 0; i < words.size(); ++i) argv[i] = words[i].data();
    ::setenv("SHEAF_FAULT", fault.c_str(), 1);
    process_ = ::fork();
    if (process_ == 0) {  // Only async-signal-safe calls until exec.
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(log_fd.get(), STDOUT_FILENO);
      ::dup2(log_fd.get(), STDERR_FILENO);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    SHEAF_CHECK(process_ > 0);
    ::unsetenv("SHEAF_FAULT");
  }
  ~ArmedDaemon() {
    if (state_ == State::kEnded) return;
    SHEAF_CHECK(::kill(process_, SIGKILL) == 0);
    while (Look() != State::kEnded) continue;
  }
  ArmedDaemon(const ArmedDaemon&) = delete;
  ArmedDaemon& operator=(const ArmedDaemon&) = delete;

  State Look() {
    if (state_ == State::kEnded) return state_;
    int status = 0;
    const pid_t changed = ::waitpid(process_, &status, WNOHANG | WUNTRACED);
    SHEAF_CHECK(changed >= 0);
    if (changed != 0) state_ = WIFSTOPPED(status) ? State::kStopped : State::kEnded;
    return state_;
  }

  /// By SIGSTOP, wherever it is. Call Continue before Look.
  void Stop() const { SHEAF_CHECK(::kill(process_, SIGSTOP) == 0); }
  /// After a stop.
  void Continue() {
    state_ = State::kRuns;
    SHEAF_CHECK(::kill(process_, SIGCONT) == 0);
  }

 private:
  pid_t process_ = -1;
  State state_ = State::kRuns;
};

}  // namespace sheaf::testing
