// The operating system as simulated processes see it. The linker leads each call of the
// rooms below src/ that has a `wrap` symbol here to this file (`--wrap`, the list is in
// cmake/SheafSimulation.cmake): no product code knows of it.

#include "simulation/system_calls.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "format/layout.h"
#include "platform/file.h"
#include "region/sim_memory.h"
#include "simulation/kernel.h"
#include "simulation/machine.h"

#define SHEAF_WRAP(symbol) __asm__("__wrap_" symbol)
#define SHEAF_REAL(symbol) __asm__("__real_" symbol)

namespace sheaf::simulation {

// Time, chance, waiting.

int ClockGetTime(clockid_t clock, struct timespec* time) SHEAF_WRAP("clock_gettime");
int ClockGetTime(clockid_t /*clock*/, struct timespec* time) {
  const Time now = Kernel::Get().Now();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
  *time = {seconds.count(), (now - seconds).count()};
  return 0;
}

int ClockNanosleep(clockid_t clock, int flags, const struct timespec* until,
                   struct timespec* left) SHEAF_WRAP("clock_nanosleep");
int ClockNanosleep(clockid_t /*clock*/, int /*flags*/, const struct timespec* until,
                   struct timespec* /*left*/) {
  Kernel::Get().SleepUntil(std::chrono::seconds(until->tv_sec) +
                           std::chrono::nanoseconds(until->tv_nsec));
  return 0;
}

std::chrono::system_clock::time_point SystemNow()
    SHEAF_WRAP("_ZNSt6chrono3_V212system_clock3nowEv");
std::chrono::system_clock::time_point SystemNow() {
  return std::chrono::system_clock::time_point(std::chrono::hours(500'000) +
                                               Kernel::Get().Now());
}

ssize_t GetRandom(void* bytes, size_t size, unsigned flags) SHEAF_WRAP("getrandom");
ssize_t GetRandom(void* bytes, size_t size, unsigned /*flags*/) {
  for (size_t i = 0; i < size; ++i) {
    static_cast<uint8_t*>(bytes)[i] = static_cast<uint8_t>(Kernel::Get().random().Next());
  }
  return static_cast<ssize_t>(size);
}

int PollReal(struct pollfd* fds, nfds_t count, int timeout) SHEAF_REAL("poll");
int Poll(struct pollfd* fds, nfds_t count, int timeout) SHEAF_WRAP("poll");
int Poll(struct pollfd* fds, nfds_t count, int timeout) {
  Kernel& kernel = Kernel::Get();
  if (timeout == 0 || kernel.current() == nullptr) return PollReal(fds, count, timeout);
  std::optional<Time> deadline;
  if (timeout > 0) deadline = kernel.Now() + std::chrono::milliseconds(timeout);
  kernel.WaitFor(std::vector<struct pollfd>(fds, fds + count), deadline);
  return PollReal(fds, count, 0);
}

int RealPoll(struct pollfd* fds, size_t count) { return PollReal(fds, count, 0); }

// Descriptors, by owner.

int OpenReal(const char* path, int flags, ...) SHEAF_REAL("open");
int Open(const char* path, int flags, ...) SHEAF_WRAP("open");
int Open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : mode_t{0};
  va_end(arguments);
  const int fd = OpenReal(path, flags, mode);
  Kernel::Get().Own(fd);
  return fd;
}

int SocketReal(int domain, int type, int protocol) SHEAF_REAL("socket");
int Socket(int domain, int type, int protocol) SHEAF_WRAP("socket");
int Socket(int domain, int type, int protocol) {
  const int fd = SocketReal(domain, type, protocol);
  Kernel::Get().Own(fd);
  return fd;
}

int AcceptReal(int socket, struct sockaddr* address, socklen_t* size, int flags)
    SHEAF_REAL("accept4");
int Accept(int socket, struct sockaddr* address, socklen_t* size, int flags)
    SHEAF_WRAP("accept4");
int Accept(int socket, struct sockaddr* address, socklen_t* size, int flags) {
  const int fd = AcceptReal(socket, address, size, flags);
  Kernel::Get().Own(fd);
  return fd;
}

int CloseReal(int fd) SHEAF_REAL("close");
int Close(int fd) SHEAF_WRAP("close");
int Close(int fd) {
  Kernel::Get().Disown(fd);
  return CloseReal(fd);
}
int RealClose(int fd) { return CloseReal(fd); }

ssize_t ReceiveReal(int socket, struct msghdr* message, int flags) SHEAF_REAL("recvmsg");
ssize_t Receive(int socket, struct msghdr* message, int flags) SHEAF_WRAP("recvmsg");
ssize_t Receive(int socket, struct msghdr* message, int flags) {
  const ssize_t size = ReceiveReal(socket, message, flags);
  if (size < 0) return size;
  for (struct cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr;
       header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = CMSG_LEN(0); at < header->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, reinterpret_cast<const char*>(header) + at, sizeof(fd));
      Kernel::Get().Own(fd);
    }
  }
  return size;
}

ssize_t SendMessageReal(int socket, const struct msghdr* message, int flags)
    SHEAF_REAL("sendmsg");
ssize_t SendMessage(int socket, const struct msghdr* message, int flags)
    SHEAF_WRAP("sendmsg");
ssize_t SendMessage(int socket, const struct msghdr* message, int flags) {
  Kernel::Get().NoteMessage();
  // Datagrams get lost.
  constexpr uint64_t kLossPeriod = 8;
  if (message->msg_name != nullptr && Kernel::Get().random().OneIn(kLossPeriod)) {
    return static_cast<ssize_t>(message->msg_iov->iov_len);
  }
  return SendMessageReal(socket, message, flags);
}

ssize_t SendReal(int socket, const void* bytes, size_t size, int flags)
    SHEAF_REAL("send");
