// One try of a kill matrix at a point of the daemon.

#pragma once

#include <cstdint>
#include <string_view>

#include "tests/victim.h"

namespace sheaf::testing {

enum class Reached : uint8_t { kNo, kYes };

/// Which daemon meets the fault, where, and on which node a session works meanwhile.
struct DaemonCell {
  std::string_view point;
  std::string_view action;  ///< kill or pause
  uint32_t daemon;
  uint32_t node;
  Victim::Kind kind = Victim::Kind::kOwner;
};

}  // namespace sheaf::testing
