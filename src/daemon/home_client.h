// An object's home, wherever it is.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <arrow/status.h>

#include "daemon/catalog_client.h"
#include "daemon/home.h"
#include "daemon/recent_removals.h"
#include "daemon/reclaimer.h"
#include "daemon/remover.h"
#include "daemon/scheduler.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// How long who retires a version waits for the put of that version.
constexpr std::chrono::seconds kHoldMax{5};

/// \brief Retire and keep objects: here, or by a message to their home. Callbacks may run
/// inside the call. All it is given outlives it.
class HomeClient {
 public:
  using Done = std::function<void(const arrow::Status&)>;

  HomeClient(region::Region* region, Home* home, CatalogClient* catalog,
             Reclaimer* reclaimer, Transport* transport, Scheduler* scheduler);

  /// \brief As Home::Retire, of what was superseded, or is undone; the leader is told
  /// that a name is free. Waits while the object is held.
  void Retire(const ObjectId& object, const std::string& name, const Done& done);
  /// \brief As a user wants it: a named one goes once nobody is about to replace just it
  /// (Remover). Asked again, `remover`, which says by which request of which session, is
  /// told OK just if it did it, also over restarts of the home; 0: none that asks again.
  void Remove(const ObjectId& object, const std::string& name, uint32_t remover,
              const Done& done);
  void SetKept(const ObjectId& object, bool kept, const Done& done);

  /// \brief An object of this home is a version whose put goes on: the version before may
  /// still be Bound, and would be back at the next claim if this one went first (C9). Who
  /// retires it waits until `Release`, or for kHoldMax.
  void Hold(const ObjectId& object);
  /// \brief Does nothing for what is not held.
  void Release(const ObjectId& object);

  /// \brief `done` once each of these homes, not our own, has answered a message that is
  /// sent now; with the first error if one cannot be reached.
  void AwaitAnswers(const std::set<SegmentId>& homes, const Done& done);

  /// \brief Ask the home of `object`, not our own: PublishRequest.
  void AskToPublish(const ObjectId& object, const std::string& name, bool replace,
                    uint32_t expected_version, const ReplyCallback& done);

  /// \brief Answer a peer's message about an object of this home. False if it is
  /// something else.
  bool Handle(const format::Message& message, const ReplyFn& reply);

 private:
  /// What is to be retired, and why.
  struct Retirement {
    ObjectId object;
    std::string name;
    bool is_removal = false;
    uint32_t remover = 0;
    std::chrono::nanoseconds deadline{0};  ///< Of a removal, at its home.
  };
  void RetireHere(Retirement what, const Done& done);
  void RetireUnheld(const Retirement& what, const Done& done);
  void RetireAnywhere(const Retirement& what, const Done& done);
  arrow::Status RetireNow(const Retirement& what);
  arrow::Status CheckHome(const ObjectId& object) const;
  void Send(const ObjectId& object, std::vector<uint8_t> message, const Done& done);

  const region::Region* region_;
  Home* home_;
  CatalogClient* catalog_;
  Reclaimer* reclaimer_;
  Transport* transport_;
  Scheduler* scheduler_;
  Remover remover_;
  RecentRemovals removals_;
  /// What to do when they are released.
  std::unordered_map<ObjectId, std::vector<std::function<void()>>> held_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
