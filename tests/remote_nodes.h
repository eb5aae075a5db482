// Three nodes, and processes that build in one another's memory.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <gtest/gtest.h>

#include "sheaf/status.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/peer.h"
#include "testing/test_cluster.h"
#include "tests/two_nodes.h"

namespace sheaf::testing {

/// A process that can be killed: `connect NODE CLUSTER`, then `build NODE ROWS FIRST` in
/// a node's memory, `put NODE NAME` and `share NODE` of what was built last, `drop`.
inline std::string AnswerAsBuilder(const std::string& request) {
  static auto* store = new std::shared_ptr<Store>();
  static auto* built = new std::shared_ptr<arrow::Table>();
  std::istringstream words(request);
  std::string verb;
  uint32_t node = 0;
  words >> verb >> node;
  if (verb == "connect") {
    std::string cluster;
    words >> cluster;
    auto connected = Store::Connect({cluster, node});
    if (connected.ok()) *store = *connected;
    return connected.status().ToString();
  }
  if (verb == "build") {
    int64_t rows = 0;
    int64_t first = 0;
    words >> rows >> first;
    auto pool = (*store)->memory_pool(node);
    if (pool.ok()) *built = MakeTable(rows, first, *pool);
    return pool.status().ToString();
  }
  if (verb == "share") {
    return (*store)->Share(**built, {.on = node}).status().ToString();
  }
  if (verb == "put") {
    std::string name;
    words >> name;
    const auto put = (*store)->Put(name, **built, {.on = node});
    if (!put.ok()) return put.status().ToString();
    return put->bytes_copied == 0 ? "OK" : "copied";
  }
  return "unknown request";
}

class RemoteNodes : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr uint32_t kNodesOfCluster = 3;

  void SetUp() override { StartCluster(""); }

  void StartCluster(const std::string& daemon_plants) {
    TestClusterOptions options;
    options.nodes = kNodesOfCluster;
    options.config_toml = std::string(
                              "segment_size = \"64MiB\"\nslots_max = 4096\n"
                              "records_size = \"16MiB\"\nheartbeat_ms = 10\n"
                              "suspect_after_ms = 1500\nsuspect_samples = 4\n") +
                          GetParam();
    options.daemon_path = SHEAFD_BINARY;
    options.daemon_plants = daemon_plants;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    for (uint32_t k = 0; k < kNodesOfCluster; ++k) AwaitState(0, k, "up");
    for (uint32_t k = 0; k < kNodesOfCluster; ++k) free_at_start_.push_back(Free(k));
  }

  std::shared_ptr<Store> Connect(uint32_t node) {
    return cluster_->Connect(node).ValueOrDie();
  }
  std::unique_ptr<Peer> StartBuilder(uint32_t node) {
    auto peer = Peer::Start({}).ValueOrDie();
    const std::string connect = "connect " + std::to_string(node) + " ";
    EXPECT_EQ(peer->Ask(connect + cluster_->name()).ValueOrDie(), "OK");
    return peer;
  }
  static void Ask(Peer& peer, const std::string& request) {
    EXPECT_EQ(peer.Ask(request).ValueOrDie(), "OK") << request;
  }

  uint64_t Free(uint32_t node) {
    return Connect(node)->Nodes().ValueOrDie()[node].free_bytes;
  }
  void ExpectAllBack() {
    for (uint32_t k = 0; k < kNodesOfCluster; ++k) {
      EXPECT_TRUE(Eventually([&] { return Free(k) == free_at_start_[k]; }))
          << "node " << k << ": " << Free(k) << " of " << free_at_start_[k];
      EXPECT_TRUE(Eventually([&] { return Sessions(k) == 1; }))  // the one that looks
          << "node " << k << ": " << Sessions(k) << " sessions";
    }
  }
  uint32_t Sessions(uint32_t node) {
    return Connect(node)->Nodes().ValueOrDie()[node].sessions;
  }
  void AwaitState(uint32_t seen_by, uint32_t node, const std::string& state) {
    const auto store = Connect(seen_by);
    EXPECT_TRUE(Eventually([&] {
      return store->Nodes().ValueOrDie()[node].state == state;
    })) << store->Nodes().ValueOrDie()[node].state;
  }
  /// Every node reads what was put.
  void ExpectEverywhere(const std::string& name, const arrow::Table& expected) {
    for (uint32_t k = 0; k < kNodesOfCluster; ++k) {
      ASSERT_OK_AND_ASSIGN(const auto opened, Connect(k)->Get(name));
      EXPECT_TRUE(opened->Equals(expected)) << name << " from node " << k;
    }
  }
  void KillAndRestart(uint32_t node) {
    ASSERT_OK(cluster_->KillDaemon(node));
    ASSERT_OK(cluster_->StartMissing());
  }

  std::unique_ptr<TestCluster> cluster_;
  std::vector<uint64_t> free_at_start_;
};

inline auto EveryRemoteBackend() {
  return ::testing::Values("", "coherence = \"software\"\n", "backend = \"sim\"\n",
                           "backend = \"sim\"\n[sim]\nchaos = true\n");
}
inline std::string RemoteBackendName(
    const ::testing::TestParamInfo<const char*>& backend) {
  const std::string text = backend.param;
  if (text == "backend = \"sim\"\n") return "SimStale";
  return BackendName(backend);
}

}  // namespace sheaf::testing
