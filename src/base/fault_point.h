// Places where a process can be killed, paused or delayed: what dies at the worst moment
// dies there. Compiled in always; armed by the environment, or by a test.

#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <arrow/status.h>

#include "base/client_faults.h"
#include "base/daemon_faults.h"
#include "base/fault_info.h"

namespace sheaf {

/// \brief Every fault point there is; `sheaf faults` prints them.
inline constexpr auto kFaultPoints = [] {
  std::array<FaultPointInfo, kClientFaultPoints.size() + kDaemonFaultPoints.size()> all;
  const auto daemon = std::ranges::copy(kClientFaultPoints, all.begin()).out;
  std::ranges::copy(kDaemonFaultPoints, daemon);
  return all;
}();

/// \brief A point of `kFaultPoints`, by its name; a name that is not there does not
/// compile.
class FaultPoint {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): call sites pass the bare name
  consteval FaultPoint(const char* name) : index_(IndexOf(name)) {}

  constexpr size_t index() const { return index_; }
  constexpr const FaultPointInfo& info() const { return kFaultPoints[index_]; }

 private:
  static consteval size_t IndexOf(std::string_view name) {
    size_t index = 0;
    // Past the end is no constant: that is the compiler's error for an unknown name.
    while (kFaultPoints[index].name != name) ++index;
    return index;
  }
  size_t index_;
};

namespace internal {

/// True until the environment is read and arms nothing.
inline std::atomic<bool> faults_may_be_armed{true};

void PassArmedFaultPoint(FaultPoint point);

}  // namespace internal

/// \brief Kill (SIGKILL), pause (SIGSTOP) or delay this process here, if that is armed
/// for this pass of `point`; says so on standard error before. Any thread; costs one
/// relaxed load while nothing is armed.
///
/// Armed by the environment variable SHEAF_FAULT, which is read once, when the first
/// point is passed: "<name>=<action>[@<n>]", comma separated. Actions: kill, pause,
/// delay:<ms>. It happens at the n-th pass only (1 if not said). A value that is
/// malformed ends the process with exit code 2.
inline void PassFaultPoint(FaultPoint point) {
  if (internal::faults_may_be_armed.load(std::memory_order_relaxed)) {
    internal::PassArmedFaultPoint(point);
  }
}

/// \brief Replace what is armed in this process; `faults` is as SHEAF_FAULT, empty for
/// none. Counts of passes begin anew. Invalid, and nothing changes, if it is malformed.
/// Tests only.
arrow::Status ArmFaults(std::string_view faults);

/// \brief One fault that is armed, and how often its point was passed since.
struct ArmedFault {
  std::string_view name;
  uint64_t passes = 0;
};

/// \brief What is armed now, in the order given. Tests only.
std::vector<ArmedFault> ArmedFaults();

}  // namespace sheaf
