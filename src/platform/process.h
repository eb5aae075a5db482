// Processes: identity, death, and time.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"

namespace sheaf::platform {

/// \brief A descriptor of process `pid` that becomes readable when the process ends
/// (pidfd_open).
arrow::Result<UniqueFd> OpenPidFd(int pid);
/// \brief True once the process behind `pidfd` has ended.
bool HasExited(const UniqueFd& pidfd);
/// \brief Send a signal to that very process; OK if it has ended.
arrow::Status SendSignal(const UniqueFd& pidfd, int signal_number);

/// \brief Names this boot of this host (a part of its boot id), never 0: whatever other
/// value was noted, its processes and caches are gone.
uint64_t BootNumber();

/// \brief $SHEAF_HOST, else the name of this host (uname -n); empty if it has none.
std::string HostName();

uint64_t PageBytes();  ///< The unit of mappings.

int CurrentProcessId();
uint32_t CurrentUserId();

/// \brief Id of the group of that name, or of that number in digits. KeyError if this
/// host knows no such name.
arrow::Result<uint32_t> FindGroup(const std::string& name);
/// \brief True if this process is in the group (or is its effective one).
bool IsInGroup(uint32_t group_id);

/// \brief Start `arguments[0]` (a path) detached from this session and terminal, standard
/// input from /dev/null, output appended to `log_path`. Returns the pid.
arrow::Result<int> SpawnDetached(const std::vector<std::string>& arguments,
                                 const std::string& log_path);

/// \brief Path of the running executable.
arrow::Result<std::string> ExecutablePath();

/// \brief 64 random bits from the OS.
uint64_t RandomBits();

/// \brief Monotonic time that also runs while the machine is suspended (CLOCK_BOOTTIME).
std::chrono::nanoseconds BootTime();

void SleepFor(std::chrono::nanoseconds duration);

}  // namespace sheaf::platform
