// Greetings that name a session: whose it is, and all that it holds.

#include <sys/inotify.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gtest/gtest.h>

#include "daemon/log.h"
#include "daemon/test_client.h"
#include "daemon/test_node.h"
#include "daemon/test_server.h"
#include "format/message.h"
#include "platform/cache.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using format::Body;

constexpr uint64_t kMiB = uint64_t{1} << 20;

class SessionGoesOnTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(LogLevel::kOff);
    config_ = memory_.Config();
    config_.segment_size_bytes = 256 * kMiB;
    ASSERT_OK(region::PrepareMemoryFolder(config_));
    server_ = std::make_unique<ServerThread>(config_, 0);
    client_ = std::make_unique<RawClient>(config_, 0);
    ASSERT_OK(client_->Hello());
  }

  // Over a connection that is new.
  arrow::Status GoOn(RawClient* client, uint64_t session, uint64_t format_epoch = 0) {
    ARROW_ASSIGN_OR_RAISE(const auto pidfd,
                          platform::OpenPidFd(platform::CurrentProcessId()));
    const int fds[] = {pidfd.get()};
    return client
        ->Call(
            Body::Hello,
            [&](auto& builder) {
              return format::CreateHelloDirect(
                         builder, format::kMessageVersion, config_.cluster_id,
                         platform::CurrentProcessId(), "test", "", session,
                         /*grants=*/nullptr, /*leases=*/nullptr, format_epoch)
                  .Union();
            },
            fds)
        .status();
  }

  region::TestMemory memory_;
  region::TestMemory other_memory_;
  region::ClusterConfig config_;
  std::unique_ptr<ServerThread> server_;
  std::unique_ptr<RawClient> client_;
};

/// #5: what it holds is of a former life of the memory; numbers begin anew in each.
TEST_F(SessionGoesOnTest, NobodyGoesOnOverMemoryThatWasGivenUp) {
  client_->CloseSocket();
  ASSERT_OK_AND_ASSIGN(
      const auto region,
      region::Region::Attach(config_, {{0}, region::Role::kClient, true}));
  const uint64_t epoch = region->own_segment().header().format_epoch;
  RawClient stale(config_, 0);
  const arrow::Status refused = GoOn(&stale, client_->session(), epoch - 1);
  EXPECT_TRUE(refused.IsInvalid());
  EXPECT_NE(refused.message().find("it was given up"), std::string::npos) << refused;
  RawClient again(config_, 0);
  EXPECT_OK(GoOn(&again, client_->session(), epoch));
}

/// Its grants would come back while it writes there.
TEST_F(SessionGoesOnTest, NobodyGoesOnWithAnotherProcessSession) {
  RawClient& client = *client_;
  ASSERT_OK_AND_ASSIGN(const auto grant, client.RequestGrant(4096));
  const pid_t child = ::fork();
  if (child == 0) {
    RawClient thief(config_, 0);
    const auto pidfd = platform::OpenPidFd(platform::CurrentProcessId()).ValueOrDie();
    const int fds[] = {pidfd.get()};
    const auto welcome = thief.Call(
        Body::Hello,
        [&](auto& builder) {
          return format::CreateHelloDirect(
                     builder, format::kMessageVersion, config_.cluster_id,
                     platform::CurrentProcessId(), "thief", "", client.session())
              .Union();
        },
        fds);
    ::_exit(welcome.ok() ? 1 : 0);
  }
  int exit_status = -1;
  ASSERT_EQ(::waitpid(child, &exit_status, 0), child);
  EXPECT_EQ(exit_status, 0);
  ASSERT_OK(client.ReturnGrant(grant));  // still there
  ASSERT_OK(client.Goodbye());
}

/// A session may hold every grant there is, and must name them all to go on.
TEST_F(SessionGoesOnTest, ASessionWithManyGrantsGoesOn) {
  RawClient& client = *client_;
  client.CloseSocket();
  const std::vector<format::GrantKey> grants(config_.grants_max(), {1, 0, 1});
  RawClient again(config_, 0);
  const auto pidfd = platform::OpenPidFd(platform::CurrentProcessId()).ValueOrDie();
  const int fds[] = {pidfd.get()};
  const auto welcome = again.Call(
      Body::Hello,
      [&](auto& builder) {
        return format::CreateHelloDirect(builder, format::kMessageVersion,
                                         config_.cluster_id, platform::CurrentProcessId(),
                                         std::string(4096, 'x').c_str(), "",
                                         client.session(), &grants)
            .Union();
      },
      fds);
  ASSERT_OK(welcome);
  EXPECT_EQ(welcome->As<format::Welcome>().session(), client.session());
}

