// Two hosts that format one window at once: one of them goes on (docs/protocol.md L12).

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/checksum.h"
#include "format/format_claim.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::region {

/// \brief A claim on the window of a segment, by one line that every claimant writes:
/// there is no atomic operation between hosts. Whoever reads another's claim stops, and
/// looks again before each of its steps; whoever wrote its claim waits longer than such a
/// step takes before it begins. So two of them write at once only if one was stopped, in
/// the middle of a step, for longer than that. One thread.
class FormatClaim {
 public:
  /// \brief Write a claim, settled. AlreadyExists, naming the host, if another one goes
  /// on with its own: watched for `suspect_after_ms`. A claim of this host is a dead
  /// process': the caller holds the lock of the window.
  static arrow::Result<std::unique_ptr<FormatClaim>> Write(const ClusterConfig& config,
                                                           SegmentId segment);

  /// \brief Wait until each other one has seen it. AlreadyExists, naming the host, if
  /// another one has written its claim meanwhile, or has formatted the window, whose
  /// epoch was `old_epoch` when it was looked at, 0 none.
  arrow::Status Confirm(uint64_t old_epoch);
  /// \brief AlreadyExists, naming the host, unless the claim is still there. Says that we
  /// go on. Before each step, some milliseconds long.
  arrow::Status Check();
  /// \brief Take it back, after the last step.
  void Release();

 private:
  FormatClaim(const ClusterConfig& config, SegmentId segment,
              std::unique_ptr<Part> control);
  format::LineWords LoadWords() const;
  format::FormatClaim Load() const;
  void Store(const format::FormatClaim& claim);
  arrow::Status WatchOther();
  arrow::Status Lost(const format::FormatClaim& other) const;

  const ClusterConfig& config_;
  SegmentId segment_;
  std::unique_ptr<Part> control_;
  format::FormatClaim own_{};
  format::FormatClaim before_{};  ///< What was there.
};

/// \brief True if the 64 bytes of a claim's line are Sheaf's: a claim, one that somebody
/// left half-written, words of two that were written at once, or zero.
bool IsClaimOrZero(const uint8_t* line);

}  // namespace sheaf::region
