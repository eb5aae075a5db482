#include "simulation/trials.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "platform/file.h"
#include "simulation/run.h"
#include "simulation/steps.h"

namespace sheaf::simulation {
namespace {

/// A run that takes longer has stopped to get on, though its clock may tick.
constexpr unsigned kRunSecondsMax = 240;

/// A child that runs one schedule.
struct Child {
  uint64_t seed = 0;
  std::string folder;
  int output = -1;  ///< A file that has no name any more.
};

std::string MakeFolder() {
  std::string folder = "/dev/shm/sheaf-simulation-XXXXXX";
  SHEAF_CHECK(::mkdtemp(folder.data()) != nullptr);
  return folder;
}

using Body = std::function<void(const std::string& folder)>;

int Start(const Body& body, bool is_verbose, Child* child) {
  child->folder = MakeFolder();
  child->output =
      ::open(child->folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
  SHEAF_CHECK(child->output >= 0);
  const int pid = ::fork();
  SHEAF_CHECK(pid >= 0);
  if (pid != 0) return pid;
  if (!is_verbose) SHEAF_CHECK(::dup2(child->output, STDERR_FILENO) >= 0);
  body(child->folder);
  std::fflush(nullptr);
  std::_Exit(0);
}

int Start(const Schedule& schedule, bool is_verbose, Child* child) {
  child->seed = schedule.seed;
  const auto body = [&](const std::string& folder) {
    ::alarm(kRunSecondsMax);
    Run(schedule, folder, is_verbose);
  };
  return Start(body, is_verbose, child);
}

std::string ReadOutput(int fd) {
  std::string text;
  std::array<char, 4096> bytes;
  for (off_t at = 0;;) {
    const ssize_t size = ::pread(fd, bytes.data(), bytes.size(), at);
    if (size <= 0) return text;
    text.append(bytes.data(), static_cast<size_t>(size));
    at += size;
  }
}

Verdict Finish(const Child& child, int status) {
  Verdict verdict;
  verdict.is_good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  verdict.text = ReadOutput(child.output);
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    verdict.text += number == SIGALRM
                        ? "  it does not get on any more\n"
                        : "  it died of signal " + std::to_string(number) + "\n";
  }
  ::close(child.output);
  SHEAF_CHECK(platform::RemoveAll(child.folder).ok());
  return verdict;
}

int Wait(int pid, int* ended) {
  int status = 0;
  do {
    *ended = ::waitpid(pid, &status, 0);
  } while (*ended < 0 && errno == EINTR);
  SHEAF_CHECK(*ended > 0);
  return status;
}

Schedule Without(const Schedule& schedule, size_t begin, size_t count) {
  Schedule rest = schedule;
  const auto first = rest.steps.begin() + static_cast<ptrdiff_t>(begin);
  const size_t end = std::min(begin + count, rest.steps.size());
  rest.steps.erase(first, rest.steps.begin() + static_cast<ptrdiff_t>(end));
  return rest;
}

}  // namespace

Verdict Try(const Schedule& schedule, bool is_verbose) {
  Child child;
  int ended = 0;
  const int status = Wait(Start(schedule, is_verbose, &child), &ended);
  return Finish(child, status);
}

Verdict TryIn(const Body& body) {
  Child child;
  int ended = 0;
  const int status = Wait(Start(body, false, &child), &ended);
  return Finish(child, status);
}

std::optional<Finding> TrySeeds(uint64_t first, uint64_t count, uint32_t ops,
                                uint32_t jobs,
                                const std::function<void(uint64_t done)>& on_progress) {
  std::map<int, Child> running;
  std::optional<Finding> finding;
  uint64_t next = first;
  uint64_t done = 0;
  for (;;) {
    while (!finding && next < first + count && running.size() < jobs) {
      Child child;
      const int pid = Start(MakeSchedule(next++, ops), false, &child);
      running.emplace(pid, std::move(child));
    }
    if (running.empty()) return finding;
    int ended = 0;
    const int status = Wait(-1, &ended);
    const Child child = std::move(running.at(ended));
    running.erase(ended);
    Verdict verdict = Finish(child, status);
    if (!verdict.is_good && !finding) {
      finding = Finding{child.seed, std::move(verdict)};
      for (const auto& [pid, other] : running) ::kill(pid, SIGKILL);
    }
    on_progress(++done);
  }
}

Schedule Shrink(const Schedule& failing, std::chrono::seconds time) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  Schedule best = failing;
  for (size_t count = std::max<size_t>(best.steps.size() / 2, 1);;) {
    bool is_shorter = false;
    // From the end: what comes after the failure goes first.
    for (size_t end = best.steps.size(); end > 0; end -= std::min(end, count)) {
      if (std::chrono::steady_clock::now() > deadline) return best;
      const size_t begin = end - std::min(end, count);
      Schedule rest = Without(best, begin, end - begin);
      if (Try(rest, false).is_good) continue;
      best = std::move(rest);
      is_shorter = true;
    }
    if (count == 1 && !is_shorter) return best;
    if (!is_shorter || count > best.steps.size()) count = std::max<size_t>(count / 2, 1);
  }
}

}  // namespace sheaf::simulation