ssize_t Send(int socket, const void* bytes, size_t size, int flags) SHEAF_WRAP("send");
ssize_t Send(int socket, const void* bytes, size_t size, int flags) {
  Kernel::Get().NoteMessage();
  return SendReal(socket, bytes, size, flags);
}

int ConnectReal(int socket, const struct sockaddr* address, socklen_t size)
    SHEAF_REAL("connect");
int Connect(int socket, const struct sockaddr* address, socklen_t size)
    SHEAF_WRAP("connect");
int Connect(int socket, const struct sockaddr* address, socklen_t size) {
  Kernel::Get().NoteActivity();
  return ConnectReal(socket, address, size);
}

// Mappings, by owner.

void* MapReal(void* address, size_t size, int protection, int flags, int fd, off_t offset)
    SHEAF_REAL("mmap");
void* Map(void* address, size_t size, int protection, int flags, int fd, off_t offset)
    SHEAF_WRAP("mmap");
void* Map(void* address, size_t size, int protection, int flags, int fd, off_t offset) {
  void* const mapped = MapReal(address, size, protection, flags, fd, offset);
  if (mapped != MAP_FAILED) {
    Kernel::Get().OwnMapping(reinterpret_cast<uint64_t>(mapped), size);
  }
  return mapped;
}

int UnmapReal(void* address, size_t size) SHEAF_REAL("munmap");
int Unmap(void* address, size_t size) SHEAF_WRAP("munmap");
int Unmap(void* address, size_t size) {
  Kernel::Get().DisownMapping(reinterpret_cast<uint64_t>(address), size);
  return UnmapReal(address, size);
}
int RealUnmap(void* address, size_t size_bytes) { return UnmapReal(address, size_bytes); }

// Processes. A pidfd is the reading end of a pipe that its process alone could write to.

namespace {

int OpenPidFd() {
  Kernel& kernel = Kernel::Get();
  if (kernel.current() == nullptr) {
    errno = EINVAL;
    return -1;
  }
  const int fd = ::fcntl(kernel.current()->death_pipe[0], F_DUPFD_CLOEXEC, 0);
  kernel.Own(fd);
  return fd;
}

bool SameFile(int a, int b) {
  struct stat first{};
  struct stat second{};
  return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 &&
         first.st_ino == second.st_ino && first.st_dev == second.st_dev;
}

int SignalPidFd(int pidfd) {
  Process* const process = Kernel::Get().Find(
      [pidfd](const Process& each) { return SameFile(each.death_pipe[0], pidfd); });
  if (process != nullptr) {
    process->is_signalled = true;
    return 0;
  }
  errno = ESRCH;
  return -1;
}

}  // namespace

// NOLINTNEXTLINE(google-runtime-int): as the C library has it
long Syscall(long number, ...) SHEAF_WRAP("syscall");
// NOLINTNEXTLINE(google-runtime-int)
long Syscall(long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  const int first = va_arg(arguments, int);
  va_end(arguments);
  if (number == SYS_pidfd_open) return OpenPidFd();
  if (number == SYS_pidfd_send_signal) return SignalPidFd(first);
  errno = ENOSYS;
  return -1;
}

arrow::Status CheckPidFd(const platform::UniqueFd& fd, int process_id)
    SHEAF_WRAP("_ZN5sheaf6daemon10CheckPidFdERKNS_8platform8UniqueFdEi");
arrow::Status CheckPidFd(const platform::UniqueFd& /*fd*/, int /*process_id*/) {
  return arrow::Status::OK();
}

uint64_t BootNumber() SHEAF_WRAP("_ZN5sheaf8platform10BootNumberEv");
uint64_t BootNumber() {
  return Machine::Get().BootNumberOf(Kernel::Get().current()->node);
}

// Slow, and of no account here.

arrow::Result<uint64_t> BackingPageSize(const void* address)
    SHEAF_WRAP("_ZN5sheaf8platform15BackingPageSizeEPKv");
arrow::Result<uint64_t> BackingPageSize(const void* /*address*/) { return 4096; }

arrow::Result<uint64_t> FreeBytes(const std::string& path) SHEAF_WRAP(
    "_ZN5sheaf8platform19FileSystemFreeBytesERKNSt7__cxx1112basic_"
    "stringIcSt11char_traitsIcESaIcEEE");
arrow::Result<uint64_t> FreeBytes(const std::string& /*path*/) {
  return uint64_t{1} << 40;
}

// Where processes take turns, and die: at each fault point, and at each cache operation
// of the simulated memory.

void PassFault(FaultPoint point)
    SHEAF_WRAP("_ZN5sheaf8internal19PassArmedFaultPointENS_10FaultPointE");
void PassFault(FaultPoint point) { Kernel::Get().Step(point.info().name); }

/// Ranges that are larger are data, or an index that is made anew.
constexpr uint64_t kControlBytesMax = uint64_t{64} << 10;

void FlushReal(region::SimMemory* memory, uint64_t offset, uint64_t size_bytes)
    SHEAF_REAL("_ZN5sheaf6region9SimMemory5FlushEmm");
void Flush(region::SimMemory* memory, uint64_t offset, uint64_t size_bytes)
    SHEAF_WRAP("_ZN5sheaf6region9SimMemory5FlushEmm");
void Flush(region::SimMemory* memory, uint64_t offset, uint64_t size_bytes) {
  Process* const process = Kernel::Get().current();
  if (process != nullptr && size_bytes > 0 && size_bytes <= kControlBytesMax) {
    process->work.lines +=
        (offset + size_bytes - 1) / format::kLineBytes - offset / format::kLineBytes + 1;
  }
  Kernel::Get().StepAtMemory(memory, offset);
  FlushReal(memory, offset, size_bytes);
}

}  // namespace sheaf::simulation
