#include "daemon/server.h"

#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/status.h>

#include "base/check.h"
#include "daemon/log.h"
#include "daemon/test_client.h"
#include "daemon/test_node.h"
#include "daemon/test_server.h"
#include "directory/catalog.h"
#include "format/layout.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using format::Body;
constexpr uint64_t kMiB = uint64_t{1} << 20;

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(LogLevel::kOff);
    config_ = memory_.Config();
    config_.lease_pages_max = 2048;
    config_.records_size_bytes = 4 * kMiB;
    ASSERT_OK(region::PrepareMemoryFolder(config_));
    StartServers();
    ASSERT_OK_AND_ASSIGN(
        region_, region::Region::Attach(config_, {{0}, region::Role::kClient, true}));
  }

  void StartServers() {
    servers_.clear();
    for (uint32_t k = 0; k < config_.nodes; ++k) {
      servers_.push_back(std::make_unique<ServerThread>(config_, k));
    }
  }

  uint64_t EpochOf(uint32_t node) {
    EXPECT_OK(region_->AttachMissing());
    return region_->segment({node})->header().format_epoch;
  }

  static arrow::Status Greet(RawClient* peer, uint64_t cluster, uint32_t node,
                             uint64_t epoch, uint64_t peer_epoch = 0) {
    const auto hello = [&](auto& b) {
      constexpr auto kVersion = format::kMessageVersion;
      return format::CreateNodeHello(b, kVersion, cluster, node, 1, epoch, peer_epoch)
          .Union();
    };
    return peer->Call(Body::NodeHello, hello).status();
  }

  std::unique_ptr<RawClient> Connect(uint32_t node) {
    auto client = std::make_unique<RawClient>(config_, node);
    SHEAF_CHECK(client->Hello().ok());
    return client;
  }

  std::shared_ptr<arrow::Buffer> Describe(uint32_t node, uint64_t offset,
                                          uint64_t size_bytes) {
    return DescribeRanges(*region_, {{{{node}, offset}, size_bytes}});
  }

  // Sessions, objects and bytes are what they were at the start.
  void ExpectAllBack(uint32_t node) {
    AwaitTrue([&] {
      const auto statistics = ReadStatistics(*region_, node);
      return statistics.sessions == 0 && statistics.objects == 0 &&
             statistics.used_bytes == 0;
    });
  }

  void ExpectAlive(uint32_t node) {
    auto client = Connect(node);
    EXPECT_OK(client->RequestGrant(4096));
    EXPECT_OK(client->Goodbye());
  }

  // The daemon ended the connection, maybe after an error reply.
  void ExpectClosed(RawClient& client) {
    for (;;) {
      const auto frame = platform::ReceiveFrame(client.fd());
      if (frame.ok()) continue;
      EXPECT_TRUE(IsDisconnected(frame.status())) << frame.status().ToString();
      return;
    }
  }

  region::TestMemory memory_;
  region::ClusterConfig config_;
  std::vector<std::unique_ptr<ServerThread>> servers_;
  std::shared_ptr<region::Region> region_;
};

TEST_F(ServerTest, ThePageSizeIsKnownFromTheStart) {
  const uint64_t at_start = ReadStatistics(*region_, 0).backing_page_bytes;
  auto client = Connect(0);
  ASSERT_OK_AND_ASSIGN(const auto grant, client->RequestGrant(kMiB));
  const auto* granted = reinterpret_cast<const volatile uint8_t*>(
      region_->own_segment().data().data() + grant.offset);
  EXPECT_EQ(*granted, 0);
  ASSERT_OK_AND_ASSIGN(
      const uint64_t found,
      platform::BackingPageSize(region_->own_segment().data().data() + grant.offset));
  EXPECT_EQ(at_start, found);
}

TEST_F(ServerTest, ATableIsPutFoundAndRemoved) {
  auto client = Connect(0);
  EXPECT_EQ(client->lease_pages().size(), 2);
  ASSERT_OK_AND_ASSIGN(const auto grant, client->RequestGrant(kMiB));
  ASSERT_OK_AND_ASSIGN(const auto sealed,
                       client->Seal(*Describe(0, grant.offset, 4096), {.name = "taxi"}));
  EXPECT_EQ(sealed.version, 1);
  ASSERT_OK_AND_ASSIGN(const auto found, directory::Lookup(*region_, "taxi"));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->object, sealed.object);
  ASSERT_RAISES(Invalid, client->Retire(sealed.object, "bus"));
  ASSERT_OK(client->Retire(sealed.object, "taxi"));
  EXPECT_EQ(directory::Lookup(*region_, "taxi").ValueOrDie(), std::nullopt);
  ASSERT_OK(client->ReturnGrant(grant));
  ASSERT_OK(client->Goodbye());
  ExpectAllBack(0);
}

