// Processes that die at the worst moment: everything they held comes back, nothing else
// does.

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "daemon/log.h"
#include "daemon/test_client.h"
#include "daemon/test_node.h"
#include "daemon/test_server.h"
#include "directory/catalog.h"
#include "lease/lease.h"
#include "platform/file.h"
#include "platform/unix_socket.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/peer.h"

namespace sheaf::daemon {
namespace {

using testing::Peer;

constexpr uint64_t kMiB = uint64_t{1} << 20;

// The tests' cluster, for a peer that knows only its folder.
region::ClusterConfig ConfigIn(const std::string& folder) {
  region::ClusterConfig config;
  config.name = "test";
  config.cluster_id = 0x5EAF;
  config.nodes = 2;
  config.memory_folder = folder + "/memory";
  config.runtime_folder = folder + "/run";
  config.segment_size_bytes = 16 * kMiB;
  config.slots_max = 256;
  config.lease_pages_max = 256;
  config.records_size_bytes = kMiB;
  return config;
}

/// A process with one session on node 0, which does what the test says and nothing on its
/// own.
class PeerSession {
 public:
  explicit PeerSession(const std::string& folder)
      : config_(ConfigIn(folder)),
        region_(region::Region::Attach(config_, {{0}, region::Role::kClient, true})
                    .ValueOrDie()) {}

  std::string Do(const std::string& request) {
    std::istringstream words(request);
    std::string verb;
    words >> verb;
    if (verb == "lock") return Outcome(Lock());
    if (verb == "hello") return Outcome(client_.Hello());
    if (verb == "grant") return Outcome(GrantSome());
    if (verb == "seal") return Outcome(client_.Seal(*Describe(), {}).status());
    if (verb == "put")
      return Outcome(client_.Seal(*Describe(), {.name = "taxi"}).status());
    if (verb == "put-unread") {
      return Outcome(platform::SendFrame(
          client_.fd(), client_.BuildSeal(*Describe(), {.name = "taxi"})));
    }
    if (verb == "put-half") return Outcome(SendHalf());
    if (verb == "lease") return Outcome(Lease(&words));
    if (verb == "close") return client_.CloseSocket(), "OK";
    if (verb == "goodbye") return Outcome(client_.Goodbye());
    if (verb == "fork") return std::to_string(Fork());
    return "what?";
  }

 private:
  static std::string Outcome(const arrow::Status& status) { return status.ToString(); }

  // As far as a client is before its greeting.
  arrow::Status Lock() {
    ARROW_ASSIGN_OR_RAISE(auto lock, platform::FileLock::Acquire(
                                         config_.session_lock_folder({0}) + "/x.lock"));
    lock_.emplace(std::move(lock));
    return arrow::Status::OK();
  }
  arrow::Status GrantSome() {
    ARROW_ASSIGN_OR_RAISE(grant_, client_.RequestGrant(kMiB));
    return region_->own_segment().data().SetWritable(grant_.offset, grant_.size_bytes,
                                                     true);
  }
  std::shared_ptr<arrow::Buffer> Describe() {
    return DescribeRanges(*region_, {{{{0}, grant_.offset}, 4096}});
  }
  arrow::Status SendHalf() {
    const auto message = client_.BuildSeal(*Describe(), {.name = "taxi"});
    platform::FrameHeader header;
    header.payload_size_bytes = static_cast<uint32_t>(message.size());
    std::vector<uint8_t> bytes(sizeof(header) + message.size() / 2);
    std::memcpy(bytes.data(), &header, sizeof(header));
    std::memcpy(bytes.data() + sizeof(header), message.data(), message.size() / 2);
    return ::send(client_.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
                   static_cast<ssize_t>(bytes.size())
               ? arrow::Status::OK()
               : platform::OsError("cannot send to", "the daemon");
  }
  arrow::Status Lease(std::istringstream* words) {
    ObjectId object;
    *words >> object.segment.value >> object.slot >> object.generation;
    region::Part& leases = region_->own_segment().leases();
    SHEAF_CHECK(leases.SetWritable(0, leases.size_bytes(), /*writable=*/true).ok());
    cells_ = std::make_unique<lease::CellTable>(
        &region_->own_segment(), client_.lease_pages(),
        [] { return arrow::Status::CapacityError("no more"); });
    return cells_->Write(object).status();
  }
  static int Fork() {
    const int child = ::fork();
    if (child == 0) {
      for (;;) ::pause();
    }
    return child;
  }

  region::ClusterConfig config_;
  std::shared_ptr<region::Region> region_;
  RawClient client_{config_, 0};
  RawClient::Grant grant_;
  std::unique_ptr<lease::CellTable> cells_;
  std::optional<platform::FileLock> lock_;
};

class SessionDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(LogLevel::kOff);
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
    config_ = ConfigIn(folder_);
    ASSERT_OK(region::PrepareMemoryFolder(config_));
    for (uint32_t k = 0; k < config_.nodes; ++k) {
      servers_.push_back(std::make_unique<ServerThread>(config_, k));
    }
    ASSERT_OK_AND_ASSIGN(
        region_, region::Region::Attach(config_, {{0}, region::Role::kClient, true}));
  }
  void TearDown() override {
    servers_.clear();
    ASSERT_OK(region::RemoveMemoryFolder(config_));
    ASSERT_OK(platform::RemoveAll(folder_));
  }

