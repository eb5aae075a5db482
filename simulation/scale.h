// What a large cluster costs in lines and messages: counted, not timed (docs/scale.md).

#pragma once

#include <cstdint>
#include <string>

namespace sheaf::simulation {

/// \brief How large it is.
struct ScaleOptions {
  uint32_t nodes = 16;
  uint32_t tables = 320;  ///< Put by turns on all nodes but one, which is the leader.
  bool rings = false;     ///< Messages through rings instead of sockets.
};

/// \brief Whole daemons of all nodes and a client on each, in this process: puts, gets
/// and removes by name; then the leader dies, and later another node; at last every
/// survivor finds every table. Prints one line of JSON for each thing that was counted.
/// Everything happens in `folder`, which is empty. Ends the process with kExitViolation
/// if something is wrong.
void RunScale(const ScaleOptions& options, const std::string& folder);

}  // namespace sheaf::simulation
