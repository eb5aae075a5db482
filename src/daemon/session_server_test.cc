// Whoever may connect, and what it costs the daemon.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "daemon/log.h"
#include "daemon/test_client.h"
#include "daemon/test_server.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

/// A reader that is refused again and again would fill the memory that its log lies in.
TEST(SessionServer, LogsTenRefusalsInASecond) {
  constexpr int kPeers = 300;
  const region::TestMemory memory;
  const region::ClusterConfig config = memory.Config();
  SetLogLevel(LogLevel::kOff);
  ASSERT_OK(region::PrepareMemoryFolder(config));
  const ServerThread server(config, 0);
  SetLogLevel(LogLevel::kWarning);
  ::testing::internal::CaptureStderr();
  const auto begin = platform::BootTime();
  for (int i = 0; i < kPeers; ++i) {
    EXPECT_FALSE(RawClient(config, 0).ReturnGrant({}).ok());  // before any greeting
  }
  const auto seconds = (platform::BootTime() - begin) / std::chrono::seconds(1) + 1;
  SetLogLevel(LogLevel::kOff);
  const std::string log = ::testing::internal::GetCapturedStderr();
  int64_t lines = 0;
  for (size_t at = log.find("a peer was refused"); at != std::string::npos;
       at = log.find("a peer was refused", at + 1)) {
    ++lines;
  }
  EXPECT_GE(lines, 10);
  EXPECT_LE(lines, 10 * (seconds + 1));
}

}  // namespace
}  // namespace sheaf::daemon