  std::unique_ptr<Peer> StartPeer() {
    return Peer::Start({"SHEAF_TEST_FOLDER=" + folder_}).ValueOrDie();
  }
  /// As node 1 says that it did.
  void SayThatNode0IsOff() {
    ASSERT_OK_AND_ASSIGN(
        const auto node1,
        region::Region::Attach(config_, {{1}, region::Role::kDaemon, true}));
    region::StoreCertifiedOff(&node1->own_segment(), {0}, Incarnation());
  }
  uint64_t Incarnation() {
    return region::ReadIncarnation(region_->own_segment()).ValueOrDie().incarnation;
  }
  static void Tell(Peer& peer, const std::vector<std::string>& requests) {
    for (const std::string& request : requests) {
      ASSERT_EQ(peer.Ask(request).ValueOrDie(), "OK") << request;
    }
  }
  void ExpectAllBack() {
    AwaitTrue([&] {
      const auto statistics = ReadStatistics(*region_, 0);
      return statistics.sessions == 0 && statistics.objects == 0 &&
             statistics.used_bytes == 0;
    });
    const std::string locks = config_.session_lock_folder({0});
    AwaitTrue([&] { return std::filesystem::is_empty(locks); });
  }
  void DieAfter(const std::vector<std::string>& requests) {
    auto peer = StartPeer();
    Tell(*peer, requests);
    peer->Kill();
    ExpectAllBack();
  }
  void DieAfterOther() {
    auto other = StartPeer();
    Tell(*other, {"hello"});
    AwaitTrue([&] { return Sessions() == 2; });
    other->Kill();
    AwaitTrue([&] { return Sessions() == 1; });
  }
  uint32_t Sessions() { return ReadStatistics(*region_, 0).sessions; }

