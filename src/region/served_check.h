// Whether a daemon of another host has a segment: hosts share no locks, only memory.

#pragma once

#include <arrow/status.h>

#include "region/cluster_config.h"
#include "region/region.h"

namespace sheaf::region {

/// \brief AlreadyExists if another daemon serves `segment`, whose lock on this host the
/// caller holds: its heart beats. OK at once if the last one said that it went down, or
/// was of this boot of this host, where the lock tells; else the heart is watched for
/// `suspect_after_ms`.
arrow::Status CheckNotServed(const ClusterConfig& config, const Segment& segment);

/// \brief True if what this process maps as `segment` was given up since: its header has
/// no magic now, or that of another formatting.
bool IsGivenUpSince(const Segment& segment);

/// \brief True if what this process maps as `segment` can not be read as what is there
/// now: files that were given up, where there are new ones, or a window that is laid out
/// otherwise. One that was given up and is no more is none of these.
bool IsFormattedAnew(const ClusterConfig& config, const Segment& segment);

/// \brief False if `segment`, a window of a device, was formatted anew with its lines
/// elsewhere than where this process maps them: then nothing in it can be read here.
bool IsLaidOutAsMapped(const Segment& segment);

}  // namespace sheaf::region
