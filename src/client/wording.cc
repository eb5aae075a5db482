#include "client/wording.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

namespace sheaf::client {
namespace {

constexpr size_t kNumbersShown = 16;
constexpr int64_t kSecond = 1'000'000'000;

}  // namespace

std::string HumanBytes(uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", value, kUnits[unit]);
  return text.data();
}

std::string JoinNumbers(const std::vector<uint32_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < std::min(numbers.size(), kNumbersShown); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(numbers[i]);
  }
  if (numbers.size() > kNumbersShown) {
    text += " and " + std::to_string(numbers.size() - kNumbersShown) + " more";
  }
  return text;
}

std::string MissingParts(const std::vector<uint32_t>& missing, uint32_t of) {
  const bool one = missing.size() == 1;
  return (one ? "part " : "parts ") + JoinNumbers(missing) + " of " + std::to_string(of) +
         (one ? " is missing" : " are missing");
}

std::string UtcTime(int64_t unix_ns) {
  const std::time_t seconds = unix_ns / kSecond;
  std::tm calendar{};
  std::array<char, 40> text{};
  if (::gmtime_r(&seconds, &calendar) == nullptr ||
      std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &calendar) == 0) {
    return "never";
  }
  return text.data();
}

}  // namespace sheaf::client
