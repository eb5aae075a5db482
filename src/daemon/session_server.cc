#include "daemon/session_server.h"

#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "daemon/connection.h"
#include "daemon/event_loop.h"
#include "daemon/grant_table.h"
#include "daemon/home.h"
#include "daemon/log.h"
#include "daemon/peer_process.h"
#include "daemon/reply_cache.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

/// Connections that have not said who they are. More wait in the listener's backlog.
constexpr size_t kGuestsMax = 1024;
constexpr std::chrono::seconds kGreetingDeadline{10};
constexpr std::chrono::milliseconds kAcceptRetryPeriod{100};
/// How often the lock of a session that is over, but for a forked child, is looked at.
constexpr std::chrono::milliseconds kLockPollPeriod{100};

}  // namespace

struct SessionServer::Session {
  int process_id = 0;          ///< 0: of a former daemon, not seen yet.
  Connection::Ptr connection;  ///< Null once the socket is closed.
  platform::UniqueFd pidfd;
  std::unique_ptr<FdWatch> death_watch;  // Before pidfd closes.
  ReplyCache replies;
  const char* ending = nullptr;  ///< Why it ends as soon as its lock is free.
};

SessionServer::SessionServer(const region::ClusterConfig& config, NodeId node,
                             const Parts& parts, std::function<void()> on_shutdown)
    : config_(config),
      node_(node),
      parts_(parts),
      on_shutdown_(std::move(on_shutdown)),
      lock_folder_(config.session_lock_folder(node)) {}

SessionServer::~SessionServer() { Close(); }

std::string SessionServer::LockPath(uint64_t session) const {
  return lock_folder_ + "/" + std::to_string(session) + ".lock";
}

arrow::Status SessionServer::Listen() {
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(lock_folder_));
  AdoptSessions();
  RemoveStaleLocks();
  ARROW_ASSIGN_OR_RAISE(listener_, platform::ListenUnix(config_.socket_path(node_)));
  listener_watch_ = parts_.loop->Watch(listener_.get());
  AwaitGuests();
  PassFaultPoint("daemon.start.after-listen");
  return arrow::Status::OK();
}

// Which of their processes live is what their locks tell.
void SessionServer::AdoptSessions() {
  for (const uint64_t id : std::set<uint64_t>(parts_.home->sessions())) {
    auto session = std::make_unique<Session>();
    session->ending = "of a former daemon is over";
    sessions_.emplace(id, std::move(session));
    EndWhenUnlocked(id);
  }
}

// A session of a former daemon that has not come back has no process that we could name:
// it holds its lock, and we wait.
bool SessionServer::EndAll() {
  for (const auto& [id, session] : sessions_) {
    if (!session->pidfd.valid()) continue;
    LogIfError("cannot end a session", platform::SendSignal(session->pidfd, SIGKILL));
  }
  return sessions_.empty();
}

// Of greetings that were never welcomed. A guest that is gone may have left one; its
// process closes the socket before the lock, so it is looked for until none is held.
void SessionServer::RemoveStaleLocks() {
  bool any_held = false;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(lock_folder_, error), end;
       !error && entry != end; entry.increment(error)) {
    const std::string path = entry->path().string();
    const bool is_of_session = std::ranges::any_of(
        sessions_, [&](const auto& session) { return path == LockPath(session.first); });
    if (is_of_session) continue;
    const auto lock = platform::FileLock::Acquire(path);
    any_held |= lock.status().IsAlreadyExists();
    if (lock.ok()) LogIfError("cannot remove a lock", lock->Remove());
  }
  if (any_held) RemoveStaleLocksLater();
}

void SessionServer::RemoveStaleLocksLater() {
  if (std::exchange(removes_locks_, true)) return;
  parts_.loop->After(kLockPollPeriod, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    removes_locks_ = false;
    RemoveStaleLocks();
  });
}

