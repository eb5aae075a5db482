// Who holds a lock: every process that has its open file description.

#pragma once

#include <string>
#include <vector>

#include "platform/file.h"

namespace sheaf::platform {

/// \brief A pidfd of each other process that holds the lock (FileLock) at one of `paths`,
/// also of one that only inherited it by fork. Of processes that this one may not look
/// into, of another user's or outside of its pid namespace, none. Slow: it looks at the
/// descriptors of all processes.
std::vector<UniqueFd> OpenLockHolders(const std::vector<std::string>& paths);

}  // namespace sheaf::platform
