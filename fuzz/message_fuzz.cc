// Any bytes as messages of two sessions, of another daemon, and as its replies: each
// request gets one reply at most, which is a message itself, and when all are gone
// nothing is left of what they did.
//
// Input: the node whose daemon is spoken to (bit 0), then messages: who sends it (with
// bit 7 at once after the one before, else a little later; with bit 6 to the next daemon,
// after this one died), its size (2 bytes), its payload.
//
// Decoders: src/format/message.cc src/daemon/session_service.cc src/daemon/home.cc
// src/daemon/home_seal.cc src/daemon/home_client.cc src/daemon/catalog_client.cc
// src/daemon/reader_leases.cc src/daemon/parent_set.cc src/daemon/coverage.cc
// src/daemon/publisher.cc

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "daemon/event_loop.h"
#include "daemon/grant_table.h"
#include "daemon/reader_leases.h"
#include "daemon/transport.h"
#include "daemon/unix_transport.h"
#include "format/layout.h"
#include "format/message.h"
#include "fuzz/input.h"
#include "fuzz/message_fields.h"
#include "fuzz/message_world.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace {

using sheaf::NodeId;
using sheaf::ObjectId;
using sheaf::format::LineState;
using sheaf::format::Message;

enum class Sender : uint8_t { kFirstSession, kSecondSession, kPeer, kPeerReply, kCount };

constexpr uint8_t kAtOnce = 0x80;
constexpr uint8_t kAfterRestart = 0x40;
constexpr int kMessagesMax = 64;
constexpr int kRoundsMax = 10;  ///< More than a publish asks for anything.
constexpr std::chrono::milliseconds kStep{10};
constexpr std::chrono::seconds kLongAgo{10};

/// A reply function for the request `id` that checks what it gets.
sheaf::daemon::ReplyFn CheckedReply(uint64_t id) {
  return [id, replies = std::make_shared<int>(0)](const std::vector<uint8_t>& reply) {
    SHEAF_CHECK(++*replies == 1);
    const auto message = sheaf::format::ParseMessage(reply);
    SHEAF_CHECK(message.ok() && (*message)->is_reply());
    SHEAF_CHECK((*message)->request_id() == id);
    sheaf::fuzz::FieldReader::Read(**message);
  };
}

class MessageFuzz {
 public:
  void Run(sheaf::fuzz::Input input) {
    node_ = input.Next<uint8_t>() % sheaf::fuzz::kWorldNodes;
    daemon_ = world_.Start(node_);
    const auto before = daemon_->home->statistics();
    for (uint64_t& session : sessions_) {
      session = daemon_->home->OpenSession().ValueOrDie().id;
    }
    for (int i = 0; i < kMessagesMax && !input.empty(); ++i) {
      const auto how = input.Next<uint8_t>();
      const auto bytes = input.Take(input.Next<uint16_t>());
      if ((how & kAtOnce) == 0) daemon_->clock.Advance(kStep);
      if ((how & kAfterRestart) != 0) Restart();
      Deliver(static_cast<Sender>(how % static_cast<uint8_t>(Sender::kCount)),
              {bytes.begin(), bytes.end()});
    }
    End();
    const auto after = daemon_->home->statistics();
    SHEAF_CHECK(after.free_bytes == before.free_bytes);
    SHEAF_CHECK(after.used_bytes == before.used_bytes && after.sessions == 0);
    SHEAF_CHECK(after.objects == 0 && daemon_->home->num_foreign_leases() == 0);
    daemon_.reset();
  }

 private:
  void Deliver(Sender sender, const std::vector<uint8_t>& payload) {
    const auto parsed = sheaf::format::ParseMessage(payload);
    if (!parsed.ok()) return;
    const Message& message = **parsed;
    sheaf::fuzz::FieldReader::Read(message);
    switch (sender) {
      case Sender::kFirstSession:
      case Sender::kSecondSession:
        if (!message.is_reply()) {
          DeliverOfSession(sessions_[static_cast<size_t>(sender)], message);
        }
        return;
      case Sender::kPeer:
        if (!message.is_reply()) DeliverOfPeer(message);
        return;
      case Sender::kPeerReply:
        DeliverReply(message);
        return;
      case Sender::kCount:
        return;
    }
  }

