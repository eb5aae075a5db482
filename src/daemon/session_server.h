// Sessions over sockets: greeting, requests, goodbye and death.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/access.h"
#include "daemon/connection.h"
#include "daemon/event_loop.h"
#include "daemon/home.h"
#include "daemon/membership.h"
#include "daemon/reader_leases.h"
#include "daemon/reclaimer.h"
#include "daemon/remote_homes.h"
#include "daemon/reply_cache.h"
#include "daemon/session_locks.h"
#include "daemon/session_service.h"
#include "daemon/unix_transport.h"
#include "platform/file.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Listens at the node's socket, for sessions of this host and for other daemons.
/// A session ends when it has said goodbye or its process has ended, and nobody holds its
/// lock any more; a closed socket alone ends nothing (docs/protocol.md D1). A session of
/// a former daemon ends when nobody holds its lock; until then its process may come back
/// and go on with it. What a session may do depends on whose process it is (access.h).
/// All it is given outlives it.
class SessionServer {
 public:
  struct Parts {
    EventLoop* loop;
    region::Region* region;
    Home* home;
    SessionService* service;
    Reclaimer* reclaimer;
    UnixTransport* transport;  ///< Of other daemons of this host; null: none.
    RemoteHomes* remotes;
    Membership* membership;  ///< Whether this node may have sessions.
  };
  SessionServer(const region::ClusterConfig& config, NodeId node, const Parts& parts,
                std::function<void()> on_shutdown);
  ~SessionServer();

  /// \brief From now on clients can connect. AlreadyExists if somebody else listens
  /// there.
  arrow::Status Listen();

  /// \brief SIGKILL to every process of a session, also to those that only hold its lock.
  /// True once there is no session, also none of a former daemon: call again.
  bool EndAll();

  /// \brief Refuse new connections and close all; remove the socket. Sessions stay: their
  /// processes may read on, and go on with the next daemon.
  void Close();

 private:
  struct Session {
    SessionOwner owner;
    int process_id = 0;          ///< 0: of a former daemon, not seen yet.
    Connection::Ptr connection;  ///< Null once the socket is closed.
    platform::UniqueFd pidfd;
    std::unique_ptr<FdWatch> death_watch;  // Before pidfd closes.
    ReplyCache replies;
    uint32_t parts_sent = 0;
    const char* ending = nullptr;  ///< Why it ends as soon as its lock is free.
    bool looks_at_lock = false;    ///< Soon.
  };

  void AwaitGuests();
  void Accept();
  void Welcome(platform::UniqueFd socket);
  void OnGuestFrame(const Connection::Ptr& guest, platform::Frame frame);
  arrow::Status Greet(const Connection::Ptr& guest, const format::Message& message,
                      std::vector<platform::UniqueFd> fds);
  arrow::Status StartPeer(const Connection::Ptr& guest, const format::Message& message);
  arrow::Status StartSession(const Connection::Ptr& guest, const format::Message& message,
                             std::vector<platform::UniqueFd> fds);
  /// With the lock of another user's session.
  arrow::Result<std::pair<uint64_t, platform::UniqueFd>> OpenSession(
      const format::Hello& hello, const SessionOwner& owner);
  arrow::Status CheckSessionsOf(uint32_t user_id) const;
  arrow::Status ContinueSession(const format::Hello& hello, const SessionOwner& owner,
                                int process_id);
  void Attach(uint64_t id, const Connection::Ptr& guest, int process_id,
              platform::UniqueFd pidfd);
  void AdoptSessions();
  void RemoveStaleLocks();
  void RemoveStaleLocksLater();
  arrow::Status CheckHello(const format::Hello& hello) const;
  arrow::Status CheckNotOff();
  std::vector<uint8_t> MakeWelcome(uint64_t request_id, uint64_t session) const;
  void OnSessionFrame(uint64_t id, const Connection::Ptr& connection,
                      const platform::Frame& frame);
  arrow::Status OnRequest(uint64_t id, const Connection::Ptr& connection,
                          const format::Message& message);
  void SendPart(uint64_t id, const Connection::Ptr& connection,
                const format::Message& message);
  void OnPeerFrame(const PeerName& peer, const Connection::Ptr& connection,
                   const platform::Frame& frame);
  void OnProcessEnded(uint64_t id);
  void AskOtherHome(uint64_t id, const format::Message& message);
  void Answer(uint64_t id, uint64_t request_id, std::vector<uint8_t> reply);
  void OnSessionClosed(uint64_t id, const arrow::Status& reason);
  void EndWhenUnlocked(uint64_t id);
  void EndWhenUnlockedLater(uint64_t id);
  arrow::Status End(uint64_t id, const char* why);
  void Refuse(const Connection::Ptr& connection, uint64_t request_id,
              const arrow::Status& status);
  void LogRefusal(const arrow::Status& status);
  void Shutdown(const Connection::Ptr& connection, uint64_t request_id);

  region::ClusterConfig config_;
  NodeId node_;
  Parts parts_;
  std::function<void()> on_shutdown_;
  SessionLocks locks_;
  AccessRules rules_;
  ReaderLeases leases_;
  platform::UniqueFd listener_;
  std::unique_ptr<FdWatch> listener_watch_;
  std::set<Connection::Ptr> guests_;  ///< Have not said who they are.
  std::set<Connection::Ptr> peers_;   ///< Other daemons, who ask us.
  std::map<uint64_t, std::unique_ptr<Session>> sessions_;
  bool removes_locks_ = false;  ///< Soon.
  std::chrono::nanoseconds end_all_again_{0};
  std::chrono::seconds end_all_wait_{0};
  struct Refusals {
    std::chrono::nanoseconds since{0};
    uint64_t count = 0;
  };
  Refusals refusals_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
