// XXH3 over shared bytes, and lines that carry their own checksum in their last word.

#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

#include "format/layout.h"

namespace sheaf::format {

uint64_t Checksum(std::span<const uint8_t> bytes);

/// \brief Hash of a table's name, as in slots and index entries; never 0.
uint64_t HashName(std::string_view name);

using LineWords = std::array<uint64_t, 8>;

template <typename T>
concept LineStruct = sizeof(T) == kLineBytes && std::is_trivially_copyable_v<T>;

/// \brief `line` as words with its checksum filled in.
template <LineStruct T>
LineWords SealLine(const T& line) {
  auto words = std::bit_cast<LineWords>(line);
  words[7] = Checksum({reinterpret_cast<const uint8_t*>(words.data()), 56});
  return words;
}

/// \brief The struct in `words`, or nothing if the checksum is wrong (torn, Busy,
/// garbage). A line of zeroes was never written and is valid: all fields 0.
template <LineStruct T>
std::optional<T> OpenLine(const LineWords& words) {
  if (words == LineWords{}) return std::bit_cast<T>(words);
  if (words[7] != Checksum({reinterpret_cast<const uint8_t*>(words.data()), 56})) {
    return std::nullopt;
  }
  return std::bit_cast<T>(words);
}

/// Word 0 of a slot or grant while it is being changed.
constexpr uint64_t kBusyWord = static_cast<uint64_t>(LineState::kBusy);

}  // namespace sheaf::format