  /// The daemon dies, and another one goes on with what it left.
  void Restart() {
    size_t pages = 1;  // of the home itself, which needs another one before it has none
    for (const uint64_t session : sessions_) {
      pages += daemon_->home->LeasePagesOf(session).size();
    }
    if (pages >= sheaf::fuzz::kWorldLeasePages) return;
    daemon_.reset();
    daemon_ = world_.StartAgain(node_);
    for (const uint64_t session : sessions_) {
      SHEAF_CHECK(daemon_->home->HasSession(session));
    }
    SHEAF_CHECK(daemon_->home->problems().empty());
  }

  void DeliverOfSession(uint64_t session, const Message& message) {
    if (const auto* hello = message.body_as<sheaf::format::Hello>()) {
      return GoOn(session, *hello);
    }
    if (daemon_->leases.Handle(session, message, CheckedReply(message.request_id()))) {
      return;
    }
    // What it refuses ends the connection, not the session.
    static_cast<void>(
        daemon_->service.Handle(session, message, CheckedReply(message.request_id())));
  }

  /// The session is back, and says which grants and leases it knows of.
  void GoOn(uint64_t session, const sheaf::format::Hello& hello) {
    std::set<sheaf::daemon::GrantId> known;
    if (hello.grants() != nullptr) {
      for (const sheaf::format::GrantKey* key : *hello.grants()) {
        known.insert({key->grant(), key->generation()});
      }
    }
    SHEAF_CHECK(daemon_->home->ReturnAllBut(session, known).ok());
    daemon_->leases.EndAllBut(session, sheaf::daemon::ReaderLeases::Known(hello));
  }

  void DeliverOfPeer(const Message& message) {
    const NodeId peer{1 - node_};
    const auto greeting = greeter_.CheckHello(message);
    if (greeting.ok()) SHEAF_CHECK(greeting->node == NodeId{1});
    const auto reply = CheckedReply(message.request_id());
    if (daemon_->catalog.Handle(peer, message, reply)) return;
    if (daemon_->homes.Handle(message, reply)) return;
    daemon_->members.Handle(message, reply);
  }

  void DeliverReply(const Message& message) {
    const arrow::Status status = sheaf::format::ToStatus(message);
    SHEAF_CHECK(status.IsAlreadyExists() || status.CodeAsString() != "Unknown");
    if (!message.is_reply()) return;
    if (status.ok()) return daemon_->transport.Answer(&message);
    daemon_->transport.Answer(status);
  }

  /// The peer is lost, the sessions end, and whoever can removes all that is there.
  void End() {
    sheaf::daemon::Home& home = *daemon_->home;
    // A commit that nobody answers is sent again for ever, and changes nothing.
    for (int round = 0; round < kRoundsMax; ++round) {
      while (daemon_->transport.has_pending()) {
        daemon_->transport.Answer(sheaf::MakeStatus(arrow::StatusCode::IOError,
                                                    sheaf::ErrorReason::kNodeLost,
                                                    "the peer is gone"));
      }
      daemon_->clock.Advance(kLongAgo);
    }
    for (const uint64_t session : sessions_) {
      SHEAF_CHECK(home.EndSession(session).ok());
      daemon_->leases.Forget(session);
    }
    for (const LineState state : {LineState::kSealed, LineState::kBound}) {
      for (const ObjectId& id : home.directory().ObjectsIn(state)) {
        const auto record = home.directory().GetRecord(id).ValueOrDie();
        SHEAF_CHECK(home.Retire(id, record->name).ok());
      }
    }
    daemon_->clock.Advance(kLongAgo);
    SHEAF_CHECK(home.Reclaim().ok() && home.num_retired() == 0);
  }

  sheaf::fuzz::World world_;
  sheaf::daemon::EventLoop loop_;
  sheaf::daemon::UnixTransport greeter_{&loop_, &world_.region(0), 1};
  uint32_t node_ = 0;
  std::unique_ptr<sheaf::fuzz::WorldDaemon> daemon_;
  std::array<uint64_t, 2> sessions_{};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static MessageFuzz fuzz;
  fuzz.Run(sheaf::fuzz::Input(data, size));
  return 0;
}
