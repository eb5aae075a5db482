// Time and deferral, as the daemon's logic sees them.

#pragma once

#include <chrono>
#include <functional>

namespace sheaf::daemon {

/// \brief The event loop in a daemon, a fake clock in tests. Single-threaded: actions run
/// one after the other, never inside `After`.
class Scheduler {
 public:
  virtual ~Scheduler() = default;

  /// \brief Monotonic, and goes on while the machine is suspended (CLOCK_BOOTTIME).
  virtual std::chrono::nanoseconds Now() const = 0;

  /// \brief Run `action` once, `delay` from now or later. It cannot be taken back: it
  /// asks for itself whether it is still wanted.
  virtual void After(std::chrono::nanoseconds delay, std::function<void()> action) = 0;
};

}  // namespace sheaf::daemon