void SessionServer::Close() {
  if (!listener_.valid()) return;
  listener_watch_.reset();
  LogIfError("cannot remove the socket", platform::RemoveAll(config_.socket_path(node_)));
  listener_ = platform::UniqueFd();
  for (const Connection::Ptr& guest : guests_) guest->Close();
  guests_.clear();
  for (auto& [id, session] : sessions_) {
    if (session->connection != nullptr) session->connection->Close();
  }
  sessions_.clear();
}

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

void SessionServer::Welcome(platform::UniqueFd socket) {
  if (const auto peer = CheckPeer(socket.get()); !peer.ok()) {
    return Log(LogLevel::kWarning, "refused: ", peer.status().message());
  }
  const auto guest =
      Connection::Start(parts_.loop, std::move(socket),
                        {[this](const Connection::Ptr& from, platform::Frame frame) {
                           OnGuestFrame(from, std::move(frame));
                         },
                         [this](const Connection::Ptr& from, const arrow::Status&) {
                           guests_.erase(from);
                           RemoveStaleLocksLater();
                         },
                         GreetingBytesMax(config_)});
  guests_.insert(guest);
  parts_.loop->After(kGreetingDeadline, [this, late = std::weak_ptr<Connection>(guest),
                                         alive = std::weak_ptr<bool>(alive_)] {
    const auto silent = late.lock();
    if (alive.expired() || silent == nullptr || guests_.erase(silent) == 0) return;
    silent->Close();
    RemoveStaleLocksLater();
  });
}

// What cannot be understood is answered, if it says to whom, and ends the connection:
// nobody knows what else is wrong on the other side.
void SessionServer::Refuse(const Connection::Ptr& connection, uint64_t request_id,
                           const arrow::Status& status) {
  Log(LogLevel::kWarning, "a peer was refused: ", status.ToString());
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
  ARROW_ASSIGN_OR_RAISE(const NodeId node, parts_.transport->CheckHello(message));
  guest->SetHandlers(
      {[this, node](const Connection::Ptr& from, const platform::Frame& frame) {
         OnPeerFrame(node, from, frame);
       },
       [this](const Connection::Ptr& from, const arrow::Status&) {
         peers_.erase(from);
       }});
  peers_.insert(guest);
  guest->Send(parts_.transport->MakeHelloReply(message.request_id()));
  return arrow::Status::OK();
}

void SessionServer::OnPeerFrame(NodeId node, const Connection::Ptr& connection,
                                const platform::Frame& frame) {
  const auto message = format::ParseMessage(frame.payload);
  if (!message.ok() || (*message)->is_reply()) {
    peers_.erase(connection);
    return Refuse(connection, 0,
                  message.ok() ? arrow::Status::Invalid("a reply from a peer that asks")
                               : message.status());
  }
  parts_.transport->Deliver(
      node, **message,
      [to = std::weak_ptr<Connection>(connection)](std::vector<uint8_t> reply) {
        if (const auto open = to.lock()) open->Send(std::move(reply));
      });
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
  return arrow::Status::OK();
}

arrow::Status SessionServer::StartSession(const Connection::Ptr& guest,
                                          const format::Message& message,
                                          std::vector<platform::UniqueFd> fds) {
  const auto& hello = *message.body_as<format::Hello>();
  ARROW_RETURN_NOT_OK(CheckHello(hello));
  if (fds.size() != 1) {
    return arrow::Status::Invalid("greeting with ", fds.size(),
                                  " descriptors, expected one pidfd");
  }
  ARROW_ASSIGN_OR_RAISE(const platform::PeerCredentials peer, CheckPeer(guest->fd()));
  ARROW_RETURN_NOT_OK(CheckPidFd(fds[0], peer.process_id));

  ARROW_ASSIGN_OR_RAISE(const uint64_t id, hello.session() == 0
                                               ? OpenSession(hello)
                                               : ContinueSession(hello, peer.process_id));
  Attach(id, guest, peer.process_id, std::move(fds[0]));
  guest->Send(MakeWelcome(message.request_id(), id));
  return arrow::Status::OK();
}

