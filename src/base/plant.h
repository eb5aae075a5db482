// Faults that a test plants on purpose, to prove that the suite would see them.
// Test-only.

#pragma once

#include <string_view>

namespace sheaf {

/// \brief True if the fault `name` is planted: named in the environment variable
/// SHEAF_PLANT (comma separated), which is read once, when the first region is attached,
/// or by SetPlants. Any thread; costs one load when nothing is planted.
bool Planted(std::string_view name);

/// \brief Replace the planted faults of this process. Tests only.
void SetPlants(std::string_view names);

}  // namespace sheaf
