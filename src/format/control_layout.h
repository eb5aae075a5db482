// Where the arrays of a segment's control part lie (docs/format.md section 3).

#pragma once

#include <cstdint>

#include "format/layout.h"

namespace sheaf::format {

/// \brief Offsets of the arrays in the control part, in bytes from its start.
struct ControlLayout {
  uint64_t node_lines;
  uint64_t admit;  ///< [nodes_max] lines: word 0 = incarnation of that node honoured here
  uint64_t page_table;  ///< [lease_pages_max] words
  uint64_t grants;      ///< [grants_max] lines
  uint64_t slots;       ///< [slots_max] lines
  uint64_t ring_ends;   ///< [nodes_max] lines, format/ring.h
  uint64_t records;     ///< record area, `records_size_bytes`
  uint64_t rings;       ///< [nodes_max] of kRingBytes; memory is taken when one is used
  uint64_t size_bytes;

  static constexpr uint64_t Page(uint64_t n) { return (n + 4095) & ~uint64_t{4095}; }

  static constexpr ControlLayout Make(uint32_t nodes_max, uint32_t lease_pages_max,
                                      uint32_t grants_max, uint32_t slots_max,
                                      uint64_t records_size_bytes) {
    ControlLayout layout{};
    layout.node_lines = Page(sizeof(SegmentHeader));
    layout.admit =
        layout.node_lines +
        Page(uint64_t{static_cast<uint32_t>(NodeLine::kCount)} * kWriterSpacing);
    layout.page_table = layout.admit + Page(uint64_t{nodes_max} * kLineBytes);
    layout.grants = layout.page_table + Page(uint64_t{lease_pages_max} * 8);
    layout.slots = layout.grants + Page(uint64_t{grants_max} * kLineBytes);
    layout.ring_ends = layout.slots + Page(uint64_t{slots_max} * kLineBytes);
    layout.records = layout.ring_ends + Page(uint64_t{nodes_max} * kLineBytes);
    layout.rings = layout.records + Page(records_size_bytes);
    layout.size_bytes = layout.rings + nodes_max * kRingBytes;
    return layout;
  }
};

}  // namespace sheaf::format
