// What this machine offers to Sheaf: pages, memory, limits of this process.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sheaf::platform {

/// \brief Facts of the host and of this process, as the OS tells them. What it does not
/// tell is empty or 0.
struct Machine {
  std::string architecture;  ///< As `uname -m` says.
  std::string kernel;        ///< Its release, as `uname -r` says.
  uint32_t cpus = 0;
  uint64_t page_bytes = 0;
  uint64_t huge_page_bytes = 0;  ///< 0 if there are none.
  /// When a tmpfs that was mounted without an opinion gets huge pages: always, advise,
  /// within_size, never, ...
  std::string huge_pages_in_tmpfs;
  uint64_t memory_bytes = 0;
  uint64_t available_bytes = 0;  ///< Without swapping.
  uint64_t mappings_max = 0;     ///< Of one process (vm.max_map_count).
  uint64_t open_files_max = 0;   ///< Of this process; as all below.
  std::optional<uint64_t> address_space_max_bytes;  ///< Nothing: no limit.
  std::optional<uint64_t> file_size_max_bytes;
};

/// \brief Any thread. Reads files in /proc and /sys.
Machine DescribeMachine();

/// \brief True if nothing is mapped in this process in `[address, address + size_bytes)`,
/// so that Mapping::Map can have it.
bool IsAddressFree(uint64_t address, uint64_t size_bytes);

}  // namespace sheaf::platform
