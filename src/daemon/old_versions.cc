#include "daemon/old_versions.h"

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "daemon/home_client.h"
#include "directory/life_off.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

void OldVersions::RetireAll(const std::vector<ObjectId>& objects, const std::string& name,
                            const Done& done, const OnDelay& on_delay) {
  struct Round {
    size_t unanswered;
    arrow::Status status;
  };
  if (objects.empty()) return done(arrow::Status::OK());
  const auto round = std::make_shared<Round>(Round{objects.size(), {}});
  for (const ObjectId& object : objects) {
    const auto on_retired = [round, done](const arrow::Status& status) {
      round->status &= status;
      if (--round->unanswered == 0) done(round->status);
    };
    Retire(object, name, on_retired, on_delay);
  }
}

// One that is gone already needs no more. For one at a home that is off nobody waits: a
// later one stands above it, and is not removed before (Remover).
void OldVersions::Retire(const ObjectId& object, const std::string& name,
                         const Done& done, const OnDelay& on_delay) {
  if (directory::IsHomeOff(*region_, object)) {
    done(arrow::Status::OK());
    if (!at_homes_off_.insert(object).second) return;
    return Later([this, object, name] {
      at_homes_off_.erase(object);
      Retire(object, name, [](const auto&) {}, [](const auto&, const auto&) {});
    });
  }
  homes_->Retire(
      object, name,
      [this, object, name, done, on_delay,
       alive = std::weak_ptr<bool>(alive_)](const arrow::Status& status) {
        if (alive.expired()) return;
        if (!IsNodeLost(status)) {
          return done(IsStaleGeneration(status) ? arrow::Status::OK() : status);
        }
        // It may have been declared off while it was asked.
        if (directory::IsHomeOff(*region_, object)) {
          return Retire(object, name, done, on_delay);
        }
        on_delay(object, status);
        Later([this, object, name, done, on_delay] {
          Retire(object, name, done, on_delay);
        });
      });
}

void OldVersions::Later(std::function<void()> action) {
  scheduler_->After(kCommitRetryPeriod,
                    [action = std::move(action), alive = std::weak_ptr<bool>(alive_)] {
                      if (!alive.expired()) action();
                    });
}

}  // namespace sheaf::daemon
