#include "daemon/session_locks.h"

#include <signal.h>

#include <charconv>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/access.h"
#include "daemon/log.h"
#include "platform/file.h"
#include "platform/lock_holders.h"
#include "platform/process.h"

namespace sheaf::daemon {
namespace {

constexpr const char* kSuffix = ".lock";
// What a lock of another user's session says: "user 17 reader".
constexpr const char* kUser = "user";
constexpr const char* kReader = "reader";
constexpr const char* kWriter = "writer";

}  // namespace

std::string SessionLocks::PathOf(uint64_t session) const {
  return folder_ + "/" + std::to_string(session) + kSuffix;
}

arrow::Status SessionLocks::MakeFolder() const {
  return platform::MakePrivateFolder(folder_);
}

arrow::Status SessionLocks::CheckHeld(const std::string& name) const {
  if (name.empty() || name.find('/') != std::string::npos || name.starts_with('.')) {
    return arrow::Status::Invalid("greeting without the name of a session lock");
  }
  const std::string path = folder_ + "/" + name;
  ARROW_ASSIGN_OR_RAISE(const bool is_held, platform::FileLock::IsHeld(path));
  if (is_held) return arrow::Status::OK();
  return arrow::Status::Invalid("nobody holds the session lock ", path);
}

arrow::Status SessionLocks::GiveTo(uint64_t session, const std::string& name) const {
  std::error_code error;
  const std::string path = folder_ + "/" + name;
  std::filesystem::rename(path, PathOf(session), error);
  if (!error) return arrow::Status::OK();
  return platform::OsError("cannot rename the session lock", path, error.value());
}

arrow::Result<platform::UniqueFd> SessionLocks::MakeFor(uint64_t session,
                                                        const SessionOwner& owner) const {
  const char* what = owner.access == format::Access::Writer ? kWriter : kReader;
  return platform::FileLock::MakeFor(
      PathOf(session),
      std::string(kUser) + " " + std::to_string(owner.user_id) + " " + what);
}

arrow::Result<bool> SessionLocks::IsHeld(uint64_t session) const {
  return platform::FileLock::IsHeld(PathOf(session));
}

// Only processes of this user can have written there.
arrow::Result<SessionOwner> SessionLocks::OwnerOf(uint64_t session) const {
  std::ifstream file(PathOf(session));
  std::string process;
  std::string note;
  std::getline(file, process);
  std::getline(file, note);
  if (note.empty()) {
    return SessionOwner{platform::CurrentUserId(), format::Access::Owner};
  }
  std::istringstream words(note);
  std::string user;
  SessionOwner owner;
  std::string access;
  words >> user >> owner.user_id >> access;
  if (words && user == kUser && (access == kReader || access == kWriter)) {
    owner.access = access == kReader ? format::Access::Reader : format::Access::Writer;
    return owner;
  }
  return arrow::Status::Invalid("the lock of session ", session, " says '", note,
                                "', not whose it is");
}

arrow::Status SessionLocks::Remove(uint64_t session) const {
  return platform::RemoveFile(PathOf(session));
}

arrow::Status SessionLocks::EndHolders(const std::set<uint64_t>& sessions) const {
  std::vector<std::string> paths;
  paths.reserve(sessions.size());
  for (const uint64_t session : sessions) paths.push_back(PathOf(session));
  arrow::Status status;
  for (const platform::UniqueFd& process : platform::OpenLockHolders(paths)) {
    status &= platform::SendSignal(process, SIGKILL);
  }
  return status;
}

std::vector<std::string> SessionLocks::Names() const {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder_, error), end;
       !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  return names;
}

uint64_t SessionLocks::SessionOf(const std::string& name) {
  uint64_t session = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), session);
  return name == std::to_string(session) + kSuffix && parsed.ec == std::errc() ? session
                                                                               : 0;
}

bool SessionLocks::RemoveIfFree(const std::string& name) const {
  const auto lock = platform::FileLock::Acquire(folder_ + "/" + name);
  if (lock.ok()) LogIfError("cannot remove a lock", lock->Remove());
  return !lock.status().IsAlreadyExists();
}

}  // namespace sheaf::daemon
