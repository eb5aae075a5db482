// What a forked child does with what it inherited: it may read and drop it, and connect.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include <arrow/builder.h>
#include <arrow/memory_pool.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/math.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"

namespace sheaf::testing {
namespace {

using arrow::Table;

// `rows` int64 values from `first` on, and as many strings.
std::shared_ptr<Table> MakeTable(int64_t rows, int64_t first = 0,
                                 arrow::MemoryPool* pool = arrow::default_memory_pool()) {
  arrow::Int64Builder ids(pool);
  arrow::StringBuilder names(pool);
  for (int64_t i = 0; i < rows; ++i) {
    SHEAF_CHECK(ids.Append(first + i).ok());
    SHEAF_CHECK(names.Append("name " + std::to_string(first + i)).ok());
  }
  return Table::Make(arrow::schema({arrow::field("id", arrow::int64()),
                                    arrow::field("name", arrow::utf8())}),
                     {ids.Finish().ValueOrDie(), names.Finish().ValueOrDie()}, rows);
}

// True if `body` returns true in a forked child.
template <typename Body>
bool HoldsInChild(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);  // a watchdog: it could wait for a lock of a thread that is not here
    ::_exit(body() ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status == 0;
}

class ForkTest : public ::testing::Test {
 protected:
  void SetUp() override { StartCluster("coherent"); }

  void StartCluster(const std::string& coherence) {
    node0_.reset();
    node1_.reset();
    cluster_.reset();
    TestClusterOptions options;
    options.config_toml = "segment_size = \"64MiB\"\ncoherence = \"" + coherence + "\"\n";
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(node0_, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(node1_, cluster_->Connect(1));
  }
  NodeInfo Home() { return node1_->Nodes().ValueOrDie()[0]; }

  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> node0_;
  std::shared_ptr<Store> node1_;
};

TEST_F(ForkTest, AForkedChildIsToldToConnect) {
  ASSERT_OK(node0_->Put("t", *MakeTable(1000)));
  ASSERT_OK_AND_ASSIGN(auto opened, node0_->Get("t"));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const arrow::Status refused = node0_->Get("t").status();
    const bool right = refused.IsInvalid() &&
                       refused.message().find("Store::Connect") != std::string::npos &&
                       opened->Equals(*MakeTable(1000));
    opened.reset();  // must not end the parent's lease
    ::_exit(right ? 0 : 1);
  }
  int code = -1;
  ASSERT_EQ(::waitpid(child, &code, 0), child);
  EXPECT_EQ(code, 0);
  ASSERT_OK_AND_ASSIGN(auto info, node1_->Stat("t"));
  EXPECT_EQ(info.leases, 1U);
}

TEST_F(ForkTest, AForkedChildLeavesThePoolToItsParent) {
  for (const std::string coherence : {"coherent", "software"}) {
    StartCluster(coherence);
    arrow::MemoryPool* pool = node0_->memory_pool();
    auto unpublished = MakeTable(1000, 5, pool);
    auto published = MakeTable(1000, 0, pool);
    ASSERT_OK(node0_->Put("t", *published));
    ASSERT_OK_AND_ASSIGN(auto writer, node0_->NewWriter("w", unpublished->schema()));
    ASSERT_OK(writer->Append(*unpublished->CombineChunksToBatch().ValueOrDie()));
    const uint64_t free_bytes = Home().free_bytes;
    EXPECT_TRUE(HoldsInChild([&] {
      uint8_t* address = nullptr;
      const bool refused =
          pool->Allocate(64, &address).IsInvalid() && writer->Seal().status().IsInvalid();
      published.reset();
      unpublished.reset();
      writer.reset();
      pool->ReleaseUnused();
      node0_.reset();  // all of it is the parent's still
      return refused;
    }));
    EXPECT_EQ(Home().free_bytes, free_bytes);
    EXPECT_TRUE(unpublished->Equals(*MakeTable(1000, 5)));
    EXPECT_OK(writer->Seal());
    ASSERT_OK(node0_->Put("u", *MakeTable(1000, 77, pool)));
    ASSERT_OK_AND_ASSIGN(auto opened, node1_->Get("w"));
    EXPECT_TRUE(opened->Equals(*unpublished));
  }
}

TEST_F(ForkTest, AForkedChildReadsOnAfterItsParentIsDone) {
  ASSERT_OK(node0_->Put("t", *MakeTable(1000)));
  int hold[2];
  int answer[2];
  ASSERT_EQ(::pipe(hold) + ::pipe(answer), 0);
  EXPECT_TRUE(HoldsInChild([&] {
    ::close(hold[1]);
    auto store = cluster_->Connect(1).ValueOrDie();
    auto table = store->Get("t").ValueOrDie();
    const pid_t reader = ::fork();
    if (reader == 0) {
      char byte = 0;
      const bool told = ::read(hold[0], &byte, 1) == 0;  // the test let go of its end
      byte = told && table->Equals(*MakeTable(1000)) ? 1 : 0;
      ::_exit(::write(answer[1], &byte, 1) == 1 ? 0 : 1);
    }
    table.reset();
    store.reset();
    return reader > 0;
  }));
  EXPECT_EQ(node0_->Stat("t").ValueOrDie().leases, 1U);
  ASSERT_OK(node0_->Remove("t"));
  ::close(hold[1]);
  char right = 0;
  EXPECT_EQ(::read(answer[0], &right, 1), 1);
  EXPECT_EQ(right, 1);
  for (const int end : {hold[0], answer[0], answer[1]}) ::close(end);
  node0_ = cluster_->Connect(0).ValueOrDie();
  EXPECT_TRUE(Eventually([&] { return Home().objects == 0 && Home().used_bytes == 0; }));
}

TEST_F(ForkTest, AForkedChildConnectsWhileItsParentAllocates) {
  std::atomic<bool> done = false;
  std::thread allocating([&] {
    while (!done) {
      auto table = MakeTable(10, 0, node0_->memory_pool());
      table.reset();
      node0_->memory_pool()->ReleaseUnused();
    }
  });
  auto kept = MakeTable(10, 0, node0_->memory_pool());
  ASSERT_OK(node0_->Put("t", *kept));
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(HoldsInChild([&] {
      kept.reset();  // must not wait for a lock that a thread held which is not here
      node0_ = cluster_->Connect(0).ValueOrDie();
      return node0_->Get("t").ok();
    }));
  }
  done = true;
  allocating.join();
}

TEST_F(ForkTest, AGrantThatCannotBeUsedGoesBack) {
  EXPECT_TRUE(HoldsInChild([&] {
    auto store = cluster_->Connect(0).ValueOrDie();
    arrow::MemoryPool* pool = store->memory_pool();
    uint8_t* first = nullptr;
    SHEAF_CHECK(pool->Allocate(1, &first).ok());
    const uint64_t used_bytes = store->Nodes().ValueOrDie()[0].used_bytes;
    // The memory after the first grant cannot be made writable when it is not mapped.
    constexpr uint64_t kGrantBytes = uint64_t{2} << 20;
    const uint64_t end = RoundUp(reinterpret_cast<uint64_t>(first) + 1, kGrantBytes);
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the next grant's address
    SHEAF_CHECK(::munmap(reinterpret_cast<void*>(end), 16 * kGrantBytes) == 0);
    uint8_t* second = nullptr;
    return !pool->Allocate(4 * kGrantBytes, &second).ok() && Eventually([&] {
      return store->Nodes().ValueOrDie()[0].used_bytes == used_bytes;
    });
  }));
}

}  // namespace
}  // namespace sheaf::testing
