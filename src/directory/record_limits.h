// Bounds that hold for every record, whoever wrote it.

#pragma once

#include <cstddef>
#include <cstdint>

namespace sheaf::directory {

constexpr int64_t kDescriptorSizeMax = int64_t{64} << 20;  ///< docs/protocol.md L13.
constexpr size_t kRangesMax = size_t{1} << 20;             ///< 16 MiB of them.
constexpr size_t kReferencesMax = size_t{1} << 16;         ///< A reader leases each.
/// The three above with room for names and padding.
constexpr int64_t kRecordSizeMax = int64_t{96} << 20;

constexpr int64_t kRecordPrefixBytes = 4;  ///< Size of the rest, little-endian.
constexpr int64_t kRecordSizeMin = 16;     ///< Prefix, root, identifier, and something.

}  // namespace sheaf::directory
