// Sessions of other nodes at this home: what their daemons ask for them, and when they
// end (docs/protocol.md P1, D3, F3).

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/guest_table.h"
#include "daemon/home.h"
#include "daemon/membership.h"
#include "daemon/reclaimer.h"
#include "daemon/session_service.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief A daemon speaks for its own node's sessions only: who sent a message is known
/// (Transport). Each session has one request under way; its numbers rise, and what comes
/// late or twice changes nothing. A guest ends when its daemon says that the session is
/// over and that all it wrote here is in memory, or when its node is certified off (F8);
/// while the node is withdrawn all it holds stays (F3). All it is given outlives it.
class GuestServer {
 public:
  GuestServer(const region::Region* region, Home* home, const Membership* membership,
              SessionService* service, Reclaimer* reclaimer);

  /// \brief After a restart: who was certified off meanwhile holds nothing.
  void Adopt();

  /// \brief Answer a peer's message. False if it is something else.
  bool Handle(NodeId from, const format::Message& message, const ReplyFn& reply);

  /// \brief F8: `node` is off: all that its sessions hold here is free.
  void EndAll(NodeId node);

 private:
  /// One session's requests.
  struct Guest {
    uint64_t last_request = 0;
    std::vector<uint8_t> last_reply;  ///< Empty: none, in this life of the daemon.
    bool is_under_way = false;
    std::vector<std::pair<uint64_t, ReplyFn>> waiting;  ///< For the reply to it.
  };
  /// What a node's daemon said of its sessions: stays true.
  struct Census {
    uint64_t incarnation = 0;  ///< One life: the node may have lost its count since.
    uint64_t format_epoch = 0;
    uint64_t number = 0;
    uint64_t last_session = 0;
    std::set<uint64_t> sessions;
    bool IsOver(const GuestName& name) const;
    /// \brief True if what that incarnation said after its census `last` is older.
    bool IsAfter(uint64_t of_incarnation, uint64_t last) const {
      return incarnation == of_incarnation && last < number;
    }
  };

  arrow::Status CheckIncarnation(NodeId from, uint64_t incarnation) const;
  arrow::Status OnRequest(NodeId from, const format::Message& message,
                          const ReplyFn& reply);
  arrow::Status Do(uint64_t id, uint64_t incarnation, std::vector<uint8_t> bytes,
                   const format::Message& request);
  void Answer(uint64_t id, uint64_t request_id, std::vector<uint8_t> reply);
  std::vector<uint8_t> OnCensus(NodeId from, const format::Message& message);
  void End(uint64_t id);

  const region::Region* region_;
  Home* home_;
  const Membership* membership_;
  SessionService* service_;
  Reclaimer* reclaimer_;
  std::map<uint64_t, Guest> guests_;   ///< By session of this home.
  std::map<NodeId, Census> censuses_;  ///< The last of each node.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
