// SessionServer: from a connection of nobody to a session, or to another daemon.

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "daemon/access.h"
#include "daemon/connection.h"
#include "daemon/event_loop.h"
#include "daemon/grant_table.h"
#include "daemon/home.h"
#include "daemon/log.h"
#include "daemon/membership.h"
#include "daemon/peer_process.h"
#include "daemon/reader_leases.h"
#include "daemon/session_server.h"
#include "daemon/unix_transport.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/unix_socket.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

/// Connections that have not said who they are. More wait in the listener's backlog.
constexpr size_t kGuestsMax = 1024;
constexpr std::chrono::seconds kGreetingDeadline{10};
constexpr std::chrono::milliseconds kAcceptRetryPeriod{100};
/// What is logged of refusals: whoever may connect may be refused as often as it likes,
/// and a log lies in memory, or on a disk, that has an end.
constexpr uint64_t kRefusalsLogged = 10;
constexpr std::chrono::seconds kRefusalsPeriod{1};
/// A reader's requests are short.
constexpr uint32_t kReaderFrameBytesMax = 4096;

}  // namespace

void SessionServer::AwaitGuests() {
  listener_watch_->WhenReadable([this] { Accept(); });
}

void SessionServer::Accept() {
  while (guests_.size() < kGuestsMax) {
    const int fd =
        ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      Welcome(platform::UniqueFd(fd));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN) return AwaitGuests();
    LogIfError("accept",
               platform::OsError("cannot accept at", config_.socket_path(node_)));
    break;
  }
  // Out of descriptors or of patience with guests that say nothing: later.
  parts_.loop->After(kAcceptRetryPeriod, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired() && listener_.valid()) Accept();
  });
}

// Who may not speak to us is told so in the answer to its greeting.
void SessionServer::Welcome(platform::UniqueFd socket) {
  const auto peer = platform::GetPeerCredentials(socket.get());
  if (!peer.ok()) return LogIfError("refused", peer.status());
  const auto owner = rules_.OwnerOf(*peer);
  const auto access = owner.ok() ? owner->access : format::Access::Reader;
  const auto guest =
      Connection::Start(parts_.loop, std::move(socket),
                        {[this](const Connection::Ptr& from, platform::Frame frame) {
                           OnGuestFrame(from, std::move(frame));
                         },
                         [this](const Connection::Ptr& from, const arrow::Status&) {
                           guests_.erase(from);
                           RemoveStaleLocksLater();
                         },
                         GreetingBytesMax(config_, access)});
  guests_.insert(guest);
  parts_.loop->After(kGreetingDeadline, [this, late = std::weak_ptr<Connection>(guest),
                                         alive = std::weak_ptr<bool>(alive_)] {
    const auto silent = late.lock();
    if (alive.expired() || silent == nullptr || guests_.erase(silent) == 0) return;
    silent->Close();
    RemoveStaleLocksLater();
  });
}

void SessionServer::LogRefusal(const arrow::Status& status) {
  const auto now = parts_.loop->Now();
  if (now - refusals_.since >= kRefusalsPeriod) {
    if (refusals_.count > kRefusalsLogged) {
      Log(LogLevel::kWarning, refusals_.count - kRefusalsLogged, " more were refused");
    }
    refusals_ = {now, 0};
  }
  if (++refusals_.count > kRefusalsLogged) return;
  Log(LogLevel::kWarning, "a peer was refused: ", status.ToString());
}

// What cannot be understood is answered, if it says to whom, and ends the connection:
// nobody knows what else is wrong on the other side.
void SessionServer::Refuse(const Connection::Ptr& connection, uint64_t request_id,
                           const arrow::Status& status) {
  LogRefusal(status);
  if (request_id != 0) connection->Send(format::MakeOutcomeReply(request_id, status));
  connection->CloseAfterSending();
}

void SessionServer::OnGuestFrame(const Connection::Ptr& guest, platform::Frame frame) {
  guests_.erase(guest);
  const auto message = format::ParseMessage(frame.payload);
  if (!message.ok()) return Refuse(guest, 0, message.status());
  const arrow::Status status = Greet(guest, **message, std::move(frame.fds));
  if (status.ok()) return;
  Refuse(guest, (*message)->request_id(), status);
  RemoveStaleLocksLater();
}

