// Homes of other nodes, as memory for the sessions of this one (docs/protocol.md P1, D3).

#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/home.h"
#include "daemon/scheduler.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// How soon a home that did not answer is told again which sessions are over.
constexpr std::chrono::milliseconds kCensusRetryPeriod{250};
/// How often a home where sessions of this node hold memory is told so although none
/// ended.
constexpr std::chrono::seconds kCensusPeriod{10};

/// \brief Passes requests of this node's sessions on to other homes, where each session
/// is a guest; and tells those homes, again and again until they answer, which sessions
/// are over, once all that they may have written there is in memory. All it is given
/// outlives it.
class RemoteHomes {
 public:
  RemoteHomes(region::Region* region, Home* home, Transport* transport,
              Scheduler* scheduler);

  /// \brief A former life of this daemon may have had sessions that are over: tell all
  /// homes.
  void Start();

  /// \brief Pass on a HomeRequest of `session`; answer when that home has: however long
  /// it takes, while it is up and its heart beats. A home does what it is asked for again
  /// only once.
  void Handle(uint64_t session, uint32_t user_id, const format::Message& message,
              const ReplyFn& reply);

  /// \brief A session of this node is over: no process writes for it any more.
  void OnSessionEnded();

  /// \brief Every kCensusPeriod: what was lost on the way is mended.
  void Refresh();

 private:
  /// What is known of one home.
  struct Remote {
    bool may_have_guests = false;
    bool was_used = false;     ///< Since it was told last.
    bool is_due = false;       ///< It must be told.
    bool is_asked = false;     ///< An answer is awaited, or a retry.
    uint64_t last_census = 0;  ///< That it was sent, by number.
    std::vector<format::GrantKey> settled;
  };

  arrow::Status CheckHome(NodeId node) const;
  /// A request of a session, until it is answered.
  struct Call;
  using CallPtr = std::shared_ptr<Call>;
  arrow::Result<CallPtr> MakeCall(const format::Message& message) const;
  void Send(const CallPtr& call);
  void OnAnswer(const CallPtr& call, const arrow::Result<const format::Message*>& answer);
  bool IsWorthAsking(const Call& call) const;
  arrow::Result<std::vector<uint8_t>> ReadReply(
      uint64_t request_id, const arrow::Result<const format::Message*>& reply) const;
  void Tell(NodeId node);
  void OnTold(NodeId node, const arrow::Result<const format::Message*>& reply);
  arrow::Status Settle(NodeId node, const format::GuestsReply& reply);

  region::Region* region_;
  Home* home_;
  Transport* transport_;
  Scheduler* scheduler_;
  std::map<NodeId, Remote> remotes_;
  uint64_t last_census_;  ///< Its number: above all of the daemons before.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
