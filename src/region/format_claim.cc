#include "region/format_claim.h"

#include <string.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/checksum.h"
#include "format/format_claim.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "platform/process.h"
#include "platform/shared_word.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/device_segment.h"
#include "region/part_set.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

/// Many times what a step between two looks at the claim takes.
constexpr std::chrono::milliseconds kConfirmWait{100};
constexpr std::chrono::milliseconds kBetweenLooks{10};

std::string HostOf(const format::FormatClaim& claim) {
  return {claim.host, ::strnlen(claim.host, sizeof(claim.host))};
}

uint64_t* LineOf(const Part& control) {
  return reinterpret_cast<uint64_t*>(control.data() + format::kFormatClaimOffset);
}

}  // namespace

bool IsClaimOrZero(const uint8_t* line) {
  format::LineWords words;
  std::memcpy(&words, line, sizeof(words));
  return words[0] == kBusyLine || format::OpenLine<format::FormatClaim>(words) ||
         std::bit_cast<format::FormatClaim>(words).magic == format::kFormatClaimMagic;
}

FormatClaim::FormatClaim(const ClusterConfig& config, SegmentId segment,
                         std::unique_ptr<Part> control)
    : config_(config), segment_(segment), control_(std::move(control)) {
  own_.id = std::max<uint64_t>(platform::RandomBits() >> 1, 1);
  own_.boot = platform::BootNumber();
  own_.magic = format::kFormatClaimMagic;
  const std::string host = platform::HostName();
  std::copy_n(host.begin(), std::min(host.size(), sizeof(own_.host)), own_.host);
}

format::LineWords FormatClaim::LoadWords() const {
  control_->cache()->Invalidate(LineOf(*control_), format::kLineBytes);
  return platform::LoadLine(LineOf(*control_));
}

format::FormatClaim FormatClaim::Load() const {
  return format::OpenLine<format::FormatClaim>(LoadWords())
      .value_or(format::FormatClaim{});
}

void FormatClaim::Store(const format::FormatClaim& claim) {
  platform::StoreLine(LineOf(*control_), format::SealLine(claim), kBusyLine);
  control_->cache()->Flush(LineOf(*control_), format::kLineBytes);
  control_->cache()->Fence();
}

arrow::Status FormatClaim::Lost(const format::FormatClaim& other) const {
  const std::string host = HostOf(other);
  const std::string who = host.empty() ? "another host" : "host '" + host + "'";
  return arrow::Status::AlreadyExists(SegmentText(config_, segment_), ": ", who,
                                      " formats it at the same time, and goes on: this "
                                      "one stopped; start node ",
                                      segment_.value, " on one host only");
}

// As of a heart that beats (served_check.h); also a line that somebody left half-written.
arrow::Status FormatClaim::WatchOther() {
  const format::LineWords first = LoadWords();
  const auto claim = format::OpenLine<format::FormatClaim>(first);
  before_ = claim.value_or(format::FormatClaim{});
  const bool is_of_this_host =
      claim && claim->boot == own_.boot && HostOf(*claim) == HostOf(own_);
  if ((claim && claim->id == 0) || is_of_this_host) return arrow::Status::OK();
  const auto end =
      platform::BootTime() + std::chrono::milliseconds(config_.suspect_after_ms);
  while (platform::BootTime() < end) {
    platform::SleepFor(kBetweenLooks);
    const format::LineWords now = LoadWords();
    if (now == first) continue;
    const auto changed = format::OpenLine<format::FormatClaim>(now);
    if (changed && changed->id == 0) break;  // done, or taken back
    return Lost(changed.value_or(format::FormatClaim{}));
  }
  return arrow::Status::OK();
}

arrow::Result<std::unique_ptr<FormatClaim>> FormatClaim::Write(
    const ClusterConfig& config, SegmentId segment) {
  const AttachOptions options{NodeId{segment.value}, Role::kDaemon, /*relocate=*/true};
  ARROW_ASSIGN_OR_RAISE(auto control,
                        OpenPart(config, options, segment, PartKind::kControl,
                                 format::kFormatClaimOffset + format::kLineBytes));
  std::unique_ptr<FormatClaim> claim(
      new FormatClaim(config, segment, std::move(control)));
  ARROW_RETURN_NOT_OK(claim->WatchOther());
  claim->Store(claim->own_);
  claim->control_->cache()->Settle(LineOf(*claim->control_), format::kLineBytes);
  return claim;
}

arrow::Status FormatClaim::Confirm(uint64_t old_epoch) {
  platform::SleepFor(kConfirmWait);
  ARROW_RETURN_NOT_OK(Check());
  ARROW_ASSIGN_OR_RAISE(const format::SegmentHeader now,
                        ReadWindowHeader(config_, segment_));
  if (Inspect(now) != HeaderState::kGood || now.format_epoch == old_epoch) {
    return arrow::Status::OK();
  }
  Release();
  return Lost(before_);
}

arrow::Status FormatClaim::Check() {
  const format::FormatClaim now = Load();
  if (now.id != own_.id) return Lost(now);
  ++own_.beats;
  Store(own_);
  return arrow::Status::OK();
}

void FormatClaim::Release() {
  if (Load().id != own_.id) return;
  format::FormatClaim none = own_;  // Others may look who it was.
  none.id = 0;
  Store(none);
}

}  // namespace sheaf::region
