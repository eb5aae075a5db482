#include "daemon/session_server.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
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
#include "daemon/home.h"
#include "daemon/log.h"
#include "daemon/reader_leases.h"
#include "daemon/reply_cache.h"
#include "daemon/unix_transport.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "region/part_set.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

/// How often the lock of a session that is over, but for a forked child, is looked at.
constexpr std::chrono::milliseconds kLockPollPeriod{100};
/// Between two looks among all processes for who does not end.
constexpr std::chrono::seconds kEndAllWaitMin{1};
constexpr std::chrono::seconds kEndAllWaitMax{64};
constexpr uint32_t kGroupSocketMode = 0660;
/// Descriptors that another user's session is sent: each part of each segment, several
/// times. Who leaves them unread fills tables of this process and of the kernel.
constexpr uint32_t kPartsSentMax = 16;

}  // namespace

SessionServer::SessionServer(const region::ClusterConfig& config, NodeId node,
                             const Parts& parts, std::function<void()> on_shutdown)
    : config_(config),
      node_(node),
      parts_(parts),
      on_shutdown_(std::move(on_shutdown)),
      locks_(config.session_lock_folder(node)),
      leases_(parts.region, parts.home) {}

SessionServer::~SessionServer() { Close(); }

arrow::Status SessionServer::Listen() {
  ARROW_ASSIGN_OR_RAISE(rules_, AccessRules::Make(config_));
  ARROW_RETURN_NOT_OK(locks_.MakeFolder());
  AdoptSessions();
  RemoveStaleLocks();
  const std::string path = config_.socket_path(node_);
  ARROW_ASSIGN_OR_RAISE(listener_, platform::ListenUnix(path));
  if (!config_.socket_group().empty()) {
    ARROW_ASSIGN_OR_RAISE(const uint32_t group_id,
                          platform::FindGroup(config_.socket_group()));
    ARROW_RETURN_NOT_OK(platform::ShareWithGroup(path, group_id, kGroupSocketMode));
  }
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
    const auto owner = locks_.OwnerOf(id);
    LogIfError("cannot tell whose a session is", owner.status());
    session->owner = owner.ValueOr(SessionOwner{platform::CurrentUserId()});
    parts_.home->AdoptUser(id, session->owner.user_id);
    sessions_.emplace(id, std::move(session));
    EndWhenUnlocked(id);
  }
}

// Also those of a former daemon that have not come back, or that a forked child goes on
// with: who holds their locks. A process that may not be ended here, of another user, or
// not be seen, is waited for; it is told so when it asks for anything.
bool SessionServer::EndAll() {
  const std::set<uint64_t>& all = parts_.home->sessions();
  if (all.empty()) {
    end_all_again_ = {};
    end_all_wait_ = {};
    return true;
  }
  const auto now = parts_.loop->Now();
  if (now < end_all_again_) return false;
  end_all_wait_ = std::clamp(2 * end_all_wait_, kEndAllWaitMin, kEndAllWaitMax);
  end_all_again_ = now + end_all_wait_;
  Log(LogLevel::kWarning, "off for another home: ", all.size(),
      " sessions end before this node goes on");
  for (const auto& [id, session] : sessions_) {
    if (session->pidfd.valid()) {
      LogIfError("cannot end a session", platform::SendSignal(session->pidfd, SIGKILL));
    }
    if (const auto open = session->connection; open != nullptr) {
      open->Close();
      OnSessionClosed(id, arrow::Status::Cancelled("this node is off"));
    }
  }
  LogIfError("cannot end who holds a session", locks_.EndHolders(all));
  return false;
}

