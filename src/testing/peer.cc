#include "testing/peer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"
#include "platform/process.h"

extern char** environ;

namespace sheaf::testing {
namespace {

constexpr const char* kPeerVariable = "SHEAF_TEST_PEER";
// Standard input and output carry the conversation; GoogleTest's own prints go to
// standard error.
constexpr int kPeerOut = 3;

arrow::Status WriteLine(int fd, std::string line) {
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  line += '\n';
  for (size_t done = 0; done < line.size();) {
    const ssize_t written = ::write(fd, line.data() + done, line.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return platform::OsError("cannot write to", "the peer");
    done += static_cast<size_t>(written);
  }
  return arrow::Status::OK();
}

arrow::Result<std::string> ReadLine(int fd, std::string* unread) {
  for (;;) {
    if (const size_t end = unread->find('\n'); end != std::string::npos) {
      std::string line = unread->substr(0, end);
      unread->erase(0, end + 1);
      return line;
    }
    std::array<char, 4096> block;
    const ssize_t size = ::read(fd, block.data(), block.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return arrow::Status::IOError("the other process is gone");
    unread->append(block.data(), static_cast<size_t>(size));
  }
}

}  // namespace

arrow::Result<std::unique_ptr<Peer>> Peer::Start(
    const std::vector<std::string>& environment) {
  ARROW_ASSIGN_OR_RAISE(const std::string self, platform::ExecutablePath());
  std::array<int, 2> request{};
  std::array<int, 2> answer{};
  if (::pipe2(request.data(), O_CLOEXEC) != 0 || ::pipe2(answer.data(), O_CLOEXEC) != 0) {
    return platform::OsError("cannot make", "a pipe");
  }
  ::signal(SIGPIPE, SIG_IGN);  // a dead peer is an error of Ask, not the end of the test
  std::vector<std::string> variables = environment;
  variables.push_back(std::string(kPeerVariable) + "=1");
  for (char** entry = environ; *entry != nullptr; ++entry) variables.emplace_back(*entry);
  std::vector<char*> envp;
  envp.reserve(variables.size() + 1);
  for (std::string& variable : variables) envp.push_back(variable.data());
  envp.push_back(nullptr);
  std::string filter = "--gtest_filter=Peer.Serves";
  std::array<char*, 3> argv = {const_cast<char*>(self.c_str()), filter.data(), nullptr};

  auto peer = std::unique_ptr<Peer>(new Peer());
  peer->to_ = platform::UniqueFd(request[1]);
  peer->from_ = platform::UniqueFd(answer[0]);
  const platform::UniqueFd child_in(request[0]);
  const platform::UniqueFd child_out(answer[1]);
  peer->process_id_ = ::fork();
  if (peer->process_id_ < 0) return platform::OsError("cannot start", self);
  if (peer->process_id_ == 0) {
    // Only async-signal-safe calls until exec. The answers' descriptor may itself be
    // number 3.
    const int out = ::fcntl(child_out.get(), F_DUPFD, kPeerOut + 1);
    ::dup2(child_in.get(), STDIN_FILENO);
    ::dup2(out, kPeerOut);
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  return peer;
}

Peer::~Peer() {
  to_ = platform::UniqueFd();  // end of requests
  if (process_id_ > 0) {
    while (::waitpid(process_id_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

bool Peer::Kill() {
  if (process_id_ <= 0) return true;
  ::kill(process_id_, SIGKILL);
  int status = 0;
  while (::waitpid(process_id_, &status, 0) < 0 && errno == EINTR) {
  }
  process_id_ = -1;
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

arrow::Result<std::string> Peer::Ask(const std::string& request) {
  ARROW_RETURN_NOT_OK(WriteLine(to_.get(), request));
  return ReadLine(from_.get(), &unread_);
}

bool IsPeer() { return std::getenv(kPeerVariable) != nullptr; }

bool ReadPeerRequest(std::string* line) {
  static auto* unread = new std::string();
  auto read = ReadLine(STDIN_FILENO, unread);
  if (!read.ok()) return false;
  *line = std::move(read).ValueUnsafe();
  return true;
}

void SendPeerAnswer(const std::string& line) {
  // A test that is gone reads no answer; the next request then says so.
  static_cast<void>(WriteLine(kPeerOut, line));
}

}  // namespace sheaf::testing
