// A cluster that other users of this host may use, with some tables in it.

#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <gtest/gtest.h>

#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "tests/member.h"
#include "tests/seeded_table.h"

namespace sheaf::testing {

constexpr int kRows = 500;

inline arrow::Status OpenAndCheck(const std::shared_ptr<Store>& store,
                                  const std::string& name) {
  ARROW_ASSIGN_OR_RAISE(const auto table, store->Get(name));
  ARROW_RETURN_NOT_OK(CheckSeededTable(*table));
  return store->Verify(name);
}

/// \brief "t" is of node 0, "u" of node 1. Members come to it by themselves: the
/// environment names it.
class GroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can start processes of other users";
  }
  void TearDown() override { ::unsetenv("SHEAF_CLUSTER"); }

  void StartCluster(const std::string& keys) {
    TestClusterOptions options;
    options.config_toml = "segment_size = \"64MiB\"\nlease_pages_max = 64\n" + keys;
    options.others_may_enter = true;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ::setenv("SHEAF_CLUSTER", cluster_->name().c_str(), 1);
    ASSERT_OK_AND_ASSIGN(node0_, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(node1_, cluster_->Connect(1));
    ASSERT_OK(node0_->Put("t", *SeededTable(1, kRows), {.checksum = true}));
    ASSERT_OK(node1_->Put("u", *SeededTable(2, kRows), {.checksum = true}));
  }
  void StartForReaders(const std::string& keys = "") {
    StartCluster("group = \"" + std::to_string(kReaders) + "\"\n" + keys);
  }
  void StartForWriters(const std::string& keys = "") {
    StartCluster("group_write = \"" + std::to_string(kWriters) + "\"\n" + keys);
  }
  uint32_t Objects(uint32_t node) { return node1_->Nodes().ValueOrDie()[node].objects; }
  bool ComeTo(uint32_t node, uint32_t objects) {
    return Eventually([&] { return Objects(node) == objects; });
  }
  // What was removed before it is certainly looked at: a table that nobody reads went.
  void AwaitReclaim(uint32_t node) {
    const auto& store = node == 0 ? node0_ : node1_;
    const uint32_t before = Objects(node);
    ASSERT_OK(store->Put("unread", *SeededTable(3, 10)));
    ASSERT_OK(store->Remove("unread"));
    ASSERT_TRUE(ComeTo(node, before));
  }

  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> node0_;
  std::shared_ptr<Store> node1_;
};

}  // namespace sheaf::testing
