// Who formats a window of a device (docs/format.md section 2, docs/protocol.md L12).

#pragma once

#include <cstdint>

#include "format/layout.h"

namespace sheaf::format {

/// Of the claim, from the start of the control part: in the rest of the header's page.
constexpr uint64_t kFormatClaimOffset = 512;

constexpr uint64_t kFormatClaimMagic = 0x4D49414C43454853;  // "SHECLAIM"

/// \brief Written by whoever formats a window, by turns if several do: the last one has
/// it.
struct FormatClaim {
  uint64_t id;     ///< Chosen at random; 0: nobody has it.
  uint64_t boot;   ///< As of IncarnationLine.
  uint64_t beats;  ///< Rises while its writer goes on.
  uint64_t magic;  ///< Also where words of two that write at once are mixed.
  char host[24];   ///< Its name, or the last one's, cut off, filled up with zeros.
  uint64_t checksum;
};
static_assert(sizeof(FormatClaim) == kLineBytes);

}  // namespace sheaf::format
