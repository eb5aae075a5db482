// No fault point is a dead letter: two daemons, and the next two, pass all of theirs.
// (kill_matrix_test counts those of the client.)

#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/daemon_faults.h"
#include "base/fault_info.h"
#include "base/fault_point.h"
#include "daemon/log.h"
#include "daemon/test_client.h"
#include "daemon/test_server.h"
#include "format/message.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "tests/seeded_table.h"

namespace sheaf::testing {
namespace {

class FaultPointsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    daemon::SetLogLevel(daemon::LogLevel::kOff);
    ::setenv("SHEAF_RUNTIME_DIR", memory_.path().c_str(), 1);
    config_ = memory_.Config();
    config_.nodes = 3;
    config_.coherence = region::Coherence::kSoftware;
    config_.segment_size_bytes = uint64_t{16} << 20;
    config_.records_size_bytes = uint64_t{1} << 20;
    MakeCluster();
    std::string all;
    for (const FaultPointInfo& point : kDaemonFaultPoints) {
      all += (all.empty() ? "" : ",") + std::string(point.name) + "=kill@999999999";
    }
    ASSERT_OK(ArmFaults(all));
  }
  void TearDown() override {
    EXPECT_OK(ArmFaults(""));
    ::unsetenv("SHEAF_RUNTIME_DIR");
  }

  void MakeCluster() {
    config_.runtime_folder = region::RuntimeRoot() + "/" + config_.name;
    std::filesystem::create_directories(config_.runtime_folder);
    std::filesystem::permissions(config_.runtime_folder,
                                 std::filesystem::perms::owner_all);
    ASSERT_OK(region::PrepareMemoryFolder(config_));
    std::ofstream(region::ClusterFilePath(config_.name)) << config_.ToToml();
  }
  void LiveWithRings();
  void Live();
  void LeaveAndComeBack();
  void UseBothHomes(const std::shared_ptr<Store>& node0,
                    const std::shared_ptr<Store>& node1);

  region::TestMemory memory_;
  region::ClusterConfig config_;
};

void FaultPointsTest::Live() {
  const daemon::ServerThread first(config_, 0);
  const daemon::ServerThread second(config_, 1);
  const daemon::ServerThread third(config_, 2);
  daemon::RawClient client(config_, 0);
  ASSERT_OK(client.Hello());
  ASSERT_OK(client.Call(format::Body::LeasePageRequest, [](auto& builder) {
    return format::CreateLeasePageRequest(builder).Union();
  }));
  ASSERT_OK(client.RequestGrant(1));  // It goes with the session.
  // So does one at another home, once what may be dirty of it is settled.
  ASSERT_OK(client.Call(format::Body::HomeRequest, [](auto& builder) {
    flatbuffers::FlatBufferBuilder inner;
    const auto grant = format::CreateGrantRequest(inner, 1).Union();
    const auto message =
        format::FinishRequest(&inner, 1, format::Body::GrantRequest, grant);
    return format::CreateHomeRequestDirect(builder, 1, &message).Union();
  }));
  ASSERT_OK(client.Goodbye());
  ASSERT_OK_AND_ASSIGN(const auto node0, Store::Connect({config_.name, 0}));
  ASSERT_OK_AND_ASSIGN(const auto node1, Store::Connect({config_.name, 1}));
  UseBothHomes(node0, node1);
  ASSERT_TRUE(Eventually([&] { return node0->Nodes().ValueOrDie()[1].sessions == 1; }));
  // For the next life: an object of node 1 that refers to one of node 0.
  const PutOptions replacing{.replace = true, .expected_version = {}};
  ASSERT_OK(node0->Put("left", *SeededTable(4, 10), replacing));
  ASSERT_OK_AND_ASSIGN(const auto left, node1->Get("left"));
  ASSERT_OK(node1->Put("referring", *left, replacing));
}