TEST_F(ServerTest, NamesOfAllNodesAreOneCatalog) {
  auto near = Connect(0);
  auto far = Connect(1);
  const auto put = [&](RawClient& client, uint32_t node, const RawClient::Put& what) {
    const auto grant = client.RequestGrant(4096).ValueOrDie();
    const auto sealed = client.Seal(*Describe(node, grant.offset, 4096), what);
    SHEAF_CHECK(client.ReturnGrant(grant).ok());
    return sealed;
  };
  ASSERT_OK_AND_ASSIGN(const auto first, put(*far, 1, {.name = "taxi"}));
  EXPECT_EQ(first.object.segment.value, 1);
  ASSERT_RAISES(AlreadyExists, put(*near, 0, {.name = "taxi"}));
  ASSERT_OK_AND_ASSIGN(const auto second,
                       put(*near, 0, {.name = "taxi", .replace = true}));
  EXPECT_EQ(second.version, 2);
  const arrow::Status stale =
      put(*far, 1, {.name = "taxi", .replace = true, .expected_version = 1}).status();
  EXPECT_TRUE(IsVersionMismatch(stale)) << stale.ToString();
  ASSERT_OK_AND_ASSIGN(
      const auto third,
      put(*far, 1, {.name = "taxi", .replace = true, .expected_version = 2}));
  EXPECT_EQ(third.version, 3);
  EXPECT_EQ(directory::Lookup(*region_, "taxi").ValueOrDie()->object, third.object);
  // From the other node: forwarded to its home.
  ASSERT_OK(near->Retire(third.object, "taxi"));
  EXPECT_EQ(directory::Lookup(*region_, "taxi").ValueOrDie(), std::nullopt);
  ASSERT_OK(near->Goodbye());
  ASSERT_OK(far->Goodbye());
  ExpectAllBack(0);
  ExpectAllBack(1);
}

TEST_F(ServerTest, AnUnnamedObjectGoesWithItsSessionUnlessKept) {
  auto client = Connect(1);
  ASSERT_OK_AND_ASSIGN(const auto grant, client->RequestGrant(kMiB));
  ASSERT_OK(client->Seal(*Describe(1, grant.offset, 4096), {}));
  ASSERT_OK_AND_ASSIGN(
      const auto kept,
      client->Seal(*Describe(1, grant.offset + 4096, 4096), {.keep = true}));
  ASSERT_OK(client->Goodbye());
  AwaitTrue([&] { return ReadStatistics(*region_, 1).objects == 1; });
  auto other = Connect(0);
  ASSERT_OK(other->Retire(kept.object));
  const arrow::Status again = other->Retire({{1}, kept.object.slot, 99});
  EXPECT_TRUE(IsStaleGeneration(again)) << again.ToString();
  ASSERT_OK(other->Goodbye());
  ExpectAllBack(1);
}

TEST_F(ServerTest, RetiredMemoryIsReclaimedBeforeAGrantFails) {
  auto client = Connect(0);
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto grant,
                         client->RequestGrant(config_.segment_size_bytes));
    ASSERT_OK_AND_ASSIGN(const auto sealed,
                         client->Seal(*Describe(0, grant.offset, grant.size_bytes), {}));
    ASSERT_OK(client->ReturnGrant(grant));
    ASSERT_RAISES(OutOfMemory, client->RequestGrant(4096));
    ASSERT_OK(client->Retire(sealed.object));
  }
  ASSERT_OK(client->Goodbye());
  ExpectAllBack(0);
}

TEST_F(ServerTest, GreetingsThatDoNotFitAreRefused) {
  const auto hello = [&](uint32_t version, uint64_t cluster, std::span<const int> fds) {
    RawClient client(config_, 0);
    const auto reply = client.Call(
        Body::Hello,
        [&](auto& builder) {
          return format::CreateHelloDirect(builder, version, cluster, 1, "test").Union();
        },
        fds);
    ExpectClosed(client);
    return reply.status();
  };
  const auto pidfd = platform::OpenPidFd(platform::CurrentProcessId()).ValueOrDie();
  const auto parent = platform::OpenPidFd(1).ValueOrDie();
  const int own[] = {pidfd.get()};
  const int two[] = {pidfd.get(), pidfd.get()};
  const int strange[] = {parent.get()};
  const int no_pidfd[] = {0};
  const int many[] = {0, 0, 0, 0, 0, 0};
  ASSERT_RAISES(Invalid, hello(99, config_.cluster_id, own));
  ASSERT_RAISES(Invalid, hello(format::kMessageVersion, 99, own));
  ASSERT_RAISES(Invalid, hello(format::kMessageVersion, config_.cluster_id, {}));
  ASSERT_RAISES(Invalid, hello(format::kMessageVersion, config_.cluster_id, two));
  ASSERT_RAISES(Invalid, hello(format::kMessageVersion, config_.cluster_id, strange));
  ASSERT_RAISES(Invalid, hello(format::kMessageVersion, config_.cluster_id, no_pidfd));
  EXPECT_TRUE(IsDisconnected(hello(format::kMessageVersion, config_.cluster_id, many)));
  ExpectAlive(0);
  ExpectAllBack(0);
}