// The lock is held before there is a session, so that a daemon that finds the session
// knows whether its process lives.
arrow::Result<uint64_t> SessionServer::OpenSession(const format::Hello& hello) {
  const std::string name = hello.lock_name() != nullptr ? hello.lock_name()->str() : "";
  if (name.empty() || name.find('/') != std::string::npos || name.starts_with('.')) {
    return arrow::Status::Invalid("greeting without the name of a session lock");
  }
  const std::string path = lock_folder_ + "/" + name;
  ARROW_ASSIGN_OR_RAISE(const bool is_held, platform::FileLock::IsHeld(path));
  if (!is_held) return arrow::Status::Invalid("nobody holds the session lock ", path);
  ARROW_ASSIGN_OR_RAISE(const Home::NewSession session, parts_.home->OpenSession());
  std::error_code error;
  PassFaultPoint("daemon.session.before-lock");
  std::filesystem::rename(path, LockPath(session.id), error);
  PassFaultPoint("daemon.session.after-lock");
  if (error) {
    const arrow::Status status =
        platform::OsError("cannot rename the session lock", path, error.value());
    return status & parts_.home->EndSession(session.id);
  }
  sessions_.emplace(session.id, std::make_unique<Session>());
  return session.id;
}

// Of this daemon, over a new connection, or of a former one.
arrow::Result<uint64_t> SessionServer::ContinueSession(const format::Hello& hello,
                                                       int process_id) {
  const uint64_t id = hello.session();
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) {
    return arrow::Status::Invalid("session ", id, " has ended: connect anew");
  }
  // What another process holds is not this one's to give back.
  const int owner = found->second->process_id;
  ARROW_ASSIGN_OR_RAISE(const bool is_held, platform::FileLock::IsHeld(LockPath(id)));
  if (!is_held || (owner != 0 && owner != process_id)) {
    return arrow::Status::Invalid("session ", id, " is not of process ", process_id);
  }
  if (const auto old = std::exchange(found->second->connection, nullptr)) old->Close();
  std::set<GrantId> known;
  if (hello.grants() != nullptr) {
    for (const format::GrantKey* key : *hello.grants()) {
      known.insert({key->grant(), key->generation()});
    }
  }
  ARROW_RETURN_NOT_OK(parts_.home->ReturnAllBut(id, known));
  return id;
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
  guest->SetHandlers(
      {[this, id](const Connection::Ptr& from, const platform::Frame& frame) {
         OnSessionFrame(id, from, frame);
       },
       [this, id](const Connection::Ptr&, const arrow::Status& reason) {
         OnSessionClosed(id, reason);
       }});
  Log(LogLevel::kDebug, "session ", id, " of process ", process_id, " is connected");
}

std::vector<uint8_t> SessionServer::MakeWelcome(uint64_t request_id,
                                                uint64_t session) const {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<uint32_t> pages = parts_.home->LeasePagesOf(session);
  const auto body = format::CreateWelcomeDirect(builder, session, node_.value,
                                                parts_.home->incarnation(), &pages);
  return format::FinishReply(&builder, request_id, format::Body::Welcome, body.Union());
}

void SessionServer::OnSessionFrame(uint64_t id, const Connection::Ptr& connection,
                                   const platform::Frame& frame) {
  const auto message = format::ParseMessage(frame.payload);
  arrow::Status status = message.status();
  if (status.ok()) status = OnRequest(id, connection, **message);
  if (status.ok()) return;
  // The process may still read and write what it holds: only its end gives that back.
  if (const auto found = sessions_.find(id); found != sessions_.end()) {
    found->second->connection.reset();
  }
  Refuse(connection, message.ok() ? (*message)->request_id() : 0, status);
}