void FaultPointsTest::UseBothHomes(const std::shared_ptr<Store>& node0,
                                   const std::shared_ptr<Store>& node1) {
  ASSERT_OK(node0->Put("t", *SeededTable(1, 10)));
  ASSERT_OK_AND_ASSIGN(auto opened, node1->Get("t"));
  ASSERT_OK(node1->Put("foreign", *opened));
  ASSERT_OK(
      node1->Put("t", *SeededTable(2, 10), {.replace = true, .expected_version = {}}));
  ASSERT_OK(node1->Remove("foreign"));
  ASSERT_OK_AND_ASSIGN(const PutReceipt shared, node0->Share(*SeededTable(3, 10)));
  ASSERT_OK(node1->Keep(shared.handle));
  ASSERT_OK(node1->Drop(shared.handle));
  // Removed, leased by no home any more, and shared all the same while it is read.
  ASSERT_TRUE(Eventually([&] { return node1->Nodes().ValueOrDie()[1].objects == 1; }));
  ASSERT_OK_AND_ASSIGN(const PutReceipt late, node1->Put("late", *opened));
  EXPECT_EQ(late.bytes_copied, 0);
  ASSERT_OK(node1->Remove("late"));
  const auto objects_of_node0 = [&] { return node0->Nodes().ValueOrDie()[0].objects; };
  // What is still leased is looked for again and again, by then with the others' help.
  ASSERT_TRUE(Eventually([&] { return objects_of_node0() == 1; }));
  opened.reset();
  ASSERT_TRUE(Eventually([&] { return objects_of_node0() == 0; }));
  ASSERT_OK(node1->Remove("t"));
}

// Each daemon goes on with what is there. One stops, is withdrawn and forgotten by the
// others, and comes back.
void FaultPointsTest::LeaveAndComeBack() {
  config_.heartbeat_ms = 10;
  config_.suspect_samples = 2;
  config_.suspect_after_ms = 100;
  const daemon::ServerThread first(config_, 0);
  auto second = std::make_unique<daemon::ServerThread>(config_, 1);
  const daemon::ServerThread third(config_, 2);
  ASSERT_OK_AND_ASSIGN(const auto node0, Store::Connect({config_.name, 0}));
  const auto incarnation = [&] { return node0->Nodes().ValueOrDie()[1].incarnation; };
  const uint64_t before = incarnation();
  second.reset();
  // Withdrawn first; another node may be slow, and seem silent as well.
  ASSERT_TRUE(Eventually([&] { return node0->ForgetNode(1).ok(); }));
  second = std::make_unique<daemon::ServerThread>(config_, 1);
  EXPECT_TRUE(Eventually([&] { return incarnation() > before; }));
}

// Until a daemon has sent so much to another that it waits for room.
void FaultPointsTest::LiveWithRings() {
  config_.name = "rings";
  config_.memory_folder = memory_.path() + "/rings_memory";
  config_.messages = region::Messages::kRings;
  MakeCluster();
  auto first = std::make_unique<daemon::ServerThread>(config_, 0);
  auto second = std::make_unique<daemon::ServerThread>(config_, 1);
  ASSERT_OK_AND_ASSIGN(auto node1, Store::Connect({config_.name, 1}));
  const auto passes_of = [](std::string_view name) {
    for (const ArmedFault& fault : ArmedFaults()) {
      if (fault.name == name) return fault.passes;
    }
    return uint64_t{0};
  };
  const auto table = SeededTable(1, 1);
  while (passes_of("daemon.ring.after-position") == 0) {
    ASSERT_OK(node1->Put("t", *table));
    ASSERT_OK(node1->Remove("t"));
  }
  node1.reset();
  second.reset();
  first.reset();
  EXPECT_OK(region::RemoveMemoryFolder(config_));
}

TEST_F(FaultPointsTest, EveryPointOfTheDaemonIsPassed) {
  Live();
  LeaveAndComeBack();
  LiveWithRings();
  for (const ArmedFault& fault : ArmedFaults()) {
    // Readers are of another user, in another process: group_test has them pass there.
    if (std::string_view(fault.name).starts_with("daemon.reader-lease.")) continue;
    EXPECT_GT(fault.passes, 0U) << fault.name << " was never passed";
  }
}

}  // namespace
}  // namespace sheaf::testing
