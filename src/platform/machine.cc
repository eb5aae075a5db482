#include "platform/machine.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include "base/math.h"

namespace sheaf::platform {
namespace {

uint64_t ReadNumber(const char* path) {
  uint64_t number = 0;
  std::ifstream(path) >> number;
  return number;
}

// "always [advise] never": the word in brackets.
std::string ReadChoice(const char* path) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    if (word.starts_with('[') && word.ends_with(']')) {
      return word.substr(1, word.size() - 2);
    }
  }
  return "";
}

// A line such as "MemTotal:   16384 kB".
uint64_t ReadMemoryInfo(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  uint64_t kibibytes = 0;
  for (std::string word; file >> word;) {
    if (word == key + ":" && file >> kibibytes) return kibibytes << 10;
  }
  return 0;
}

std::optional<uint64_t> LimitOf(int resource) {
  struct rlimit limit = {};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::nullopt;
  }
  return limit.rlim_cur;
}

}  // namespace

Machine DescribeMachine() {
  Machine machine;
  struct utsname name = {};
  if (::uname(&name) == 0) {
    machine.architecture = name.machine;
    machine.kernel = name.release;
  }
  machine.cpus = CheckedCast<uint32_t>(::sysconf(_SC_NPROCESSORS_ONLN));
  machine.page_bytes = CheckedCast<uint64_t>(::sysconf(_SC_PAGESIZE));
  machine.huge_page_bytes =
      ReadNumber("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
  machine.huge_pages_in_tmpfs =
      ReadChoice("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  machine.memory_bytes = ReadMemoryInfo("MemTotal");
  machine.available_bytes = ReadMemoryInfo("MemAvailable");
  machine.mappings_max = ReadNumber("/proc/sys/vm/max_map_count");
  machine.open_files_max = LimitOf(RLIMIT_NOFILE).value_or(0);
  machine.address_space_max_bytes = LimitOf(RLIMIT_AS);
  machine.file_size_max_bytes = LimitOf(RLIMIT_FSIZE);
  return machine;
}

bool IsAddressFree(uint64_t address, uint64_t size_bytes) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a place that is asked for by its number.
  void* const wanted = reinterpret_cast<void*>(address);
  void* const mapped =
      ::mmap(wanted, size_bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (mapped == MAP_FAILED) return false;
  ::munmap(mapped, size_bytes);
  return mapped == wanted;  // Before Linux 4.17 it may be elsewhere.
}

}  // namespace sheaf::platform
