// Who leads the catalog (docs/protocol.md C1, C2, section 8), as one node's daemon sees
// it.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <arrow/status.h>

#include "daemon/home.h"
#include "daemon/membership.h"
#include "daemon/scheduler.h"
#include "directory/catalog.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// How long a leader may be without an index before another node claims: a claim over a
/// million names takes seconds.
constexpr std::chrono::seconds kIndexlessMax{30};

/// \brief Believes in the node whose epoch is the highest, and claims the catalog itself
/// when that node is gone (Membership::IsGone), has no index for long, or nobody ever
/// claimed. Leadership by suspicion is only liveness: who is deposed wrongly sees it, and
/// steps down. Single-threaded; all it is given outlives it.
class Leadership {
 public:
  struct Parts {
    region::Region* region;
    Home* home;
    const Membership* membership;
    Scheduler* scheduler;
  };
  struct Callbacks {
    std::function<void()> beat;  ///< While a step takes long: the node is not dead.
    /// Whom to ask from now on.
    std::function<void(const directory::LeaderView&)> believe;
    /// A claim is through: this node leads.
    std::function<void(const directory::CatalogLeader&)> claimed;
    /// An arbiter is for this node as the next leader. It keeps that until another leads.
    std::function<bool()> may_claim = [] { return true; };
    std::function<void()> another_leads = [] {};
  };
  Leadership(const Parts& parts, Callbacks callbacks);

  /// \brief Claim at once, before anyone is served, if this node led last, or if nobody
  /// ever did and it is node 0. What fails is logged, and tried again by Update. If this
  /// node does not lead then, no index of a former life of it is active.
  void Start();

  /// \brief One look: step down if there is a higher epoch, claim if nobody leads, after
  /// a back-off that grows with the node's id, by chance, and with each try. Called by a
  /// timer.
  void Update();

  /// \brief Null unless this node leads.
  directory::CatalogLeader* leader() const { return leader_.get(); }

 private:
  void ClaimAtOnce();
  std::string WhyVacant(const directory::LeaderView& view);
  std::chrono::nanoseconds BackOff() const;
  uint32_t NumNodesBefore() const;
  arrow::Status BeginClaim(const std::string& why);
  void GoOn();
  void EndClaim(const arrow::Status& status);
  void OnClaimed();
  void StepDown(const directory::LeaderView& view);

  Parts parts_;
  Callbacks callbacks_;
  std::unique_ptr<directory::CatalogLeader> leader_;
  std::unique_ptr<directory::CatalogLeader> claiming_;  ///< Not through yet.
  std::chrono::nanoseconds claim_began_{0};
  std::optional<std::chrono::nanoseconds> claim_at_;  ///< While nobody leads.
  /// Since when the leader has had no index; nothing while it has one.
  std::optional<std::chrono::nanoseconds> indexless_since_;
  directory::LeaderView indexless_;
  uint32_t granted_epoch_ = 0;  ///< That a claim found, and was not above.
  int tries_ = 0;               ///< Claims that led to nothing, or not for long.
  std::chrono::nanoseconds claimed_at_{0};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

/// \brief Region::AttachAnew and AttachMissing as claims and publishes need them: a
/// segment that cannot be read blocks them (U4), but not one whose node is off for this
/// home (F8), and not one that was never formatted (C5). Reason node lost.
arrow::Status AttachAllThatCount(region::Region* region);

}  // namespace sheaf::daemon
