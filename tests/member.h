// A process of another user, member of the groups that a test gives it.

#pragma once

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "platform/process.h"

namespace sheaf::testing {

/// Nobody's on any host, and no groups that a host has.
constexpr uid_t kMemberUser = 65'533;
constexpr gid_t kReaders = 64'242;
constexpr gid_t kWriters = 64'243;

/// \brief Make this process, which is root's, one of `user` in `groups` only. False if it
/// cannot be. Between fork and exec.
inline bool BecomeMember(uid_t user, std::span<const gid_t> groups) {
  return ::setgroups(groups.size(), groups.data()) == 0 &&
         ::setresgid(user, user, user) == 0 && ::setresuid(user, user, user) == 0;
}

/// \brief This test program again, as another user, who does the task that the test names
/// (`MemberTask`) in TEST(Member, Runs) and speaks with it in lines. It dies with the
/// test. Only for root.
class Member {
 public:
  static Member Start(const std::string& task, const std::vector<gid_t>& groups,
                      uid_t user = kMemberUser) {
    ::setenv(kTask, task.c_str(), 1);
    const std::string self = platform::ExecutablePath().ValueOrDie();
    return Start({self, "--gtest_filter=Member.Runs"}, groups, user);
  }
  /// \brief Any program.
  static Member Start(std::vector<std::string> arguments,
                      const std::vector<gid_t>& groups, uid_t user = kMemberUser) {
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::array<int, 2> to{};
    std::array<int, 2> from{};
    SHEAF_CHECK(::pipe2(to.data(), O_CLOEXEC) == 0);
    SHEAF_CHECK(::pipe2(from.data(), O_CLOEXEC) == 0);
    const pid_t process = ::fork();
    if (process == 0) {  // Only async-signal-safe calls until exec.
      ::dup2(to[0], STDIN_FILENO);
      ::dup2(from[1], STDOUT_FILENO);
      ::dup2(from[1], STDERR_FILENO);
      ::signal(SIGPIPE, SIG_DFL);
      if (!BecomeMember(user, groups)) ::_exit(126);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    SHEAF_CHECK(process > 0);
    ::close(to[0]);
    ::close(from[1]);
    ::unsetenv(kTask);
    return {process, ::fdopen(from[0], "r"), to[1]};
  }
  Member(Member&& other) noexcept
      : process_(std::exchange(other.process_, 0)),
        output_(std::exchange(other.output_, nullptr)),
        input_(std::exchange(other.input_, -1)) {}
  ~Member() {
    if (process_ != 0) Kill();
  }

  /// \brief The next line of the task's own (`Say`); all of its output if there is none.
  std::string Hear() {
    std::array<char, 4096> line;
    while (std::fgets(line.data(), line.size(), output_) != nullptr) {
      const std::string text = line.data();
      all_ += text;
      if (text.starts_with(kMark)) {
        const size_t begin = std::string(kMark).size();
        return text.substr(begin, text.find('\n') - begin);
      }
    }
    return all_;
  }
  /// \brief The task waits for it (`AwaitWord`).
  void Tell() const { SHEAF_CHECK(::write(input_, "\n", 1) == 1); }

  void Kill() { End(SIGKILL); }
  /// \brief Wait for its end. Its exit code, or minus the signal that ended it.
  int Await() { return End(0); }
  /// \brief All that it said, after `Await`.
  const std::string& output() const { return all_; }

  // In the member's process.
  static const char* task() { return std::getenv(kTask); }
  static void Say(const std::string& word) {
    std::printf("%s%s\n", kMark, word.c_str());
    std::fflush(stdout);
  }
  static void AwaitWord() {
    while (std::getchar() != '\n') SHEAF_CHECK(std::feof(stdin) == 0);
  }

 private:
  static constexpr const char* kTask = "SHEAF_MEMBER_TASK";
  static constexpr const char* kMark = "@ ";

  Member(pid_t process, std::FILE* output, int input)
      : process_(process), output_(output), input_(input) {}

  int End(int signal_number) {
    if (signal_number != 0) {
      ::kill(process_, signal_number);
    } else {
      while (Hear() != all_) {
      }
    }
    int status = 0;
    while (::waitpid(process_, &status, 0) < 0) SHEAF_CHECK(errno == EINTR);
    std::fclose(output_);
    ::close(input_);
    process_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  pid_t process_;
  std::FILE* output_;
  int input_;
  std::string all_;
};

}  // namespace sheaf::testing