// Of greetings that were never welcomed. A guest that is gone may have left one; its
// process closes the socket before the lock, so it is looked for until none is held.
void SessionServer::RemoveStaleLocks() {
  const auto is_session = [this](uint64_t id) { return sessions_.contains(id); };
  if (locks_.RemoveStale(is_session)) RemoveStaleLocksLater();
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

void SessionServer::OnPeerFrame(const PeerName& peer, const Connection::Ptr& connection,
                                const platform::Frame& frame) {
  const auto message = format::ParseMessage(frame.payload);
  if (!message.ok() || (*message)->is_reply()) {
    peers_.erase(connection);
    return Refuse(connection, 0,
                  message.ok() ? arrow::Status::Invalid("a reply from a peer that asks")
                               : message.status());
  }
  if (!parts_.transport->SpeaksOfMapped(peer)) {
    peers_.erase(connection);
    return Refuse(connection, (*message)->request_id(),
                  arrow::Status::Invalid("the memory of node ", peer.node.value,
                                         " was formatted anew since its daemon greeted, "
                                         "with format epoch ",
                                         peer.format_epoch));
  }
  parts_.transport->Deliver(
      peer.node, **message,
      [to = std::weak_ptr<Connection>(connection)](std::vector<uint8_t> reply) {
        if (const auto open = to.lock()) open->Send(std::move(reply));
      });
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
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return arrow::Status::Invalid("the session has ended");
  const format::Access access = found->second->owner.access;
  if (const auto allowed = CheckAllowed(access, message.body_type()); !allowed.ok()) {
    connection->Send(format::MakeOutcomeReply(request_id, allowed));
    return arrow::Status::OK();
  }
  if (message.body_type() == format::Body::ShutdownRequest) {
    Shutdown(connection, request_id);
    return arrow::Status::OK();
  }
  if (message.body_type() == format::Body::PartRequest) {
    SendPart(id, connection, message);
    return arrow::Status::OK();
  }
  if (message.body_type() == format::Body::Goodbye) {
    found->second->connection.reset();
    found->second->ending = "said goodbye";
    EndWhenUnlocked(id);
    connection->Send(format::MakeOutcomeReply(request_id, arrow::Status::OK()));
    connection->CloseAfterSending();
    return arrow::Status::OK();
  }
  if (message.body_type() == format::Body::HomeRequest) {
    AskOtherHome(id, message);
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
  const auto answer = [this, id, request_id,
                       alive = std::weak_ptr<bool>(alive_)](std::vector<uint8_t> reply) {
    if (!alive.expired()) Answer(id, request_id, std::move(reply));
  };
  if (leases_.Handle(id, message, answer)) return arrow::Status::OK();
  return parts_.service->Handle(id, message, answer);
}

// Whoever asks twice is answered twice: the other home does it once. A session knows the
// reply that it waits for.
void SessionServer::AskOtherHome(uint64_t id, const format::Message& message) {
  parts_.remotes->Handle(
      id, sessions_.at(id)->owner.user_id, message,
      [this, id, alive = std::weak_ptr<bool>(alive_)](std::vector<uint8_t> reply) {
        if (alive.expired()) return;
        const auto found = sessions_.find(id);
        if (found == sessions_.end() || found->second->connection == nullptr) return;
        found->second->connection->Send(std::move(reply));
      });
}

// Opened anew each time, for no more than the session may do with it.
void SessionServer::SendPart(uint64_t id, const Connection::Ptr& connection,
                             const format::Message& message) {
  const auto& request = *message.body_as<format::PartRequest>();
  Session& session = *sessions_.at(id);
  const auto open = [&]() -> arrow::Result<platform::UniqueFd> {
    if (request.segment() >= config_.nodes || request.part() > format::PartFile::MAX) {
      return arrow::Status::Invalid("there is no part ", static_cast<int>(request.part()),
                                    " of segment ", request.segment());
    }
    if (session.parts_sent >= kPartsSentMax * config_.nodes) {
      return arrow::Status::CapacityError("this session was sent ", session.parts_sent,
                                          " descriptors: connect anew");
    }
    const bool only_reads = session.owner.access == format::Access::Reader;
    return region::OpenPartFile(
        config_,
        {.node = node_,
         .role = only_reads ? region::Role::kReader : region::Role::kClient},
        SegmentId{request.segment()}, static_cast<region::PartKind>(request.part()));
  };
  auto file = open();
  if (!file.ok()) {
    return connection->Send(
        format::MakeOutcomeReply(message.request_id(), file.status()));
  }
  ++session.parts_sent;
  flatbuffers::FlatBufferBuilder builder;
  const auto body = format::CreatePartReply(builder);
  connection->Send(format::FinishReply(&builder, message.request_id(),
                                       format::Body::PartReply, body.Union()),
                   *std::move(file));
}

// A grant or lease that its session does not know of comes back when it continues: never
// told twice. What was asked for over a former connection is asked for again, or not
// wanted any more.
void SessionServer::Answer(uint64_t id, uint64_t request_id, std::vector<uint8_t> reply) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;  // Ended meanwhile.
  Session& session = *found->second;
  const bool is_awaited = session.replies.IsAwaited(request_id);
  const format::Message& message = *format::GetMessage(reply.data());
  const auto* grant = message.body_as<format::GrantReply>();
  if (grant != nullptr || message.body_type() == format::Body::LeaseReply) {
    session.replies.Forget(request_id);
  } else {
    session.replies.Answer(request_id, reply);
  }
  if (is_awaited && session.connection != nullptr) {
    session.connection->Send(std::move(reply));
  } else if (!is_awaited && grant != nullptr) {
    LogIfError("cannot take back a grant",
               parts_.home->Return(id, {grant->grant(), grant->generation()}));
  }
}

// The process may live on, and with it what it reads and writes (D1): unless it has let
// go of its lock, and its goodbye was lost.
void SessionServer::OnSessionClosed(uint64_t id, const arrow::Status& reason) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  found->second->connection.reset();
  if (found->second->ending == nullptr) {
    found->second->ending = "left without a goodbye";
    EndWhenUnlockedLater(id);
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
  const auto held = locks_.IsHeld(id);
  LogIfError("session lock", held.status());
  if (held.ok() && !*held) {
    LogIfError("cannot end a session", End(id, found->second->ending));
    return;
  }
  EndWhenUnlockedLater(id);
}

// One look is due at a time, however often the session comes and goes meanwhile.
void SessionServer::EndWhenUnlockedLater(uint64_t id) {
  if (std::exchange(sessions_.at(id)->looks_at_lock, true)) return;
  parts_.loop->After(kLockPollPeriod, [this, id, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return;
    found->second->looks_at_lock = false;
    EndWhenUnlocked(id);
  });
}

arrow::Status SessionServer::End(uint64_t id, const char* why) {
  const auto found = sessions_.find(id);
  const std::unique_ptr<Session> session = std::move(found->second);
  sessions_.erase(found);
  Log(LogLevel::kDebug, "session ", id, " of process ", session->process_id, " ", why);
  const arrow::Status status = parts_.home->EndSession(id);
  leases_.Forget(id);
  parts_.remotes->OnSessionEnded();
  parts_.reclaimer->Kick();
  LogIfError("cannot remove a session lock", locks_.Remove(id));
  return status;
}

void SessionServer::Shutdown(const Connection::Ptr& connection, uint64_t request_id) {
  connection->Send(format::MakeOutcomeReply(request_id, arrow::Status::OK()));
  on_shutdown_();
}

}  // namespace sheaf::daemon
