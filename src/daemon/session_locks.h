// The locks that tell whether a session's processes live (docs/protocol.md D1).

#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/access.h"
#include "platform/file.h"

namespace sheaf::daemon {

/// \brief One file for each session, in a folder beside the node's memory: the next
/// daemon may have another runtime folder. Processes of this user make their own file;
/// for others, who may not, the daemon does. Single-threaded.
class SessionLocks {
 public:
  explicit SessionLocks(std::string folder) : folder_(std::move(folder)) {}

  arrow::Status MakeFolder() const;

  /// \brief Give the lock `name`, which a greeting process of this user holds, to
  /// `session`. Invalid if it is no such name, or nobody holds it.
  arrow::Status CheckHeld(const std::string& name) const;
  arrow::Status GiveTo(uint64_t session, const std::string& name) const;
  /// \brief The lock of a new session of another user: held as long as a copy of the
  /// descriptor is open. It says whose the session is, also to the next daemon.
  arrow::Result<platform::UniqueFd> MakeFor(uint64_t session,
                                            const SessionOwner& owner) const;

  arrow::Result<bool> IsHeld(uint64_t session) const;
  /// \brief Whose `session` is, as its lock says: this user's, unless MakeFor made it.
  arrow::Result<SessionOwner> OwnerOf(uint64_t session) const;
  arrow::Status Remove(uint64_t session) const;
  /// \brief SIGKILL to each other process that holds the lock of one of `sessions`, as
  /// far as this one may look into it (platform::OpenLockHolders). Slow.
  arrow::Status EndHolders(const std::set<uint64_t>& sessions) const;

  /// \brief Remove what greetings left that were never welcomed; `is_session` knows the
  /// others. True if some process still holds one.
  template <typename IsSession>
  bool RemoveStale(IsSession is_session) const {
    bool any_held = false;
    for (const std::string& name : Names()) {
      if (!is_session(SessionOf(name))) any_held |= !RemoveIfFree(name);
    }
    return any_held;
  }

 private:
  std::string PathOf(uint64_t session) const;
  std::vector<std::string> Names() const;
  static uint64_t SessionOf(const std::string& name);  ///< 0: of no session.
  bool RemoveIfFree(const std::string& name) const;

  std::string folder_;
};

}  // namespace sheaf::daemon
