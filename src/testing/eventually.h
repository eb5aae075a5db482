// Waiting in tests for what another process will do: by looking, never by sleeping a
// guessed time.

#pragma once

#include <chrono>
#include <functional>

#include "platform/process.h"

namespace sheaf::testing {

/// \brief True as soon as `holds` is; false if it is not within a minute (a watchdog:
/// nothing that works takes that long, and no test depends on how long it takes).
inline bool Eventually(const std::function<bool()>& holds) {
  const auto deadline = platform::BootTime() + std::chrono::minutes(1);
  while (!holds()) {
    if (platform::BootTime() > deadline) return false;
    platform::SleepFor(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace sheaf::testing