arrow::Status SessionServer::Greet(const Connection::Ptr& guest,
                                   const format::Message& message,
                                   std::vector<platform::UniqueFd> fds) {
  ARROW_ASSIGN_OR_RAISE(const auto peer, platform::GetPeerCredentials(guest->fd()));
  ARROW_ASSIGN_OR_RAISE(const SessionOwner owner, rules_.OwnerOf(peer));
  if (message.body_type() != format::Body::Hello) {
    ARROW_RETURN_NOT_OK(CheckAllowed(owner.access, message.body_type()));
  }
  switch (message.body_type()) {
    case format::Body::Hello:
      return StartSession(guest, message, std::move(fds));
    case format::Body::NodeHello:
      return StartPeer(guest, message);
    case format::Body::ShutdownRequest:
      Shutdown(guest, message.request_id());
      return arrow::Status::OK();
    default:
      return arrow::Status::Invalid("a connection begins with a greeting, not with ",
                                    format::EnumNameBody(message.body_type()));
  }
}

arrow::Status SessionServer::StartPeer(const Connection::Ptr& guest,
                                       const format::Message& message) {
  if (parts_.transport == nullptr) {
    return arrow::Status::Invalid("daemons of this cluster talk through rings");
  }
  ARROW_ASSIGN_OR_RAISE(const PeerName peer, parts_.transport->CheckHello(message));
  guest->SetHandlers(
      {[this, peer](const Connection::Ptr& from, const platform::Frame& frame) {
         OnPeerFrame(peer, from, frame);
       },
       [this](const Connection::Ptr& from, const arrow::Status&) {
         peers_.erase(from);
       }});
  peers_.insert(guest);
  guest->Send(parts_.transport->MakeHelloReply(peer.node, message.request_id()));
  return arrow::Status::OK();
}

arrow::Status SessionServer::CheckHello(const format::Hello& hello) const {
  if (hello.protocol_version() != format::kMessageVersion) {
    return arrow::Status::Invalid("this client speaks version ", hello.protocol_version(),
                                  ", the daemon of node ", node_.value, " ",
                                  format::kMessageVersion,
                                  ": use programs of one version of Sheaf");
  }
  if (hello.cluster_id() != config_.cluster_id) {
    return arrow::Status::Invalid(
        "this client looks for another cluster, which ran here before");
  }
  const uint64_t epoch = parts_.home->format_epoch();
  if (hello.session() != 0 && hello.format_epoch() != 0 &&
      hello.format_epoch() != epoch) {
    return arrow::Status::Invalid("session ", hello.session(), " is of memory of node ",
                                  node_.value, " with format epoch ",
                                  hello.format_epoch(), ", which is now ", epoch,
                                  ": it was given up, connect anew");
  }
  return arrow::Status::OK();
}

// F8: no session of a life that is off, whose cells count no more.
arrow::Status SessionServer::CheckNotOff() {
  // The last one may have ended a moment ago.
  if (parts_.membership->IsOff()) parts_.membership->Update();
  if (!parts_.membership->IsOff()) return arrow::Status::OK();
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                    "node " + std::to_string(node_.value) +
                        " was declared off: it comes back once its sessions have "
                        "ended; connect again then, and end those of other users");
}

arrow::Status SessionServer::StartSession(const Connection::Ptr& guest,
                                          const format::Message& message,
                                          std::vector<platform::UniqueFd> fds) {
  const auto& hello = *message.body_as<format::Hello>();
  ARROW_RETURN_NOT_OK(CheckHello(hello));
  ARROW_RETURN_NOT_OK(CheckNotOff());
  if (fds.size() != 1) {
    return arrow::Status::Invalid("greeting with ", fds.size(),
                                  " descriptors, expected one pidfd");
  }
  ARROW_ASSIGN_OR_RAISE(const auto peer, platform::GetPeerCredentials(guest->fd()));
  ARROW_ASSIGN_OR_RAISE(const SessionOwner owner, rules_.OwnerOf(peer));
  ARROW_RETURN_NOT_OK(CheckPidFd(fds[0], peer.process_id));

  uint64_t id = hello.session();
  platform::UniqueFd lock;
  if (id == 0) {
    ARROW_ASSIGN_OR_RAISE(std::tie(id, lock), OpenSession(hello, owner));
  } else {
    ARROW_RETURN_NOT_OK(ContinueSession(hello, owner, peer.process_id));
  }
  Attach(id, guest, peer.process_id, std::move(fds[0]));
  guest->Send(MakeWelcome(message.request_id(), id), std::move(lock));
  return arrow::Status::OK();
}

