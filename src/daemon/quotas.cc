#include "daemon/quotas.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "alloc/range_map.h"
#include "base/math.h"
#include "format/layout.h"
#include "region/cluster_config.h"
#include "sheaf/status.h"

namespace sheaf::daemon {

Quotas::Quotas(const region::ClusterConfig& config, uint64_t segment_bytes)
    : segment_bytes_(segment_bytes),
      limits_{config.session_quota_bytes, config.user_quota_bytes} {}

namespace {

constexpr uint64_t kKiB = uint64_t{1} << 10;

bool IsHeld(const alloc::RangeMap& account, const std::vector<alloc::Range>& ranges) {
  return std::ranges::all_of(ranges, [&](const alloc::Range& range) {
    const auto runs = account.Runs(range);
    return runs.ok() && std::ranges::all_of(*runs, [](const alloc::Run& run) {
             return run.state == alloc::RunState::kSealed;
           });
  });
}

}  // namespace

const Quotas::Account* Quotas::Find(Kind kind, uint64_t id) const {
  const auto found = accounts_[kind].find(id);
  return found == accounts_[kind].end() ? nullptr : &found->second;
}

arrow::Status Quotas::Check(Kind kind, uint64_t id, uint64_t more_bytes) const {
  if (limits_[kind] == 0) return arrow::Status::OK();
  const Account* account = Find(kind, id);
  const uint64_t used =
      account == nullptr ? 0 : account->size_bytes() - account->free_bytes();
  if (more_bytes <= limits_[kind] && used <= limits_[kind] - more_bytes) {
    return arrow::Status::OK();
  }
  const std::string who = (kind == kSession ? "session " : "user ") + std::to_string(id);
  const std::string what = kind == kSession ? "session" : "user";
  return MakeStatus(
      arrow::StatusCode::OutOfMemory, ErrorReason::kQuota,
      "the " + what + " quota of this node is " + region::FormatSize(limits_[kind]) +
          ": " + who + " holds " + region::FormatSize(RoundUp(used, kKiB)) +
          " and needs " + region::FormatSize(RoundUp(more_bytes, kKiB)) + " more. " +
          (kind == kSession ? "Drop tables and buffers of this session, or put the rest "
                              "from another one"
                            : "Remove tables of this user (sheaf rm)") +
          "; the quota is set by: sheaf up --" + what + "-quota");
}

arrow::Status Quotas::CheckGrant(const Holder& holder, uint64_t size_bytes) const {
  // No request is larger than the segment; the sum cannot overflow.
  const uint64_t extent_bytes =
      RoundUp(std::min(size_bytes, segment_bytes_), format::kSmallExtentBytes);
  ARROW_RETURN_NOT_OK(Check(kSession, holder.session, extent_bytes));
  return Check(kUser, holder.user_id, extent_bytes);
}

arrow::Status Quotas::CheckRanges(const Holder& holder,
                                  const std::vector<alloc::Range>& ranges) const {
  const uint64_t ids[] = {holder.session, holder.user_id};
  for (const Kind kind : {kSession, kUser}) {
    if (limits_[kind] == 0) continue;
    const Account* account = Find(kind, ids[kind]);
    uint64_t more_bytes = 0;
    for (const alloc::Range& range : ranges) {
      if (account == nullptr) {
        more_bytes += range.size_bytes;
        continue;
      }
      ARROW_ASSIGN_OR_RAISE(const auto runs, account->Runs(range));
      for (const alloc::Run& run : runs) {
        if (run.state == alloc::RunState::kFree) more_bytes += run.range.size_bytes;
      }
    }
    if (more_bytes > 0) ARROW_RETURN_NOT_OK(Check(kind, ids[kind], more_bytes));
  }
  return arrow::Status::OK();
}

void Quotas::Add(Kind kind, uint64_t id, const std::vector<alloc::Range>& ranges) {
  if (limits_[kind] == 0 || ranges.empty()) return;
  Account& account = accounts_[kind].try_emplace(id, segment_bytes_).first->second;
  // What a damaged segment lists outside of itself is held by nobody.
  static_cast<void>(account.AdoptSealed(ranges));
}

void Quotas::Drop(Kind kind, uint64_t id, const std::vector<alloc::Range>& ranges) {
  const auto found = accounts_[kind].find(id);
  if (found == accounts_[kind].end() || ranges.empty()) return;
  if (!IsHeld(found->second, ranges)) return;
  found->second.DropReference(ranges);
  if (found->second.free_bytes() == segment_bytes_) accounts_[kind].erase(found);
}

void Quotas::Add(const Holder& holder, const std::vector<alloc::Range>& ranges) {
  Add(kSession, holder.session, ranges);
  Add(kUser, holder.user_id, ranges);
}

void Quotas::Drop(const Holder& holder, const std::vector<alloc::Range>& ranges) {
  Drop(kSession, holder.session, ranges);
  Drop(kUser, holder.user_id, ranges);
}

void Quotas::EndSession(uint64_t session) { accounts_[kSession].erase(session); }

void Quotas::Move(uint32_t from, uint32_t to, const std::vector<alloc::Range>& ranges) {
  Drop(kUser, from, ranges);
  Add(kUser, to, ranges);
}

}  // namespace sheaf::daemon
