#include "platform/process.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/math.h"
#include "platform/file.h"

namespace sheaf::platform {
namespace {

#ifndef SYS_pidfd_open  // Linux 5.3; one number on all architectures.
#  define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal  // Linux 5.1
#  define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_close_range  // Linux 5.9
#  define SYS_close_range 436
#endif
constexpr unsigned kCloseRangeCloexec = 1U << 2;  // Linux 5.11

/// Names of all members of a group.
constexpr size_t kGroupTextMax = size_t{1} << 20;
constexpr size_t kGroupsMax = 65536;  ///< NGROUPS_MAX of Linux.

/// What the new process tells the one that wanted it, over a pipe that exec closes: its
/// pid, then (only if exec failed) errno.
struct SpawnReport {
  int pid = 0;
  int error_number = 0;
};

// Below, between fork and exec: async-signal-safe calls only, since other threads of the
// parent may have held any lock.

void WriteAll(int fd, const void* data, size_t size_bytes) {
  const char* bytes = static_cast<const char*>(data);
  while (size_bytes > 0) {
    const ssize_t written = ::write(fd, bytes, size_bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    bytes += written;
    size_bytes -= static_cast<size_t>(written);
  }
}

/// Signals that the parent blocks or ignores must not stay so: exec hands them on.
void ResetSignals() {
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  for (int signal_number = 1; signal_number < NSIG; ++signal_number) {
    ::sigaction(signal_number, &by_default,
                nullptr);  // Harmless where it fails: SIGKILL.
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

/// Becomes `argv[0]`, or reports why not. A pipe of the parent that stayed open here
/// would keep its reader waiting for as long as the daemon lives: only 0, 1 and 2 are
/// handed on.
[[noreturn]] void RunDetached(char* const* argv, int null_fd, int log_fd, int report_fd) {
  ResetSignals();
  const int pid = ::getpid();
  WriteAll(report_fd, &pid, sizeof(pid));
  if (::dup2(null_fd, STDIN_FILENO) >= 0 && ::dup2(log_fd, STDOUT_FILENO) >= 0 &&
      ::dup2(log_fd, STDERR_FILENO) >= 0) {
    ::syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, kCloseRangeCloexec);
    ::execv(argv[0], argv);
  }
  const int error_number = errno;
  WriteAll(report_fd, &error_number, sizeof(error_number));
  ::_exit(127);
}

/// The child leaves session and terminal and forks again: the grandchild is not ours to
/// reap.
[[noreturn]] void ForkAgain(char* const* argv, int null_fd, int log_fd, int report_fd) {
  ::setsid();
  const pid_t pid = ::fork();
  if (pid == 0) RunDetached(argv, null_fd, log_fd, report_fd);
  if (pid < 0) {
    const SpawnReport report{0, errno};
    WriteAll(report_fd, &report, sizeof(report));
  }
  ::_exit(0);
}

// From here on ordinary code.

SpawnReport ReadReport(int fd) {
  std::array<int, 2> words = {0, 0};
  size_t got = 0;
  while (got < sizeof(words)) {
    const ssize_t size =
        ::read(fd, reinterpret_cast<char*>(words.data()) + got, sizeof(words) - got);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    got += static_cast<size_t>(size);
  }
  return {words[0], words[1]};
}

}  // namespace

arrow::Result<UniqueFd> OpenPidFd(int pid) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (fd.valid()) return fd;
  if (errno == ESRCH) return arrow::Status::KeyError("there is no process ", pid);
  return OsError("cannot watch", "process " + std::to_string(pid));
}

bool HasExited(const UniqueFd& pidfd) {
  struct pollfd poll = {pidfd.get(), POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&poll, 1, 0);
  } while (ready < 0 && errno == EINTR);
  return ready == 1 && (poll.revents & POLLIN) != 0;
}

arrow::Status SendSignal(const UniqueFd& pidfd, int signal_number) {
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signal_number, nullptr, 0) == 0 ||
      errno == ESRCH) {
    return arrow::Status::OK();
  }
  return OsError("cannot send", "signal " + std::to_string(signal_number));
}

