// Greetings of peers whose memory is not mapped yet: what fits is known later.

#include <cstdint>

#include <arrow/status.h>
#include <gtest/gtest.h>

#include "daemon/log.h"
#include "daemon/test_client.h"
#include "daemon/test_server.h"
#include "format/message.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/status.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using format::Body;

arrow::Status Greet(RawClient* peer, uint64_t cluster, uint64_t format_epoch) {
  return peer
      ->Call(Body::NodeHello,
             [&](auto& b) {
               return format::CreateNodeHello(b, format::kMessageVersion, cluster,
                                              /*node=*/1, /*incarnation=*/1, format_epoch)
                   .Union();
             })
      .status();
}

arrow::Status AskToFlush(RawClient* peer) {
  return peer
      ->Call(Body::FlushPagesRequest,
             [](auto& b) { return format::CreateFlushPagesRequest(b).Union(); })
      .status();
}

// #5: it was checked at the greeting alone.
TEST(PeerGreeting, OneOfAnotherFormattingIsNotHeardOnceTheMemoryIsMapped) {
  SetLogLevel(LogLevel::kOff);
  region::TestMemory memory;
  const region::ClusterConfig config = memory.Config();
  ASSERT_OK(region::PrepareMemoryFolder(config));
  ServerThread server(config, 0);
  constexpr uint64_t kFormerEpoch = 77;
  RawClient peer(config, 0);
  ASSERT_OK(Greet(&peer, config.cluster_id, kFormerEpoch));
  EXPECT_TRUE(IsNodeLost(AskToFlush(&peer)));  // Nobody honours it yet, but it is heard.
  ASSERT_OK(region::FormatSegment(config, {1}));
  AwaitTrue([&] { return AskToFlush(&peer).IsInvalid(); });  // Once it is mapped.
  EXPECT_TRUE(IsDisconnected(platform::ReceiveFrame(peer.fd()).status()));
  RawClient again(config, 0);
  EXPECT_RAISES(Invalid, Greet(&again, config.cluster_id, kFormerEpoch));
}

}  // namespace
}  // namespace sheaf::daemon