  std::string folder_ = "/dev/shm/sheaf-death-XXXXXX";
  region::ClusterConfig config_;
  std::vector<std::unique_ptr<ServerThread>> servers_;
  std::shared_ptr<region::Region> region_;
};

TEST_F(SessionDeathTest, AtAnyMomentBeforeAPut) {
  DieAfter({});
  DieAfter({"lock"});
  DieAfter({"hello"});
  DieAfter({"hello", "grant"});
  DieAfter({"hello", "grant", "grant", "grant"});
  DieAfter({"hello", "grant", "seal"});
  DieAfter({"hello", "grant", "seal", "grant", "seal", "close"});
  DieAfter({"hello", "grant", "put-half"});
}

TEST_F(SessionDeathTest, WhatWasPutStaysAndOnlyThat) {
  auto peer = StartPeer();
  Tell(*peer, {"hello", "grant", "put", "grant", "seal"});
  peer->Kill();
  AwaitTrue([&] { return Sessions() == 0 && ReadStatistics(*region_, 0).objects == 1; });
  EXPECT_EQ(ReadStatistics(*region_, 0).used_bytes, 4096);
  const auto found = directory::Lookup(*region_, "taxi").ValueOrDie();
  ASSERT_TRUE(found.has_value());
  RawClient client(config_, 1);
  ASSERT_OK(client.Hello());
  ASSERT_OK(client.Retire(found->object, "taxi"));
  ASSERT_OK(client.Goodbye());
  ExpectAllBack();
}

TEST_F(SessionDeathTest, BetweenARequestAndItsReplyTheTableIsThereOrNot) {
  for (int i = 0; i < 10; ++i) {
    auto peer = StartPeer();
    Tell(*peer, {"hello", "grant", "put-unread"});
    peer->Kill();
    AwaitTrue([&] { return Sessions() == 0; });
    RawClient client(config_, 0);
    ASSERT_OK(client.Hello());
    // The publish may go on for a while: it waits for nobody who is dead.
    AwaitTrue([&] {
      if (const auto found = directory::Lookup(*region_, "taxi").ValueOrDie()) {
        EXPECT_OK(client.Retire(found->object, "taxi"));
      }
      return ReadStatistics(*region_, 0).objects == 0;
    });
    ASSERT_OK(client.Goodbye());
    ExpectAllBack();
  }
}

TEST_F(SessionDeathTest, ALeaseOfTheDeadIsCleared) {
  RawClient writer(config_, 1);
  ASSERT_OK(writer.Hello());
  ASSERT_OK_AND_ASSIGN(const auto grant, writer.RequestGrant(kMiB));
  ASSERT_OK_AND_ASSIGN(
      const auto sealed,
      writer.Seal(*DescribeRanges(*region_, {{{{1}, grant.offset}, 4096}}), {}));
  auto peer = StartPeer();
  std::ostringstream lease;
  lease << "lease 1 " << sealed.object.slot << " " << sealed.object.generation;
  Tell(*peer, {"hello", lease.str()});
  ASSERT_OK(writer.Retire(sealed.object));
  ASSERT_OK(writer.ReturnGrant(grant));
  EXPECT_EQ(lease::CountLeases(*region_, sealed.object).ValueOrDie(), 1);
  AwaitTrue([&] { return ReadStatistics(*region_, 1).objects == 1; });
  peer->Kill();
  AwaitTrue([&] { return ReadStatistics(*region_, 1).objects == 0; });
  EXPECT_EQ(lease::CountLeases(*region_, sealed.object).ValueOrDie(), 0);
  ASSERT_OK(writer.Goodbye());
}

TEST_F(SessionDeathTest, AForkedChildHoldsTheSessionOfItsDeadParent) {
  auto peer = StartPeer();
  Tell(*peer, {"hello", "grant"});
  const int child = std::stoi(peer->Ask("fork").ValueOrDie());
  peer->Kill();
  // Not a moment to wait for: it must never end. A session that comes later and goes is
  // over by then.
  DieAfterOther();
  EXPECT_EQ(Sessions(), 1);
  EXPECT_GT(ReadStatistics(*region_, 0).used_bytes, 0);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ExpectAllBack();
}

TEST_F(SessionDeathTest, AForkedChildHoldsTheSessionThatItsParentLeft) {
  auto peer = StartPeer();
  Tell(*peer, {"hello", "grant"});
  const int child = std::stoi(peer->Ask("fork").ValueOrDie());
  Tell(*peer, {"goodbye"});
  const bool is_held = !std::filesystem::is_empty(config_.session_lock_folder({0}));
  EXPECT_TRUE(is_held);
  peer->Kill();  // Its end is one more reason to look at the lock, and changes nothing.
  if (is_held) DieAfterOther();
  EXPECT_EQ(Sessions(), is_held ? 1 : 0);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ExpectAllBack();
}

/// F8: a node that is off does not go on before whoever reads by its cells has ended.
TEST_F(SessionDeathTest, WhoIsOffEndsAlsoThoseThatOnlyHoldTheLock) {
  auto peer = StartPeer();
  Tell(*peer, {"hello", "grant"});
  ASSERT_OK(peer->Ask("fork").status());
  peer->Kill();
  auto other = StartPeer();
  Tell(*other, {"hello"});
  const uint64_t first = Incarnation();
  SayThatNode0IsOff();
  ExpectAllBack();
  AwaitTrue([&] { return Incarnation() == first + 1; });
  other->Kill();
  DieAfter({"hello", "grant"});
  EXPECT_EQ(Incarnation(), first + 1);
}

/// Of a former daemon, and not back: this process, which no daemon in it would end.
TEST_F(SessionDeathTest, WhoIsOffWelcomesNobodyBeforeTheOldSessionsHaveEnded) {
  std::optional<RawClient> client(std::in_place, config_, 0);
  ASSERT_OK(client->Hello());
  const uint64_t first = Incarnation();
  servers_.front().reset();
  SayThatNode0IsOff();
  servers_.front() = std::make_unique<ServerThread>(config_, 0);
  const arrow::Status refused = RawClient(config_, 0).Hello();
  EXPECT_TRUE(IsNodeLost(refused)) << refused;
  EXPECT_EQ(Incarnation(), first);
  client.reset();
  ExpectAllBack();
  AwaitTrue([&] { return RawClient(config_, 0).Hello().ok(); });
  EXPECT_EQ(Incarnation(), first + 1);
}

// What a killed daemon leaves behind: socket, lock file, segment.
TEST_F(SessionDeathTest, TheNextDaemonTakesOverWhatACrashLeft) {
  servers_.clear();
  auto daemon = StartPeer();
  ASSERT_EQ(daemon->Ask("serve").ValueOrDie(), "OK");
  daemon->Kill();
  ASSERT_TRUE(std::filesystem::exists(config_.socket_path({0})));
  ASSERT_TRUE(std::filesystem::exists(config_.segment_folder({0})));
  servers_.push_back(std::make_unique<ServerThread>(config_, 0));
  RawClient client(config_, 0);
  ASSERT_OK(client.Hello());
  ASSERT_OK(client.RequestGrant(kMiB));
  ASSERT_OK(client.Goodbye());
}

TEST(Peer, Serves) {
  if (!testing::IsPeer()) GTEST_SKIP() << "only in a peer process";
  SetLogLevel(LogLevel::kOff);
  const std::string folder = std::getenv("SHEAF_TEST_FOLDER");
  if (!std::filesystem::exists(ConfigIn(folder).socket_path({0}))) {
    std::unique_ptr<ServerThread> server;  // Node 0 has no daemon: this peer becomes it.
    testing::ServePeer([&](const std::string&) {
      server = std::make_unique<ServerThread>(ConfigIn(folder), 0);
      return std::string("OK");
    });
    return;
  }
  PeerSession session(folder);
  testing::ServePeer([&](const std::string& request) { return session.Do(request); });
}

}  // namespace
}  // namespace sheaf::daemon