/// Who has not said who it is makes the daemon take no memory worth speaking of.
TEST_F(ServerTest, GreetingsOfAnyLengthAreRefused) {
  const auto greet = [&](size_t program_size) {
    RawClient client(config_, 0);
    const std::string lock_name = std::to_string(program_size) + ".lock";
    const auto lock =
        platform::FileLock::Acquire(config_.session_lock_folder({0}) + "/" + lock_name)
            .ValueOrDie();
    const auto pidfd = platform::OpenPidFd(platform::CurrentProcessId()).ValueOrDie();
    const int fds[] = {pidfd.get()};
    return client
        .Call(
            Body::Hello,
            [&](auto& builder) {
              return format::CreateHelloDirect(
                         builder, format::kMessageVersion, config_.cluster_id,
                         platform::CurrentProcessId(),
                         std::string(program_size, 'x').c_str(), lock_name.c_str())
                  .Union();
            },
            fds)
        .status();
  };
  EXPECT_OK(greet(4096));
  EXPECT_TRUE(IsDisconnected(greet(40'000)));
  EXPECT_TRUE(IsDisconnected(greet(60 * kMiB)));
  ExpectAlive(0);
}

TEST_F(ServerTest, FramesThatAreNoneEndTheConnectionOnly) {
  const auto send = [&](const std::vector<uint8_t>& bytes) {
    RawClient client(config_, 0);
    ASSERT_EQ(::send(client.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    ASSERT_EQ(::shutdown(client.fd(), SHUT_WR), 0);
    ExpectClosed(client);
  };
  const auto frame = [](uint32_t magic, uint32_t size, size_t payload) {
    std::vector<uint8_t> bytes(8 + payload, 0xA5);
    std::memcpy(bytes.data(), &magic, 4);
    std::memcpy(bytes.data() + 4, &size, 4);
    return bytes;
  };
  send({});
  send({1});
  send(frame(platform::kFrameMagic + 1, 4, 4));
  send(frame(platform::kFrameMagic, platform::kFramePayloadMax + 1, 0));
  send(frame(platform::kFrameMagic, platform::kFramePayloadMax, 1000));  // Truncated.
  send(frame(platform::kFrameMagic, 0, 0));
  send(frame(platform::kFrameMagic, 64, 64));
  std::mt19937_64 random(7);
  for (int i = 0; i < 50; ++i) {
    auto bytes = frame(platform::kFrameMagic, 200, 200);
    for (size_t k = 8; k < bytes.size(); ++k) bytes[k] = static_cast<uint8_t>(random());
    send(bytes);
  }
  ExpectAlive(0);
}

TEST_F(ServerTest, FlippedBitsInRequestsHarmNobody) {
  auto client = Connect(0);
  ASSERT_OK_AND_ASSIGN(const auto grant, client->RequestGrant(4096));
  const auto descriptor = Describe(0, grant.offset, 4096);
  const std::vector<uint8_t> good = client->BuildSeal(*descriptor, {.name = "x"});
  for (size_t i = 0; i < good.size(); i += 3) {
    auto bad = Connect(0);
    auto bytes = good;
    bytes[i] ^= static_cast<uint8_t>(1u << (i % 8));
    ASSERT_OK(platform::SendFrame(bad->fd(), bytes));
    ASSERT_EQ(::shutdown(bad->fd(), SHUT_WR), 0);
    ExpectClosed(*bad);
    bad->CloseSocket();  // The session stays: this process lives.
  }
  ASSERT_OK(client->Goodbye());
  EXPECT_EQ(directory::Lookup(*region_, "x").ValueOrDie(), std::nullopt);
  ExpectAlive(0);
  AwaitTrue([&] { return ReadStatistics(*region_, 0).objects == 0; });
}

TEST_F(ServerTest, WhatASessionMayNotSayEndsItsConnection) {
  const auto say = [&](Body type, const RawClient::BuildBody& body) {
    auto client = Connect(0);
    ASSERT_RAISES(Invalid, client->Call(type, body));
    ExpectClosed(*client);
  };
  say(Body::Welcome, [](auto& b) { return format::CreateWelcome(b).Union(); });
  say(Body::BindRequest, [](auto& b) { return format::CreateBindRequest(b).Union(); });
  say(Body::NodeHello, [](auto& b) { return format::CreateNodeHello(b).Union(); });
  say(Body::FlushPagesRequest,
      [](auto& b) { return format::CreateFlushPagesRequest(b).Union(); });
  ExpectAlive(0);
}

TEST_F(ServerTest, EmptyRequestsGetAnErrorAndNoMore) {
  auto client = Connect(0);
  ASSERT_RAISES(Invalid, client->Call(Body::SealRequest, [](auto& b) {
    return format::CreateSealRequest(b).Union();
  }));
  ASSERT_RAISES(Invalid, client->Call(Body::RetireRequest, [](auto& b) {
    return format::CreateRetireRequest(b).Union();
  }));
  ASSERT_RAISES(Invalid, client->Call(Body::KeepRequest, [](auto& b) {
    return format::CreateKeepRequest(b).Union();
  }));
  ASSERT_RAISES(Invalid, client->Call(Body::ReturnRequest, [](auto& b) {
    return format::CreateReturnRequest(b).Union();
  }));
  ASSERT_RAISES(Invalid, client->RequestGrant(0));
  ASSERT_RAISES(OutOfMemory, client->RequestGrant(~uint64_t{0}));
  ASSERT_OK(client->RequestGrant(4096));
  ASSERT_OK(client->Goodbye());
}

TEST_F(ServerTest, PeersAreCheckedToo) {
  AwaitAdmitted(*region_, 0, 1);
  const auto greet = [&](uint64_t cluster, uint32_t node, uint64_t more = 0,
                         uint64_t peer_epoch = 0) {
    RawClient peer(config_, 0);
    return Greet(&peer, cluster, node, EpochOf(1) + more, peer_epoch);
  };
  ASSERT_RAISES(Invalid, greet(config_.cluster_id + 1, 1));
  ASSERT_RAISES(Invalid, greet(config_.cluster_id, 0));
  ASSERT_RAISES(Invalid, greet(config_.cluster_id, 2));
  EXPECT_OK(greet(config_.cluster_id, 1, 0, EpochOf(0)));
  ASSERT_RAISES(Invalid, greet(config_.cluster_id, 1, 1));  // #5: another formatting
  ASSERT_RAISES(Invalid, greet(config_.cluster_id, 1, 0, EpochOf(0) + 1));
  RawClient peer(config_, 0);
  ASSERT_RAISES(Invalid, peer.Call(Body::BindRequest, [](auto& b) {
    return format::CreateBindRequest(b).Union();
  }));
  // It may bind no objects but its own: nobody would ever retire this one.
  RawClient known(config_, 0);
  ASSERT_OK(Greet(&known, config_.cluster_id, 1, EpochOf(1)));
  using Key = format::ObjectKey;
  for (const Key& key : {Key(9999, 0, 77), Key(0, 0, 77), Key(1, 200, 77)}) {
    ASSERT_RAISES(Invalid, known.Call(Body::BindRequest, [&](auto& b) {
      return format::CreateBindRequestDirect(b, "taxi", &key, true).Union();
    }));
  }
  auto client = Connect(0);
  ASSERT_OK_AND_ASSIGN(const auto grant, client->RequestGrant(4096));
  EXPECT_OK(client->Seal(*Describe(0, grant.offset, 4096), {.name = "taxi"}));
}

/// The reply of the first was lost with the daemon that did it.
TEST_F(ServerTest, ARepeatedRemovalOfAPeerIsDone) {
  auto client = Connect(0);
  ASSERT_OK_AND_ASSIGN(const auto grant, client->RequestGrant(4096));
  ASSERT_OK_AND_ASSIGN(const auto sealed,
                       client->Seal(*Describe(0, grant.offset, 4096), {.name = "taxi"}));
  RawClient peer(config_, 0);
  ASSERT_OK(Greet(&peer, config_.cluster_id, 1, EpochOf(1)));
  const format::ObjectKey key = format::ToKey(sealed.object);
  std::vector<uint8_t> request = peer.Build(Body::RetireRequest, [&](auto& b) {
    return format::CreateRetireRequestDirect(b, &key, "taxi", true, /*remover=*/7)
        .Union();
  });
  ASSERT_OK(peer.Exchange(request));
  format::MarkRepeated(&request);
  EXPECT_OK(peer.Exchange(request));
}

TEST_F(ServerTest, ARepeatedRequestIsDoneOnce) {
  auto client = Connect(0);
  const auto request = client->Build(Body::LeasePageRequest, [](auto& builder) {
    return format::CreateLeasePageRequest(builder).Union();
  });
  ASSERT_OK_AND_ASSIGN(const RawReply first, client->Exchange(request));
  ASSERT_OK_AND_ASSIGN(const RawReply second, client->Exchange(request));
  EXPECT_EQ(first.payload(), second.payload());
  ASSERT_OK(client->Goodbye());
}

TEST_F(ServerTest, AClientThatDoesNotReadIsDropped) {
  auto client = Connect(0);
  arrow::Status status;
  while (status.ok()) {
    status = platform::SendFrame(client->fd(),
                                 client->Build(Body::RetireRequest, [](auto& builder) {
                                   return format::CreateRetireRequest(builder).Union();
                                 }));
  }
  ExpectAlive(0);
}

TEST_F(ServerTest, HundredsOfSessions) {
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 300; ++i) clients.push_back(Connect(1));
  AwaitTrue([&] { return ReadStatistics(*region_, 1).sessions == 300; });
  for (auto& client : clients) ASSERT_OK(client->Goodbye());
  ExpectAllBack(1);
}

TEST_F(ServerTest, AClosedSocketAloneEndsNothing) {
  auto client = Connect(0);
  ASSERT_OK_AND_ASSIGN(const auto grant, client->RequestGrant(kMiB));
  client->CloseSocket();
  ExpectAlive(0);  // The daemon has seen the end of the stream before.
  AwaitTrue([&] {
    const auto statistics = ReadStatistics(*region_, 0);
    return statistics.sessions == 1 && statistics.used_bytes == grant.size_bytes;
  });
}

TEST_F(ServerTest, ASecondDaemonOfANodeIsRefused) {
  const arrow::Status status = Server::Start({config_, {0}, true}).status();
  ASSERT_RAISES(AlreadyExists, status);
  EXPECT_NE(status.message().find(std::to_string(platform::CurrentProcessId())),
            std::string::npos)
      << status.ToString();
  ExpectAlive(0);
}

TEST_F(ServerTest, AShutdownRequestLeavesTheMemoryAndNothingElse) {
  RawClient client(config_, 1);
  ASSERT_OK(client.Call(Body::ShutdownRequest, [](auto& builder) {
    return format::CreateShutdownRequest(builder).Union();
  }));
  ASSERT_OK(servers_[1]->Join());
  EXPECT_FALSE(std::filesystem::exists(config_.socket_path({1})));
  EXPECT_FALSE(std::filesystem::exists(config_.lock_path({1})));
  EXPECT_TRUE(std::filesystem::exists(config_.segment_folder({1})));
  EXPECT_EQ(region::ReadIncarnation(*region_->segment({1})).ValueOrDie().state,
            static_cast<uint32_t>(format::NodeState::kDown));
  ExpectAlive(0);
}

TEST_F(ServerTest, ARequestWaitsForAPeerThatStarts) {
  auto client = Connect(0);
  ASSERT_OK(servers_[1]->Stop());
  servers_[1].reset();
  const format::ObjectKey key(1, 0, 77);
  ASSERT_OK(platform::SendFrame(
      client->fd(), client->Build(Body::RetireRequest, [&](auto& builder) {
        return format::CreateRetireRequest(builder, &key).Union();
      })));
  ExpectAlive(0);  // It waits without holding up anybody.
  servers_[1] = std::make_unique<ServerThread>(config_, 1);
  const arrow::Status status = client->Receive().status();
  EXPECT_TRUE(IsStaleGeneration(status)) << status.ToString();
  ASSERT_OK(client->Goodbye());
}

TEST_F(ServerTest, NodesAreAdmittedAndBeat) {
  for (uint32_t home = 0; home < 2; ++home) {
    const region::Segment& segment = *region_->segment({home});
    for (uint32_t node = 0; node < 2; ++node) {
      const uint64_t* line =
          segment.ControlLine(segment.layout().admit + node * format::kLineBytes);
      AwaitTrue([&] { return region::LoadControlLine(segment, line)[0] != 0; });
    }
    const uint64_t* beat = segment.NodeLine(format::NodeLine::kHeartbeat);
    const uint64_t before = region::LoadControlLine(segment, beat)[0];
    AwaitTrue([&] { return region::LoadControlLine(segment, beat)[0] > before; });
  }
}

}  // namespace
}  // namespace sheaf::daemon
