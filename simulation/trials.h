// Runs of schedules, each in a child process: one that crashes is a finding, not the end.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "simulation/steps.h"

namespace sheaf::simulation {

/// \brief How one run ended.
struct Verdict {
  bool is_good = true;
  std::string text;  ///< What it said: what was wrong.
};

/// \brief Run `schedule` in a child.
Verdict Try(const Schedule& schedule, bool is_verbose);

/// \brief Run `body` in a child, which is given an empty folder; its standard error is
/// the verdict's text.
Verdict TryIn(const std::function<void(const std::string& folder)>& body);

/// \brief Run the schedules of `count` seeds from `first` on, `jobs` at a time, until one
/// is not good. Calls `on_progress` after each.
struct Finding {
  uint64_t seed = 0;
  Verdict verdict;
};
std::optional<Finding> TrySeeds(uint64_t first, uint64_t count, uint32_t ops,
                                uint32_t jobs,
                                const std::function<void(uint64_t done)>& on_progress);

/// \brief Leave out steps for as long as what is left still fails, or until `time` is
/// over.
Schedule Shrink(const Schedule& failing, std::chrono::seconds time);

}  // namespace sheaf::simulation