arrow::Status SessionServer::CheckSessionsOf(uint32_t user_id) const {
  const auto count = std::ranges::count_if(sessions_, [&](const auto& session) {
    return session.second->owner.user_id == user_id;
  });
  if (std::cmp_less(count, SessionsOfUserMax(config_))) return arrow::Status::OK();
  return arrow::Status::CapacityError("user ", user_id, " has ", count,
                                      " sessions on node ", node_.value,
                                      ", which is all that another user may have: end "
                                      "some, or use another node");
}

// The lock is held before there is a session, or at least before anyone is told of it, so
// that a daemon that finds the session knows whether its process lives.
arrow::Result<std::pair<uint64_t, platform::UniqueFd>> SessionServer::OpenSession(
    const format::Hello& hello, const SessionOwner& owner) {
  const bool makes_lock = owner.access == format::Access::Owner;
  const std::string name = hello.lock_name() != nullptr ? hello.lock_name()->str() : "";
  ARROW_RETURN_NOT_OK(makes_lock ? locks_.CheckHeld(name)
                                 : CheckSessionsOf(owner.user_id));
  ARROW_ASSIGN_OR_RAISE(const Home::NewSession session,
                        parts_.home->OpenSession(owner.user_id));
  PassFaultPoint("daemon.session.before-lock");
  arrow::Result<platform::UniqueFd> lock = platform::UniqueFd();
  if (makes_lock) {
    const arrow::Status given = locks_.GiveTo(session.id, name);
    if (!given.ok()) lock = given;
  } else {
    lock = locks_.MakeFor(session.id, owner);
  }
  PassFaultPoint("daemon.session.after-lock");
  if (!lock.ok()) return lock.status() & parts_.home->EndSession(session.id);
  if (owner.access == format::Access::Reader) leases_.Begin(session.id);
  sessions_.emplace(session.id, std::make_unique<Session>()).first->second->owner = owner;
  return std::pair(session.id, *std::move(lock));
}

// Of this daemon, over a new connection, or of a former one.
arrow::Status SessionServer::ContinueSession(const format::Hello& hello,
                                             const SessionOwner& owner, int process_id) {
  const uint64_t id = hello.session();
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) {
    return arrow::Status::Invalid("session ", id, " has ended: connect anew");
  }
  // What another process holds is not this one's to give back.
  const int former_id = found->second->process_id;
  ARROW_ASSIGN_OR_RAISE(const bool is_held, locks_.IsHeld(id));
  if (!is_held || (former_id != 0 && former_id != process_id) ||
      found->second->owner != owner) {
    return arrow::Status::Invalid("session ", id, " is not of process ", process_id);
  }
  if (const auto old = std::exchange(found->second->connection, nullptr)) old->Close();
  found->second->replies.GoOn();
  if (owner.access == format::Access::Reader) {
    leases_.EndAllBut(id, ReaderLeases::Known(hello));
    return arrow::Status::OK();
  }
  std::set<GrantId> known;
  if (hello.grants() != nullptr) {
    for (const format::GrantKey* key : *hello.grants()) {
      known.insert({key->grant(), key->generation()});
    }
  }
  return parts_.home->ReturnAllBut(id, known);
}

void SessionServer::Attach(uint64_t id, const Connection::Ptr& guest, int process_id,
                           platform::UniqueFd pidfd) {
  Session& session = *sessions_.at(id);
  session.process_id = process_id;
  session.ending = nullptr;
  session.connection = guest;
  session.death_watch.reset();
  session.pidfd = std::move(pidfd);
  session.death_watch = parts_.loop->Watch(session.pidfd.get());
  session.death_watch->WhenReadable([this, id] { OnProcessEnded(id); });
  const bool only_reads = session.owner.access == format::Access::Reader;
  guest->SetHandlers(
      {[this, id](const Connection::Ptr& from, const platform::Frame& frame) {
         OnSessionFrame(id, from, frame);
       },
       [this, id](const Connection::Ptr&, const arrow::Status& reason) {
         OnSessionClosed(id, reason);
       },
       only_reads ? kReaderFrameBytesMax : platform::kFramePayloadMax});
  Log(LogLevel::kDebug, "session ", id, " of process ", process_id, " is connected");
}

std::vector<uint8_t> SessionServer::MakeWelcome(uint64_t request_id,
                                                uint64_t session) const {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<uint32_t> pages = parts_.home->LeasePagesOf(session);
  const auto body = format::CreateWelcomeDirect(
      builder, session, node_.value, parts_.home->incarnation(), &pages,
      sessions_.at(session)->owner.access, parts_.home->format_epoch());
  return format::FinishReply(&builder, request_id, format::Body::Welcome, body.Union());
}

}  // namespace sheaf::daemon
