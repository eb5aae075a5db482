#include "platform/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <arrow/result.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "platform/file.h"
#include "platform/test_folder.h"
#include "testing/arrow_test.h"

namespace sheaf::platform {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

/// Blocks until the process ends.
void WaitForExit(const UniqueFd& pidfd) {
  struct pollfd poll = {pidfd.get(), POLLIN, 0};
  while (::poll(&poll, 1, -1) < 0 && errno == EINTR) {
  }
}

std::string TextOf(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(PidFd, SeesTheEndOfAProcess) {
  std::array<int, 2> ends = {-1, -1};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    write_end = UniqueFd();
    char byte = 0;
    ::_exit(static_cast<int>(::read(read_end.get(), &byte, 1)));
  }
  ASSERT_OK_AND_ASSIGN(const UniqueFd pidfd, OpenPidFd(child));
  EXPECT_FALSE(HasExited(pidfd));
  write_end = UniqueFd();
  WaitForExit(pidfd);
  EXPECT_TRUE(HasExited(pidfd));  // Although nobody has reaped it yet.
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(HasExited(pidfd));
  EXPECT_TRUE(OpenPidFd(child).status().IsKeyError());
}

TEST(PidFd, IsClosedOnExec) {
  ASSERT_OK_AND_ASSIGN(const UniqueFd pidfd, OpenPidFd(CurrentProcessId()));
  EXPECT_NE(::fcntl(pidfd.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_FALSE(HasExited(pidfd));
}

class SpawnTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::mkfifo(folder_.File("gate").c_str(), 0600), 0); }

  /// A shell that runs `script` and then waits at the gate.
  arrow::Result<int> SpawnShell(const std::string& script) {
    return SpawnDetached(
        {"/bin/sh", "-c", script + "; read line < " + folder_.File("gate")}, log_path());
  }
  /// Opening waits for the shell: what its script printed is in the log then.
  UniqueFd MeetAtGate() {
    return UniqueFd(::open(folder_.File("gate").c_str(), O_WRONLY | O_CLOEXEC));
  }
  std::string log_path() const { return folder_.File("log"); }
  const TestFolder& folder() const { return folder_; }

 private:
  TestFolder folder_;
};

TEST_F(SpawnTest, IsNoChildAndLeavesTheSession) {
  ASSERT_OK_AND_ASSIGN(const int pid,
                       SpawnShell("echo pid $$; echo error >&2; readlink /proc/$$/fd/0"));
  ASSERT_OK_AND_ASSIGN(const UniqueFd pidfd, OpenPidFd(pid));
  const UniqueFd gate = MeetAtGate();
  EXPECT_EQ(TextOf(log_path()), "pid " + std::to_string(pid) + "\nerror\n/dev/null\n");
  EXPECT_NE(::getsid(pid), ::getsid(0));
  EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  ASSERT_EQ(::write(gate.get(), "\n", 1), 1);
  WaitForExit(pidfd);
}

TEST_F(SpawnTest, AppendsToTheLogWhichIsPrivate) {
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const int pid, SpawnShell("echo again"));
    ASSERT_OK_AND_ASSIGN(const UniqueFd pidfd, OpenPidFd(pid));
    ASSERT_EQ(::write(MeetAtGate().get(), "\n", 1), 1);
    WaitForExit(pidfd);
  }
  EXPECT_EQ(TextOf(log_path()), "again\nagain\n");
  struct stat status = {};
  ASSERT_EQ(::stat(log_path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

/// A shell's `$(sheaf ...)` waits until the last copy of the pipe's end is closed.
TEST_F(SpawnTest, HandsOnNoOpenPipe) {
  std::array<int, 2> ends = {-1, -1};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  ASSERT_OK_AND_ASSIGN(const int pid, SpawnShell("true"));
  ASSERT_OK_AND_ASSIGN(const UniqueFd pidfd, OpenPidFd(pid));
  write_end = UniqueFd();
  struct pollfd poll = {read_end.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&poll, 1, 0), 1);
  EXPECT_NE(poll.revents & POLLHUP, 0);
  ASSERT_EQ(::write(MeetAtGate().get(), "\n", 1), 1);
  WaitForExit(pidfd);
}

/// The shell reads with its own words: around a fork for grep it would block signals
/// itself.
TEST_F(SpawnTest, SignalsAreAsAtStart) {
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  struct sigaction action_before = {};
  ASSERT_EQ(::sigaction(SIGHUP, &ignore, &action_before), 0);
  ASSERT_OK_AND_ASSIGN(
      const int pid,
      SpawnShell("while read line; do echo \"$line\"; done < /proc/$$/status"));
  ASSERT_EQ(::sigaction(SIGHUP, &action_before, nullptr), 0);
  ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
  ASSERT_OK_AND_ASSIGN(const UniqueFd pidfd, OpenPidFd(pid));
  ASSERT_EQ(::write(MeetAtGate().get(), "\n", 1), 1);
  WaitForExit(pidfd);
  EXPECT_THAT(TextOf(log_path()), ContainsRegex("SigBlk:[\t ]0000000000000000"));
  // But for the two signals that the C library keeps to itself (32, 33) and hands on as
  // they are.
  EXPECT_THAT(TextOf(log_path()), ContainsRegex("SigIgn:[\t ]0000000[01][08]0000000"));
}

TEST_F(SpawnTest, MissingProgramIsAnError) {
  const arrow::Status status = SpawnDetached({"/no/such/program"}, log_path()).status();
  EXPECT_TRUE(status.IsIOError());
  EXPECT_THAT(status.message(), HasSubstr("/no/such/program: No such file"));
  EXPECT_TRUE(SpawnDetached({}, log_path()).status().IsInvalid());
  EXPECT_TRUE(
      SpawnDetached({"/bin/true"}, folder().File("none/log")).status().IsIOError());
}

TEST(ExecutablePath, IsThisProgram) {
  ASSERT_OK_AND_ASSIGN(const std::string path, ExecutablePath());
  EXPECT_TRUE(std::filesystem::equivalent(path, "/proc/self/exe"));
}

TEST(RandomBits, DiffersBetweenCalls) { EXPECT_NE(RandomBits(), RandomBits()); }

TEST(Time, SleepLastsAtLeastAsLongAsAsked) {
  const auto begin = BootTime();
  SleepFor(std::chrono::milliseconds(2));
  EXPECT_GE(BootTime() - begin, std::chrono::milliseconds(2));
  SleepFor(std::chrono::nanoseconds(-1));
}

}  // namespace
}  // namespace sheaf::platform