/// The reply to what was under way would come over the new connection, where nobody knows
/// yet whether it is asked for: the session took one of two grants for the other's
/// repetition, and never knew of it.
TEST_F(SessionGoesOnTest, AGrantThatWasUnderWayIsToldOnce) {
  config_ = other_memory_.Config();
  config_.coherence = region::Coherence::kSoftware;
  config_.settle_class = platform::SettleClass::kPosted;
  config_.posted_delay_us = 20000;  // so that the grant waits for the GRACE of a table
  ASSERT_OK(region::PrepareMemoryFolder(config_));
  ServerThread server(config_, 0);
  ASSERT_OK_AND_ASSIGN(
      const auto region,
      region::Region::Attach(config_, {{0}, region::Role::kClient, true}));
  RawClient client(config_, 0);
  ASSERT_OK(client.Hello());
  ASSERT_OK_AND_ASSIGN(const auto all, client.RequestGrant(config_.segment_size_bytes));
  const auto descriptor = DescribeRanges(*region, {{{{0}, all.offset}, all.size_bytes}});
  ASSERT_OK_AND_ASSIGN(const auto sealed, client.Seal(*descriptor, {}));
  ASSERT_OK(client.ReturnGrant(all));
  ASSERT_OK(client.Retire(sealed.object));
  auto request = client.Build(Body::GrantRequest, [](auto& builder) {
    return format::CreateGrantRequest(builder, 4096).Union();
  });
  ASSERT_OK(platform::SendFrame(client.fd(), request));
  // Handled after it: whatever is answered first, the daemon knows of the request.
  static_cast<void>(client.Call(Body::RetireRequest, [](auto& builder) {
    return format::CreateRetireRequest(builder).Union();
  }));

  RawClient again(config_, 0);
  again.SkipIds(100);
  ASSERT_OK(GoOn(&again, client.session()));
  AwaitTrue([&] { return ReadStatistics(*region, 0).objects == 0; });
  format::MarkRepeated(&request);
  ASSERT_OK_AND_ASSIGN(const RawReply reply, again.Exchange(request));
  const auto& granted = reply.As<format::GrantReply>();
  const RawClient::Grant grant{{granted.grant(), 0, granted.generation()}, 0, 0};
  ASSERT_OK(again.ReturnGrant(grant));
  // What a grant that nobody knows of would keep.
  EXPECT_EQ(ReadStatistics(*region, 0).used_bytes, 0U);
}

/// A lock that is still held is looked at now and then, however often the session came
/// and went meanwhile.
TEST_F(SessionGoesOnTest, WhoComesAndGoesIsNotLookedAtMoreOften) {
  constexpr auto kLookPeriod = std::chrono::milliseconds(100);
  const auto say_goodbye = [](RawClient* client) {  // and keep the lock
    return client->Call(Body::Goodbye, [](auto& builder) {
      return format::CreateGoodbye(builder).Union();
    });
  };
  ASSERT_OK(say_goodbye(client_.get()));
  for (int i = 0; i < 100; ++i) {
    RawClient again(config_, 0);
    ASSERT_OK(GoOn(&again, client_->session()));
    ASSERT_OK(say_goodbye(&again));
  }
  const std::string lock = config_.session_lock_folder({0}) + "/" +
                           std::to_string(client_->session()) + ".lock";
  const platform::UniqueFd looks(::inotify_init1(IN_CLOEXEC));
  const auto begin = platform::BootTime();
  ASSERT_GE(::inotify_add_watch(looks.get(), lock.c_str(), IN_OPEN), 0);
  constexpr int kLooks = 8;
  for (int i = 0; i < kLooks; ++i) {
    struct inotify_event look = {};
    ASSERT_EQ(::read(looks.get(), &look, sizeof(look)), ssize_t{sizeof(look)});
  }
  EXPECT_GE(platform::BootTime() - begin, (kLooks - 1) * kLookPeriod / 2);
}

/// It let go of its lock, as who says goodbye does, and the connection broke before.
TEST_F(SessionGoesOnTest, AGoodbyeThatIsLostEndsTheSession) {
  const std::string lock = config_.session_lock_folder({0}) + "/" +
                           std::to_string(client_->session()) + ".lock";
  client_->CloseSocket();
  ASSERT_OK(RawClient(config_, 0).Hello());  // the daemon has seen the end of the other
  EXPECT_TRUE(std::filesystem::exists(lock));
  client_->ReleaseLock();
  AwaitTrue([&] { return !std::filesystem::exists(lock); });
}

}  // namespace
}  // namespace sheaf::daemon
