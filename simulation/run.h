// One run of a schedule, in this process.

#pragma once

#include <string>

#include "simulation/steps.h"

namespace sheaf::simulation {

/// \brief Everything happens in a folder of its own, `folder`, which is empty. Returns if
/// nothing was wrong; else says what was and ends the process with kExitViolation.
void Run(const Schedule& schedule, const std::string& folder, bool is_verbose);

}  // namespace sheaf::simulation
