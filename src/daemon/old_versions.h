// Versions of names that later ones superseded, until their homes have retired them
// (docs/protocol.md C9).

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include <arrow/status.h>

#include "daemon/home_client.h"
#include "daemon/scheduler.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// How long before what nobody answered is tried again, once a publish is visible.
constexpr std::chrono::milliseconds kCommitRetryPeriod{500};

/// \brief Asks their homes to retire them, again and again while these cannot be reached.
/// All it is given outlives it; callbacks may run inside the calls.
class OldVersions {
 public:
  using Done = std::function<void(const arrow::Status&)>;
  using OnDelay = std::function<void(const ObjectId&, const arrow::Status&)>;

  OldVersions(const region::Region* region, HomeClient* homes, Scheduler* scheduler)
      : region_(region), homes_(homes), scheduler_(scheduler) {}

  /// \brief `done` once each of `objects`, versions of `name`, is retired, gone, or at a
  /// home that is off: that one is retired once its home is back. Each time that a home
  /// cannot be reached `on_delay` says which object is not, and why.
  void RetireAll(const std::vector<ObjectId>& objects, const std::string& name,
                 const Done& done, const OnDelay& on_delay);

 private:
  void Retire(const ObjectId& object, const std::string& name, const Done& done,
              const OnDelay& on_delay);
  void Later(std::function<void()> action);

  const region::Region* region_;
  HomeClient* homes_;
  Scheduler* scheduler_;
  std::unordered_set<ObjectId> at_homes_off_;  ///< To be retired once these are back.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
