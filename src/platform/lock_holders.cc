#include "platform/lock_holders.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "platform/file.h"
#include "platform/process.h"

namespace sheaf::platform {
namespace {

namespace fs = std::filesystem;

/// By name: what else a process has open, on file systems that may not answer, is not
/// asked for more than that.
using Files = std::multimap<std::string, struct stat>;

bool IsOneOf(const Files& files, const fs::path& link) {
  std::error_code error;
  const std::string name = fs::read_symlink(link, error).filename().string();
  const auto [begin, end] = files.equal_range(name);
  struct stat found;
  if (begin == end || ::stat(link.c_str(), &found) != 0) return false;
  return std::any_of(begin, end, [&](const auto& file) {
    return file.second.st_dev == found.st_dev && file.second.st_ino == found.st_ino;
  });
}

/// Of that very open file description: who only looks at the file has none.
bool HasLock(const fs::path& information) {
  std::ifstream lines(information);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("lock:")) return true;
  }
  return false;
}

bool Holds(const fs::path& process, const Files& files) {
  std::error_code error;
  for (fs::directory_iterator entry(process / "fd", error), end; !error && entry != end;
       entry.increment(error)) {
    const fs::path& link = entry->path();
    if (IsOneOf(files, link) && HasLock(process / "fdinfo" / link.filename())) {
      return true;
    }
  }
  return false;
}

/// 0 if it is none.
int ProcessOf(const std::string& name) {
  int process_id = 0;
  const char* const end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data(), end, process_id);
  return parsed.ec == std::errc() && parsed.ptr == end ? process_id : 0;
}

}  // namespace

std::vector<UniqueFd> OpenLockHolders(const std::vector<std::string>& paths) {
  Files files;
  for (const std::string& path : paths) {
    struct stat found;
    if (::stat(path.c_str(), &found) != 0) continue;
    files.emplace(fs::path(path).filename().string(), found);
  }
  std::vector<UniqueFd> holders;
  std::error_code error;
  for (fs::directory_iterator entry("/proc", error), end; !error && entry != end;
       entry.increment(error)) {
    const int process_id = ProcessOf(entry->path().filename().string());
    if (process_id == 0 || process_id == CurrentProcessId()) continue;
    // First its descriptor: its number may be another's by now.
    auto process = OpenPidFd(process_id);
    if (process.ok() && Holds(entry->path(), files)) {
      holders.push_back(*std::move(process));
    }
  }
  return holders;
}

}  // namespace sheaf::platform
