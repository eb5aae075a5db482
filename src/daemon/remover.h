// A version of a name that a user removes, at its home (docs/protocol.md C8).

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <arrow/status.h>

#include "daemon/catalog_client.h"
#include "daemon/home.h"
#include "daemon/scheduler.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// How long a removal waits, from when its home heard of it, for its put to be over, for
/// a leader, and for other puts of the name: less than who asks from another node waits.
constexpr std::chrono::seconds kRemovalPatience{8};

/// \brief Lets an object of this home be Retired only once no put of its name is under
/// way that was granted to replace just it, of which and the removal exactly one may
/// succeed, and no version before is bound, which would come back: that one is retired
/// first, if nobody else does it. All it is given outlives it.
class Remover {
 public:
  using Done = std::function<void(const arrow::Status&)>;
  /// \brief Ask the home of a version of a name, maybe this one, to retire it.
  using RetireFn = std::function<void(const ObjectId&, const std::string&)>;

  Remover(region::Region* region, Home* home, CatalogClient* catalog,
          Scheduler* scheduler, RetireFn retire);

  /// \brief `done` by `deadline`, maybe inside the call: OK, then retire it at once; if
  /// it cannot be retired that says so. Reason stale generation if it was replaced
  /// meanwhile, or is no version of the name yet (what is prepared is dropped, never
  /// removed); reason node lost if a leader or the home of a put under way does not
  /// answer, or that of a version before which is not retired: it stays.
  void Prepare(const ObjectId& object, std::chrono::nanoseconds deadline,
               const Done& done);

 private:
  struct Removal;
  using RemovalPtr = std::shared_ptr<Removal>;
  enum class Outlook : uint8_t {
    kOpen,
    kMayBeGivenBack,
    kOver,
    kIsSuperseded,
    kTakesItsPlace,
    kComesBack
  };
  static arrow::Status WhyItStays(const Removal& removal,
                                  const CatalogClient::Undecided& other);
  void Ask(const RemovalPtr& removal);
  void OnAnswer(const RemovalPtr& removal,
                const arrow::Result<std::vector<CatalogClient::Undecided>>& undecided);
  void Await(const RemovalPtr& removal);
  Outlook Look(const Removal& removal, const CatalogClient::Undecided& put) const;
  void RetireOnce(const RemovalPtr& removal, const ObjectId& before);
  void Later(const RemovalPtr& removal, void (Remover::*action)(const RemovalPtr&),
             const arrow::Status& why);
  void End(const RemovalPtr& removal, const arrow::Status& status);
  bool IsBound(const ObjectId& object) const;
  bool IsNotPutYet(const ObjectId& object) const;

  region::Region* region_;
  Home* home_;
  CatalogClient* catalog_;
  Scheduler* scheduler_;
  RetireFn retire_;
  std::unordered_map<ObjectId, RemovalPtr> removals_;  ///< Under way.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
