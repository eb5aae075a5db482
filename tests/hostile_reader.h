// What a reader of another user can try with all that it was given, to change a byte.

#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "base/check.h"
#include "platform/process.h"

namespace sheaf::testing {

/// \brief Tries everything; `done` has what it could do, one sentence each.
class HostileReader {
 public:
  /// Of this process. `folder` has the memory's files, `daemon` serves them.
  HostileReader(std::string folder, int daemon)
      : folder_(std::move(folder)), daemon_(daemon) {}

  void TryAll() {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code ignored;
      const std::string target = std::filesystem::read_symlink(entry, ignored).string();
      if (!target.starts_with(folder_)) continue;
      ++num_files;
      TryFile(std::stoi(entry.path().filename().string()), target);
    }
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.find(folder_) != std::string::npos) TryMapping(line);
    }
    TryDaemon();
    TryFolder();
  }

  std::vector<std::string> done;
  int num_files = 0;
  int num_mappings = 0;

 private:
  void Try(bool succeeded, const std::string& what) {
    if (succeeded) done.push_back(what);
  }

  void TryFile(int fd, const std::string& path) {
    const std::string self = "/proc/self/fd/" + std::to_string(fd);
    for (const int mode : {O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_WRONLY | O_APPEND}) {
      Try(::open(self.c_str(), mode) >= 0, "reopened " + path);
      Try(::open(path.c_str(), mode) >= 0, "opened " + path);
    }
    ::fcntl(fd, F_SETFL, O_RDWR);
    Try((::fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY, "changed the mode of " + path);
    const uint8_t byte = 0xEE;
    Try(::pwrite(fd, &byte, 1, 0) > 0, "wrote to " + path);
    Try(::ftruncate(fd, 0) == 0, "truncated " + path);
    Try(::truncate(self.c_str(), 0) == 0, "truncated by name " + path);
    for (const int mode : {0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           FALLOC_FL_ZERO_RANGE, FALLOC_FL_COLLAPSE_RANGE}) {
      Try(::fallocate(fd, mode, 0, 4096) == 0, "fallocate of " + path);
    }
    for (const int seal : {F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_SEAL}) {
      Try(::fcntl(fd, F_ADD_SEALS, seal) == 0, "sealed " + path);
    }
    Try(::fchmod(fd, 0666) == 0, "changed the permissions of " + path);
    Try(::fchown(fd, ::getuid(), ::getgid()) == 0, "took " + path);
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    Try(::fcntl(fd, F_OFD_SETLK, &lock) == 0, "locked " + path);
    void* shared = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    Try(shared != MAP_FAILED, "mapped writable " + path);
    void* readable = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (readable == MAP_FAILED) return;  // an empty file: a lock
    Try(::mprotect(readable, 4096, PROT_READ | PROT_WRITE) == 0, "unprotected " + path);
    Try(::madvise(readable, 4096, MADV_REMOVE) == 0, "removed pages of " + path);
  }

  void TryMapping(const std::string& line) {
    std::istringstream words(line);
    uintptr_t begin = 0;
    char dash = 0;
    uintptr_t end = 0;
    std::string access;
    words >> std::hex >> begin >> dash >> end >> access;
    SHEAF_CHECK(static_cast<bool>(words));
    ++num_mappings;
    Try(access[1] == 'w', "was given a writable mapping: " + line);
    // NOLINTNEXTLINE(performance-no-int-to-ptr): as the kernel says
    void* address = reinterpret_cast<void*>(begin);
    Try(::mprotect(address, end - begin, PROT_READ | PROT_WRITE) == 0,
        "unprotected " + line);
    Try(::madvise(address, end - begin, MADV_REMOVE) == 0, "removed pages of " + line);
    const int memory = ::open("/proc/self/mem", O_RDWR);
    const uint8_t byte = 0xEE;
    Try(memory >= 0 && ::pwrite(memory, &byte, 1, static_cast<off_t>(begin)) > 0,
        "wrote through its own memory to " + line);
    ::close(memory);
  }

  void TryDaemon() {
    const std::string process = "/proc/" + std::to_string(daemon_);
    Try(::open((process + "/mem").c_str(), O_RDWR) >= 0, "opened the daemon's memory");
    std::error_code error;
    std::filesystem::directory_iterator fds(process + "/fd", error);
    Try(!error, "listed the daemon's descriptors");
    Try(::ptrace(PTRACE_ATTACH, daemon_, nullptr, nullptr) == 0, "traced the daemon");
    uint8_t byte = 0;
    struct iovec own = {&byte, 1};
    struct iovec other = {&byte, 1};
    Try(::process_vm_writev(daemon_, &own, 1, &other, 1, 0) >= 0 || errno != EPERM,
        "wrote to the daemon's memory");
    Try(::kill(daemon_, 0) == 0, "could signal the daemon");
  }

  void TryFolder() {
    std::error_code error;
    const std::filesystem::directory_iterator entries(folder_, error);
    Try(!error, "listed " + folder_);
    Try(::open((folder_ + "/x").c_str(), O_CREAT | O_RDWR, 0600) >= 0,
        "made a file in " + folder_);
    Try(::unlink((folder_ + "/node0/data").c_str()) == 0, "removed a file");
    Try(::rename((folder_ + "/node0").c_str(), (folder_ + "/x").c_str()) == 0,
        "renamed a folder");
  }

  std::string folder_;
  int daemon_;
};

}  // namespace sheaf::testing
