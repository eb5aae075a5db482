// How errors and lists say numbers and times.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sheaf::client {

std::string HumanBytes(uint64_t bytes);  ///< "1.2 GiB"

/// \brief "1, 2, 5", of many the first and how many more there are.
std::string JoinNumbers(const std::vector<uint32_t>& numbers);

/// \brief "part 1 of 3 is missing", "parts 1, 2 of 3 are missing".
std::string MissingParts(const std::vector<uint32_t>& missing, uint32_t of);

/// \brief "2026-11-27 14:00:00 UTC", of nanoseconds since 1970; "never" for what no
/// calendar has.
std::string UtcTime(int64_t unix_ns);

}  // namespace sheaf::client
