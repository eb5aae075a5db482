#include "platform/child_process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"

namespace sheaf::platform {
namespace {

constexpr int kSignalled = 128;  // As shells say it.

int Decode(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : kSignalled + WTERMSIG(status);
}

// Nothing of the caller's signals: it may block or ignore some.
int Spawn(const std::vector<char*>& argv, pid_t* process) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  const int error =
      ::posix_spawn(process, argv[0], &files, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  return error;
}

}  // namespace

arrow::Result<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::vector<std::string>& arguments) {
  if (arguments.empty()) return arrow::Status::Invalid("no program to start");
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  pid_t process = -1;
  const int error = Spawn(argv, &process);
  if (error != 0) return OsError("cannot start", arguments[0], error);
  return std::unique_ptr<ChildProcess>(new ChildProcess(process));
}

ChildProcess::~ChildProcess() {
  if (ExitCode()) return;
  ::kill(-process_id_, SIGKILL);
  while (::waitpid(process_id_, nullptr, 0) < 0 && errno == EINTR) continue;
}

std::optional<int> ChildProcess::ExitCode() {
  int status = 0;
  if (!exit_code_ && ::waitpid(process_id_, &status, WNOHANG) == process_id_) {
    exit_code_ = Decode(status);
  }
  return exit_code_;
}

}  // namespace sheaf::platform
