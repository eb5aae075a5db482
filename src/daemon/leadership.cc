#include "daemon/leadership.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/log.h"
#include "directory/catalog.h"
#include "platform/process.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

/// Between two nodes that could claim at the same time; many times what an epoch line
/// takes to be seen.
constexpr milliseconds kBackOffStep{100};
/// More for each try that led to nothing, at most 2^5 times as much.
constexpr int kBackOffDoublings = 5;
/// Whose claim held so long is not one of two that keep claiming.
constexpr seconds kStableAfter{30};
/// Node 0 claims when it starts: others wait for it when nobody ever led.
constexpr seconds kFirstClaimPatience{1};
/// Slots scanned between two looks at what else is to be done: a few milliseconds.
constexpr uint32_t kSlotsPerSlice = 1024;

std::string NodeText(NodeId node) { return "node " + std::to_string(node.value); }

}  // namespace

arrow::Status AttachAllThatCount(region::Region* region) {
  region->AttachAnew();
  arrow::Status attached = region->AttachMissing();
  if (attached.ok()) return attached;
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                    "the memory of a node cannot be read: " + attached.message() +
                        ". No name can be given or taken until it can; if that node is "
                        "off for good, say so: sheaf node forget");
}

Leadership::Leadership(const Parts& parts, Callbacks callbacks)
    : parts_(parts), callbacks_(std::move(callbacks)) {}

void Leadership::Start() {
  const NodeId self = parts_.region->node();
  const directory::LeaderView view =
      directory::FindLeader(region::SegmentsOf(*parts_.region));
  callbacks_.believe(view);
  const bool is_first = view.epoch == 0 && self == NodeId{0};
  const bool was_leader = view.epoch != 0 && view.node == self;
  // Who may not yet: see Update.
  if ((is_first || was_leader) && callbacks_.may_claim()) ClaimAtOnce();
  // Others take one that has an index for one that leads.
  if (leader_ == nullptr) directory::DeactivateIndex(&parts_.home->directory());
}

void Leadership::ClaimAtOnce() {
  arrow::Status status = BeginClaim("it starts");
  while (status.ok() && claiming_ != nullptr) {
    const arrow::Result<bool> leads = claiming_->GoOn(kSlotsPerSlice);
    callbacks_.beat();
    status = leads.status();
    if (status.ok() && *leads) OnClaimed();
  }
  if (!status.ok()) EndClaim(status);
}

void Leadership::Update() {
  const directory::CatalogLines lines =
      directory::ReadCatalogLines(region::SegmentsOf(*parts_.region));
  // Whoever has noted it may lose its memory.
  directory::NoteRemovedSequence(&parts_.region->own_segment(), lines.removed_sequence);
  const directory::LeaderView& view = lines.leader;
  if (leader_ != nullptr && view.epoch > leader_->epoch()) StepDown(view);
  callbacks_.believe(view);
  if (leader_ != nullptr || claiming_ != nullptr) return;
  const std::string why = WhyVacant(view);
  const nanoseconds now = parts_.scheduler->Now();
  if (why.empty()) {
    claim_at_.reset();
    callbacks_.another_leads();
  } else if (!claim_at_) {
    const bool is_first = view.epoch == 0;
    claim_at_ = now + BackOff() + (is_first ? kFirstClaimPatience : nanoseconds(0));
  } else if (now >= *claim_at_ && callbacks_.may_claim()) {
    claim_at_.reset();
    const arrow::Status status = BeginClaim(why);
    if (!status.ok()) return EndClaim(status);
    GoOn();
  }
}

// Why this node may claim; "" if another leads.
std::string Leadership::WhyVacant(const directory::LeaderView& view) {
  if (view.epoch == 0) return "nobody has claimed it yet";
  if (view.node == parts_.region->node()) return "its last claim was not the end";
  if (parts_.membership->IsGone(view.node)) {
    return NodeText(view.node) + ", which led it, is gone";
  }
  const bool has_index = directory::HasIndex(region::SegmentsOf(*parts_.region), view);
  if (has_index || !indexless_since_ || indexless_ != view) {
    indexless_ = view;
    indexless_since_.reset();
    if (!has_index) indexless_since_ = parts_.scheduler->Now();
    return "";
  }
  if (parts_.scheduler->Now() - *indexless_since_ < kIndexlessMax) return "";
  return NodeText(view.node) + ", which claimed it, makes no index";
}

