// Words of leases and the generations that they name.

#pragma once

#include <cstdint>

namespace sheaf::format {

/// \brief Entry of the session page table, one word: bit 63 active, low 63 bits the
/// session (L5).
constexpr uint64_t kLeasePageActive = uint64_t{1} << 63;

/// \brief A lease cell, one word (L3): home 12 bits, slot 22 bits, low 30 bits of the
/// generation. 0 is empty (generation 0 does not exist, so no lease packs to 0).
constexpr uint64_t PackLeaseCell(uint32_t home, uint32_t slot, uint64_t generation) {
  return (uint64_t{home} & 0xFFF) << 52 | (uint64_t{slot} & 0x3FFFFF) << 30 |
         (generation & 0x3FFFFFFF);
}
constexpr uint32_t HomeOfLeaseCell(uint64_t cell) {
  return static_cast<uint32_t>(cell >> 52);
}
constexpr uint32_t SlotOfLeaseCell(uint64_t cell) {
  return static_cast<uint32_t>(cell >> 30) & 0x3FFFFF;
}
constexpr uint32_t kNodesMax = 1u << 12;
constexpr uint32_t kSlotsMax = 1u << 22;
constexpr uint64_t kGenerationLowMask = 0x3FFFFFFF;

/// \brief First generation of a segment's slots and grants (L3): never reused after a
/// re-format. The low half starts at 1 and is taken out of use before it would wrap in 30
/// bits.
constexpr uint64_t FirstGeneration(uint64_t format_epoch) {
  return (format_epoch << 32) + 1;
}
/// \brief Of the formatting that a generation or an incarnation (F9) is of.
constexpr uint64_t FormatEpochOf(uint64_t generation) { return generation >> 32; }

}  // namespace sheaf::format