arrow::Status SessionServer::OnRequest(uint64_t id, const Connection::Ptr& connection,
                                       const format::Message& message) {
  if (message.is_reply()) return arrow::Status::Invalid("a reply from a session");
  const uint64_t request_id = message.request_id();
  if (message.body_type() == format::Body::ShutdownRequest) {
    Shutdown(connection, request_id);
    return arrow::Status::OK();
  }
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return arrow::Status::Invalid("the session has ended");
  if (message.body_type() == format::Body::Goodbye) {
    found->second->connection.reset();
    found->second->ending = "said goodbye";
    EndWhenUnlocked(id);
    connection->Send(format::MakeOutcomeReply(request_id, arrow::Status::OK()));
    connection->CloseAfterSending();
    return arrow::Status::OK();
  }
  ReplyCache& replies = found->second->replies;
  switch (replies.Begin(request_id)) {
    case ReplyCache::Seen::kAnswered:
      connection->Send(*replies.Find(request_id));
      return arrow::Status::OK();
    case ReplyCache::Seen::kUnderWay:
      return arrow::Status::OK();
    case ReplyCache::Seen::kNew:
      break;
  }
  return parts_.service->Handle(
      id, message,
      [this, id, request_id,
       alive = std::weak_ptr<bool>(alive_)](std::vector<uint8_t> reply) {
        if (!alive.expired()) Answer(id, request_id, std::move(reply));
      });
}

void SessionServer::Answer(uint64_t id, uint64_t request_id, std::vector<uint8_t> reply) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;  // Ended meanwhile.
  // A grant that its session does not know of comes back when it continues: never told
  // twice.
  const auto* message = format::GetMessage(reply.data());
  if (message->body_type() == format::Body::GrantReply) {
    found->second->replies.Forget(request_id);
  } else {
    found->second->replies.Answer(request_id, reply);
  }
  if (const auto connection = found->second->connection)
    connection->Send(std::move(reply));
}

// The process may live on, and with it what it reads and writes (D1): unless it has let
// go of its lock, and its goodbye was lost.
void SessionServer::OnSessionClosed(uint64_t id, const arrow::Status& reason) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  found->second->connection.reset();
  if (found->second->ending == nullptr) {
    found->second->ending = "left without a goodbye";
    parts_.loop->After(kLockPollPeriod, [this, id, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) EndWhenUnlocked(id);
    });
  }
  Log(LogLevel::kDebug, "session ", id, " of process ", found->second->process_id,
      " is not connected any more: ", reason.message());
}

void SessionServer::OnProcessEnded(uint64_t id) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  if (const auto connection = std::exchange(found->second->connection, nullptr)) {
    connection->Close();
  }
  found->second->ending = "ended";
  EndWhenUnlocked(id);
}

/// A forked child inherited the lock, and may read as long as it has it.
void SessionServer::EndWhenUnlocked(uint64_t id) {
  const auto found = sessions_.find(id);
  // Ended meanwhile, or its process has come back.
  if (found == sessions_.end() || found->second->ending == nullptr) return;
  const auto held = platform::FileLock::IsHeld(LockPath(id));
  LogIfError("session lock", held.status());
  if (held.ok() && !*held) {
    LogIfError("cannot end a session", End(id, found->second->ending));
    return;
  }
  parts_.loop->After(kLockPollPeriod, [this, id, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) EndWhenUnlocked(id);
  });
}

arrow::Status SessionServer::End(uint64_t id, const char* why) {
  const auto found = sessions_.find(id);
  const std::unique_ptr<Session> session = std::move(found->second);
  sessions_.erase(found);
  Log(LogLevel::kDebug, "session ", id, " of process ", session->process_id, " ", why);
  const arrow::Status status = parts_.home->EndSession(id);
  parts_.reclaimer->Kick();
  LogIfError("cannot remove a session lock", platform::RemoveAll(LockPath(id)));
  return status;
}

void SessionServer::Shutdown(const Connection::Ptr& connection, uint64_t request_id) {
  connection->Send(format::MakeOutcomeReply(request_id, arrow::Status::OK()));
  on_shutdown_();
}

}  // namespace sheaf::daemon
