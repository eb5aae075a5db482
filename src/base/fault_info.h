// What a fault point is called, and where the program is there.

#pragma once

#include <string_view>

namespace sheaf {

/// \brief An entry of the table of fault points: the name, whose first part is the
/// program that passes it, and in one sentence how far that is there.
struct FaultPointInfo {
  std::string_view name;
  std::string_view what;

  /// "client" or "daemon"
  constexpr std::string_view program() const { return name.substr(0, name.find('.')); }
};

}  // namespace sheaf
