// The first 256 bytes of a segment: what they must say, and what to tell when they do
// not.

#pragma once

#include <cstdint>
#include <string>

#include <arrow/status.h>

#include "format/control_layout.h"
#include "format/layout.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::region {

/// \brief Why the bytes at the start of a control part are not a header to use at once.
enum class HeaderState : uint8_t {
  kGood,
  kBlank,         ///< No magic: being formatted, or a crash left it so.
  kForeign,       ///< Wrong magic.
  kOtherVersion,  ///< A header of another format version.
  kTorn,          ///< Wrong checksum.
};
HeaderState Inspect(const format::SegmentHeader& header);

/// \brief The arrays of a control part as `config` wants them.
format::ControlLayout LayoutOf(const ClusterConfig& config);

/// \brief The header of segment `segment` as `config` wants it, checksum included.
format::SegmentHeader MakeHeader(const ClusterConfig& config, SegmentId segment,
                                 uint64_t format_epoch);

/// \brief OK if `found`, a copy, is the header of `segment` of this cluster and of user
/// `user_id`, with the sizes that `config` says, and data of any size that a node may
/// have. Invalid names segment, folder, field,
/// found and expected, and what to do.
arrow::Status CheckHeader(const format::SegmentHeader& found, const ClusterConfig& config,
                          SegmentId segment, uint32_t user_id);

/// \brief "segment 3 in /dev/shm/x/node3", as errors begin.
std::string SegmentText(const ClusterConfig& config, SegmentId segment);
/// \brief What to do about files that Sheaf does not touch, as errors end.
std::string RemoveByHand(const ClusterConfig& config, SegmentId segment);

/// \brief What to do about memory of ours that nobody can go on with, as errors end.
std::string GiveUpText(const ClusterConfig& config);

/// \brief Format epochs fit in 31 bits: the high half of a generation, which stays
/// positive as a signed number.
constexpr uint64_t kFormatEpochMax = (uint64_t{1} << 31) - 1;

/// \brief Seconds since 2020, and with `random_bits` in the low 8 bits: the epoch of a
/// segment whose former epoch is lost. Else one above `old_epoch`, if that is later.
uint64_t NextFormatEpoch(uint64_t old_epoch, int64_t unix_seconds, uint64_t random_bits);

}  // namespace sheaf::region