uint64_t BootNumber() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;  // a random UUID
  file >> id;
  std::erase(id, '-');
  const uint64_t number = std::strtoull(id.substr(0, 16).c_str(), nullptr, 16);
  return number == 0 ? 1 : number;
}

std::string HostName() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets it
  if (const char* name = std::getenv("SHEAF_HOST"); name != nullptr && *name != '\0') {
    return name;
  }
  struct utsname system = {};
  return ::uname(&system) == 0 ? system.nodename : "";
}

int CurrentProcessId() { return ::getpid(); }

uint64_t PageBytes() {
  static const auto kBytes = CheckedCast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return kBytes;
}

uint32_t CurrentUserId() { return ::geteuid(); }

arrow::Result<uint32_t> FindGroup(const std::string& name) {
  uint32_t group_id = 0;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data(), end, group_id);
  if (parsed.ec == std::errc() && parsed.ptr == end) return group_id;
  std::vector<char> text(kGroupTextMax);
  struct group entry = {};
  struct group* found = nullptr;
  const int error_number =
      ::getgrnam_r(name.c_str(), &entry, text.data(), text.size(), &found);
  if (found != nullptr) return entry.gr_gid;
  if (error_number == 0) {
    return arrow::Status::KeyError("this host knows no group '", name,
                                   "'; `getent group` lists those there are");
  }
  return OsError("cannot look for group", name, error_number);
}

bool IsInGroup(uint32_t group_id) {
  if (::getegid() == group_id) return true;
  std::vector<gid_t> groups(kGroupsMax);
  const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  return std::find(groups.begin(), groups.begin() + std::max(count, 0), group_id) !=
         groups.begin() + std::max(count, 0);
}

arrow::Result<int> SpawnDetached(const std::vector<std::string>& arguments,
                                 const std::string& log_path) {
  if (arguments.empty()) return arrow::Status::Invalid("no program to start");
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  UniqueFd null_fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null_fd.valid()) return OsError("cannot open", "/dev/null");
  UniqueFd log_fd(::open(log_path.c_str(),
                         O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!log_fd.valid()) return OsError("cannot open log file", log_path);
  std::array<int, 2> ends = {-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return OsError("cannot make", "a pipe");
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);

  const pid_t child = ::fork();
  if (child < 0) return OsError("cannot start", arguments[0]);
  if (child == 0) ForkAgain(argv.data(), null_fd.get(), log_fd.get(), write_end.get());
  write_end = UniqueFd();
  const SpawnReport report = ReadReport(read_end.get());
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (report.error_number != 0) {
    return OsError("cannot start", arguments[0], report.error_number);
  }
  if (report.pid == 0) {
    return arrow::Status::IOError("cannot start ", arguments[0], ": it ended at once");
  }
  return report.pid;
}

arrow::Result<std::string> ExecutablePath() {
  std::array<char, PATH_MAX> path;
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  if (size < 0) return OsError("cannot read", "/proc/self/exe");
  return std::string(path.data(), static_cast<size_t>(size));
}

uint64_t RandomBits() {
  uint64_t bits = 0;
  ssize_t size = 0;
  do {
    size = ::getrandom(&bits, sizeof(bits), 0);
  } while (size < 0 && errno == EINTR);
  SHEAF_CHECK(size == sizeof(bits));
  return bits;
}

std::chrono::nanoseconds BootTime() {
  struct timespec now;
  SHEAF_CHECK(::clock_gettime(CLOCK_BOOTTIME, &now) == 0);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

void SleepFor(std::chrono::nanoseconds duration) {
  const std::chrono::nanoseconds end = BootTime() + duration;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(end);
  const struct timespec deadline = {seconds.count(), (end - seconds).count()};
  while (::clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &deadline, nullptr) == EINTR) {
  }
}

}  // namespace sheaf::platform