uint32_t Leadership::NumNodesBefore() const {
  uint32_t before = 0;
  for (uint32_t k = 0; k < parts_.region->node().value; ++k) {
    const bool is_up =
        parts_.membership->admitted({k}) != 0 && !parts_.membership->IsGone({k});
    before += is_up;
  }
  return before;
}

// The lowest node that is up first; who tries again later waits longer, so that two that
// think each other gone leave publishers time to get on.
nanoseconds Leadership::BackOff() const {
  const int64_t doublings = std::min(tries_, kBackOffDoublings);
  const nanoseconds step = kBackOffStep * (int64_t{1} << doublings);
  const auto by_chance =
      static_cast<int64_t>(platform::RandomBits() % static_cast<uint64_t>(step.count()));
  return step * (1 + 2 * int64_t{NumNodesBefore()}) + nanoseconds(by_chance);
}

arrow::Status Leadership::BeginClaim(const std::string& why) {
  ARROW_RETURN_NOT_OK(AttachAllThatCount(parts_.region));
  region::Region* region = parts_.region;
  ARROW_ASSIGN_OR_RAISE(
      const uint32_t epoch,
      directory::NextEpoch(region::SegmentsOf(*region), region->node(), granted_epoch_));
  Log(LogLevel::kInfo, "claims the catalog with epoch ", epoch, ": ", why);
  claim_began_ = parts_.scheduler->Now();
  ARROW_ASSIGN_OR_RAISE(claiming_, directory::CatalogLeader::Begin(
                                       [region] { return region::SegmentsOf(*region); },
                                       &parts_.home->directory(), epoch));
  claiming_->OnProgress(callbacks_.beat);
  // A node that came up meanwhile may have published before the epoch was there to be
  // seen; one that comes up from now on sees it.
  return AttachAllThatCount(region);
}

// One slice: what else this daemon does goes on in between.
void Leadership::GoOn() {
  const arrow::Result<bool> leads = claiming_->GoOn(kSlotsPerSlice);
  if (!leads.ok()) return EndClaim(leads.status());
  if (*leads) return OnClaimed();
  parts_.scheduler->After(nanoseconds(0), [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) GoOn();
  });
}

void Leadership::EndClaim(const arrow::Status& status) {
  Log(LogLevel::kWarning, "does not lead the catalog: ", status.ToString());
  if (claiming_ != nullptr) granted_epoch_ = claiming_->granted_epoch();
  claiming_.reset();
  ++tries_;
  callbacks_.another_leads();  // Who can may claim.
}

void Leadership::OnClaimed() {
  leader_ = std::move(claiming_);
  claimed_at_ = parts_.scheduler->Now();
  const auto took = std::chrono::duration_cast<milliseconds>(claimed_at_ - claim_began_);
  Log(LogLevel::kInfo, "leads the catalog, epoch ", leader_->epoch(), ": ",
      leader_->num_names(), " names in ", took.count(), " ms");
  for (const std::string& problem : leader_->problems()) {
    Log(LogLevel::kWarning, "the catalog leaves out: ", problem);
  }
  callbacks_.believe({leader_->epoch(), parts_.region->node()});
  callbacks_.claimed(*leader_);
}

void Leadership::StepDown(const directory::LeaderView& view) {
  Log(LogLevel::kWarning, "leads the catalog no more: ", NodeText(view.node),
      " claimed it with epoch ", view.epoch, ", above ", leader_->epoch());
  const bool was_stable = parts_.scheduler->Now() - claimed_at_ > kStableAfter;
  tries_ = was_stable ? 0 : tries_ + 1;
  leader_->StepDown();
  leader_.reset();
}

}  // namespace sheaf::daemon
