// Two nodes whose daemons die, stop and come back under the processes that use their
// tables.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/array/array_primitive.h>
#include <arrow/builder.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"

namespace sheaf::testing {

inline std::shared_ptr<arrow::Table> MakeTable(
    int64_t rows, int64_t first, arrow::MemoryPool* pool = arrow::default_memory_pool()) {
  arrow::Int64Builder ids(pool);
  for (int64_t i = 0; i < rows; ++i) SHEAF_CHECK(ids.Append(first + i).ok());
  return arrow::Table::Make(arrow::schema({arrow::field("id", arrow::int64())}),
                            {ids.Finish().ValueOrDie()}, rows);
}

// A process that can be killed: connects to node 0 and holds what it got and built.
inline std::string AnswerAsHolder(const std::string& request) {
  static auto* store = new std::shared_ptr<Store>();
  static auto* tables = new std::vector<std::shared_ptr<arrow::Table>>();
  const size_t space = request.find(' ');
  const std::string verb = request.substr(0, space);
  const std::string rest = space == std::string::npos ? "" : request.substr(space + 1);
  if (verb.starts_with("connect")) {
    auto connected = Store::Connect({rest, verb == "connect1" ? 1U : 0U});
    if (connected.ok()) *store = *connected;
    return connected.status().ToString();
  }
  if (verb == "hold") {
    tables->push_back(MakeTable(100'000, 0, (*store)->memory_pool()));
    if (auto shared = (*store)->Share(*tables->back()); !shared.ok()) {
      return shared.status().ToString();
    }
    auto opened = (*store)->Get(rest);
    if (opened.ok()) tables->push_back(*opened);
    return opened.status().ToString();
  }
  if (verb == "put") return (*store)->Put(rest, *MakeTable(1000, 7)).status().ToString();
  if (verb == "reshare") return (*store)->Put(rest, *tables->back()).status().ToString();
  return "unknown request";
}

class TwoNodes : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    TestClusterOptions options;
    options.config_toml = std::string(
                              "segment_size = \"64MiB\"\nslots_max = 4096\n"
                              "records_size = \"16MiB\"\nheartbeat_ms = 10\n"
                              "suspect_after_ms = 1500\nsuspect_samples = 4\n") +
                          GetParam();
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    for (const uint32_t node : {0U, 1U}) free_at_start_.push_back(Free(node));
  }

  uint64_t Free(uint32_t node) {
    auto store = cluster_->Connect(node).ValueOrDie();
    return store->Nodes().ValueOrDie()[node].free_bytes;
  }
  // Also of this process: stores must be gone.
  void ExpectAllBack() {
    for (const uint32_t node : {0U, 1U}) {
      EXPECT_TRUE(Eventually([&] { return Free(node) == free_at_start_[node]; }))
          << "node " << node << ": " << Free(node) << " of " << free_at_start_[node];
    }
  }
  void KillAndRestart(uint32_t node) {
    ASSERT_OK(cluster_->KillDaemon(node));
    ASSERT_OK(cluster_->StartMissing());
  }

  // As node 0 sees it.
  void AwaitState(const std::shared_ptr<Store>& store, uint32_t node,
                  const std::string& state) {
    EXPECT_TRUE(Eventually([&] {
      return store->Nodes().ValueOrDie()[node].state == state;
    })) << store->Nodes().ValueOrDie()[node].state;
  }

  std::unique_ptr<TestCluster> cluster_;
  std::vector<uint64_t> free_at_start_;
};

inline auto EveryBackend() {
  return ::testing::Values(
      "", "coherence = \"software\"\n", "backend = \"sim\"\n[sim]\nchaos = true\n",
      "messages = \"rings\"\n", "messages = \"rings\"\nbackend = \"sim\"\n",
      "messages = \"rings\"\nbackend = \"sim\"\n[sim]\nchaos = true\n");
}
inline std::string BackendName(const ::testing::TestParamInfo<const char*>& backend) {
  const std::string text = backend.param;
  const auto has = [&](const char* word) { return text.find(word) != std::string::npos; };
  std::string name = has("sim") ? "Sim" : "Shm";
  if (has("software")) name += "Software";
  if (has("chaos")) name += "Chaos";
  return has("rings") ? name + "Rings" : name;
}

}  // namespace sheaf::testing
