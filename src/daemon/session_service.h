// What a session may ask of its daemon.

#pragma once

#include <cstdint>
#include <functional>

#include "daemon/home.h"
#include "daemon/home_client.h"
#include "daemon/membership_client.h"
#include "daemon/publisher.h"
#include "daemon/reclaimer.h"
#include "daemon/transport.h"
#include "format/message.h"

namespace sheaf::daemon {

/// \brief Answers the requests of all sessions. Messages are verified FlatBuffers; what
/// they say is input. All it is given outlives it.
class SessionService {
 public:
  SessionService(Home* home, HomeClient* homes, MembershipClient* members,
                 Publisher* publisher, Reclaimer* reclaimer);

  /// \brief Answer `message` of `session`, maybe later. Invalid, and nothing is answered,
  /// if it is no request that a session may send.
  arrow::Status Handle(uint64_t session, const format::Message& message,
                       const ReplyFn& reply);

  /// \brief The same for a guest session, whose node is `incarnation`, of what those may
  /// ask for. The message may have come before, and have been answered.
  arrow::Status HandleGuest(uint64_t guest, uint64_t incarnation,
                            const format::Message& message, const ReplyFn& reply);

  /// \brief Answer a PublishRequest, of a session or a peer, for an object of this home.
  void PublishHere(const format::Message& message, const ReplyFn& reply);

 private:
  void Publish(const format::Message& message, const ReplyFn& reply);
  using TryGrant = std::function<arrow::Result<Granted>()>;
  void Grant(uint64_t id, uint64_t incarnation, const TryGrant& grant,
             const ReplyFn& reply);
  arrow::Status Return(uint64_t session, const format::Message& message);
  void AddLeasePage(uint64_t session, uint64_t id, const ReplyFn& reply);
  void Seal(uint64_t session, const format::Message& message, const ReplyFn& reply);
  void Retire(uint64_t session, const format::Message& message, const ReplyFn& reply);
  void Keep(uint64_t id, const format::KeepRequest& body, const ReplyFn& reply);

  Home* home_;
  HomeClient* homes_;
  MembershipClient* members_;
  Publisher* publisher_;
  Reclaimer* reclaimer_;
};

}  // namespace sheaf::daemon
