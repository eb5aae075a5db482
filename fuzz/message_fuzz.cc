// Any bytes as messages of two sessions, of another daemon, and as its replies: each
// request gets one reply at most, which is a message itself, and when all are gone
// nothing is left of what they did.
//
// Input: the node whose daemon is spoken to (bit 0), then messages: who sends it (with
// bit 7 at once after the one before, else a little later), its size (2 bytes), its
// payload.
//
// Decoders: src/format/message.cc src/daemon/session_service.cc src/daemon/home.cc
// src/daemon/home_seal.cc src/daemon/home_client.cc src/daemon/catalog_client.cc
// src/daemon/parent_set.cc src/daemon/coverage.cc src/daemon/publisher.cc

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "daemon/event_loop.h"
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
constexpr int kMessagesMax = 64;
constexpr std::chrono::milliseconds kStep{10};
constexpr std::chrono::seconds kLongAgo{60};

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
        if (message.is_reply()) return;
        // What it refuses ends the connection, not the session.
        static_cast<void>(daemon_->service.Handle(sessions_[static_cast<size_t>(sender)],
                                                  message,
                                                  CheckedReply(message.request_id())));
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

  void DeliverOfPeer(const Message& message) {
    const NodeId peer{1 - node_};
    const auto greeting = greeter_.CheckHello(message);
    if (greeting.ok()) SHEAF_CHECK(*greeting == NodeId{1});
    const auto reply = CheckedReply(message.request_id());
    if (daemon_->catalog.Handle(peer, message, reply)) return;
    daemon_->homes.Handle(message, reply);
  }

  void DeliverReply(const Message& message) {
    const arrow::Status status = sheaf::format::ToStatus(message);
    if (!message.is_reply()) return;
    if (status.ok()) return daemon_->transport.Answer(&message);
    daemon_->transport.Answer(status);
  }

  /// The peer is lost, the sessions end, and whoever can removes all that is there.
  void End() {
    sheaf::daemon::Home& home = *daemon_->home;
    while (daemon_->transport.has_pending()) {
      daemon_->transport.Answer(sheaf::MakeStatus(
          arrow::StatusCode::IOError, sheaf::ErrorReason::kNodeLost, "the peer is gone"));
    }
    daemon_->clock.Advance(kLongAgo);
    SHEAF_CHECK(!daemon_->transport.has_pending());
    for (const uint64_t session : sessions_) SHEAF_CHECK(home.EndSession(session).ok());
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
  sheaf::daemon::UnixTransport greeter_{&loop_, world_.region(0).config(), NodeId{0}, 1};
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
