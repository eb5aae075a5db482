// The life of a segment that is a window of a device: nothing is made or removed, its
// bytes are overwritten. The magic alone says whether there is a segment. All else of a
// header stays when the segment is given up, so that the memory is known as Sheaf's.

#pragma once

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/layout.h"
#include "region/cluster_config.h"
#include "region/format_claim.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::region {

/// \brief The header at the start of the window, as it is in memory now.
arrow::Result<format::SegmentHeader> ReadWindowHeader(const ClusterConfig& config,
                                                      SegmentId segment);

/// \brief A header without its magic, and with a right checksum for it: a segment that
/// was given up, or whose formatting was cut short.
bool IsGivenUp(const format::SegmentHeader& header);

/// \brief OK if the window, which begins with `found`, may be overwritten: zero where
/// control lines and leases go and at the start of the data, given up, or a segment of
/// this cluster. Invalid otherwise, saying what to do.
arrow::Status CheckMayOverwrite(const ClusterConfig& config, SegmentId segment,
                                const format::SegmentHeader& found);

/// \brief OK unless a daemon of another host serves what `found` describes.
arrow::Status CheckWindowNotServed(const ClusterConfig& config, SegmentId segment,
                                   const format::SegmentHeader& found);

/// \brief Give the segment up: its magic goes, settled.
arrow::Status GiveUpWindow(const ClusterConfig& config, SegmentId segment);

/// \brief Zero what FormatSegment promises: all of control but the records and `claim`,
/// and leases. AlreadyExists if another host formats it.
arrow::Status ClearWindow(const ClusterConfig& config, SegmentId segment, Part* control,
                          FormatClaim* claim);

/// \brief FormatSegment of a window whatever is in it, also a stranger's bytes or another
/// cluster's segment: these are lost. The caller holds the lock of the segment.
/// AlreadyExists if a daemon of another host serves it.
arrow::Status FormatAnyway(const ClusterConfig& config, NodeId node);

/// \brief FormatSegment of a window, and Invalid if there is a segment of this cluster.
arrow::Status FormatWhereNothingIs(const ClusterConfig& config, NodeId node);

/// \brief Remove a folder of locks that PrepareMemoryFolder made and that holds none.
arrow::Status RemoveUnusedMemoryFolder(const ClusterConfig& config);

}  // namespace sheaf::region
