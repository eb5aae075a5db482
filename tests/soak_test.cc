// Eight clients on two nodes put, get, slice, keep and remove while clients are killed
// every 100 ms and daemons every 5 s. Every table says what is in it, and every reader
// checks that: no wrong byte, ever; and nothing is left at the end. `make soak`.

#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/array/array_binary.h>
#include <arrow/array/array_primitive.h>
#include <arrow/builder.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "platform/process.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/peer.h"
#include "testing/test_cluster.h"
#include "testing/test_seed.h"

namespace sheaf::testing {
namespace {

using arrow::Table;
using TablePtr = std::shared_ptr<Table>;
using Random = std::mt19937_64;

constexpr int kClients = 8;
constexpr int kNames = 12;
constexpr int kStepsPerRound = 16;
constexpr size_t kHeldMax = 6;

// The value of row `row` of the table with seed `seed`.
int64_t ValueAt(int64_t seed, int64_t row) {
  const uint64_t position =
      static_cast<uint64_t>(seed) * 1'000'003 + static_cast<uint64_t>(row);
  return static_cast<int64_t>(position * 0x9E3779B97F4A7C15U);
}

// Says in its metadata what is in it, in two types with three buffers.
TablePtr MakeTable(int64_t seed, int64_t rows, arrow::MemoryPool* pool) {
  arrow::Int64Builder numbers(pool);
  arrow::StringBuilder texts(pool);
  for (int64_t i = 0; i < rows; ++i) {
    SHEAF_CHECK(numbers.Append(ValueAt(seed, i)).ok());
    SHEAF_CHECK(texts.Append(std::to_string(ValueAt(seed, i) % 1000)).ok());
  }
  auto schema = arrow::schema(
      {arrow::field("number", arrow::int64()), arrow::field("text", arrow::utf8())},
      arrow::key_value_metadata({{"seed", std::to_string(seed)}}));
  return Table::Make(schema, {numbers.Finish().ValueOrDie(), texts.Finish().ValueOrDie()},
                     rows);
}

// A table, or rows [first, ...) of one; what is wrong with it, or nothing.
std::string Verify(const Table& table, int64_t first) {
  const auto metadata = table.schema()->metadata();
  if (metadata == nullptr || !metadata->Contains("seed")) return "no seed in its schema";
  const int64_t seed = std::stoll(metadata->Get("seed").ValueOrDie());
  int64_t row = first;
  for (const auto& chunk : table.column(0)->chunks()) {
    const auto& numbers = static_cast<const arrow::Int64Array&>(*chunk);
    for (int64_t i = 0; i < numbers.length(); ++i, ++row) {
      if (numbers.Value(i) != ValueAt(seed, row)) {
        return "number " + std::to_string(row) + " of seed " + std::to_string(seed);
      }
    }
  }
  row = first;
  for (const auto& chunk : table.column(1)->chunks()) {
    const auto& texts = static_cast<const arrow::StringArray&>(*chunk);
    for (int64_t i = 0; i < texts.length(); ++i, ++row) {
      if (texts.GetView(i) != std::to_string(ValueAt(seed, row) % 1000)) {
        return "text " + std::to_string(row) + " of seed " + std::to_string(seed);
      }
    }
  }
  return "";
}

// One client process.
class Client {
 public:
  arrow::Status Connect(const std::string& cluster, uint32_t node, uint64_t seed) {
    random_.seed(seed);
    ARROW_ASSIGN_OR_RAISE(store_, Store::Connect({cluster, node}));
    return arrow::Status::OK();
  }

  // "ok", or what is wrong.
  std::string Round() {
    for (int i = 0; i < kStepsPerRound; ++i) {
      const arrow::Status status = Step();
      if (!status.ok() && !MayHappen(status)) return status.ToString();
      if (!wrong_.empty()) return "WRONG BYTES: " + wrong_;
    }
    return "ok";
  }

 private:
  // Somebody else removed or replaced it, memory is full, a daemon is being restarted.
  static bool MayHappen(const arrow::Status& status) {
    return status.IsKeyError() || status.IsAlreadyExists() || status.IsOutOfMemory() ||
           IsStaleGeneration(status) || IsNodeLost(status) || IsDisconnected(status) ||
           status.IsCapacityError();
  }

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  std::string AnyName() { return "t" + std::to_string(Below(kNames)); }

  arrow::Status Step() {
    switch (Below(8)) {
      case 0:
      case 1:
        return Put();
      case 2:
      case 3:
        return Get();
      case 4:
        return Share();
      case 5:
        return Reshare();
      case 6:
        return store_->Remove(AnyName());
      default:
        return Recheck();
    }
  }

  arrow::Status Put() {
    arrow::MemoryPool* pool =
        Below(2) == 0 ? store_->memory_pool() : arrow::default_memory_pool();
    PutOptions options;
    options.replace = Below(3) != 0;
    const auto table = MakeTable(static_cast<int64_t>(random_() >> 20),
                                 static_cast<int64_t>(1 + Below(60'000)), pool);
    return store_->Put(AnyName(), *table, options).status();
  }

  arrow::Status Get() {
    ARROW_ASSIGN_OR_RAISE(const TablePtr table, store_->Get(AnyName()));
    Check(*table, 0);
    Hold(table, 0);
    return arrow::Status::OK();
  }

  // A slice outlives what it was cut from, here and in shared memory.
  void Hold(const TablePtr& table, int64_t first) {
    const auto from =
        static_cast<int64_t>(Below(static_cast<uint64_t>(table->num_rows()) + 1));
    held_.emplace_back(table->Slice(from), first + from);
    if (held_.size() > kHeldMax) held_.pop_front();
  }

  arrow::Status Share() {
    const auto table =
        MakeTable(static_cast<int64_t>(random_() >> 20),
                  static_cast<int64_t>(1 + Below(20'000)), store_->memory_pool());
    ARROW_ASSIGN_OR_RAISE(const PutReceipt receipt, store_->Share(*table));
    ARROW_ASSIGN_OR_RAISE(const TablePtr opened, store_->Open(receipt.handle));
    Check(*opened, 0);
    Hold(opened, 0);
    return store_->Drop(receipt.handle);
  }

  // Puts whole tables only, so that readers know the first row.
  arrow::Status Reshare() {
    ARROW_ASSIGN_OR_RAISE(const TablePtr table, store_->Get(AnyName()));
    PutOptions options;
    options.replace = true;
    return store_->Put(AnyName(), *table, options).status();
  }

  arrow::Status Recheck() {
    for (const auto& [table, first] : held_) Check(*table, first);
    return arrow::Status::OK();
  }

  void Check(const Table& table, int64_t first) {
    if (wrong_.empty()) wrong_ = Verify(table, first);
  }

  Random random_;
  std::shared_ptr<Store> store_;
  std::deque<std::pair<TablePtr, int64_t>> held_;
  std::string wrong_;
};

std::string AnswerAsClient(const std::string& request) {
  static auto* client = new Client();
  if (request == "round") return client->Round();
  // connect CLUSTER NODE SEED
  const size_t cluster = request.find(' ') + 1;
  const size_t node = request.find(' ', cluster) + 1;
  const size_t seed = request.find(' ', node) + 1;
  return client
      ->Connect(request.substr(cluster, node - 1 - cluster),
                static_cast<uint32_t>(std::stoul(request.substr(node))),
                std::stoull(request.substr(seed)))
      .ToString();
}

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "runs in the processes that other tests start";
  ServePeer(AnswerAsClient);
}

// Of all backends together.
std::chrono::seconds SoakTime() {
  const char* text = std::getenv("SHEAF_SOAK_SECONDS");
  return std::chrono::seconds(text == nullptr ? 60 : std::stoll(text));
}

constexpr const char* kBackends[] = {"", "backend = \"sim\"\n[sim]\nchaos = true\n"};

class Soak : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    TestClusterOptions options;
    options.config_toml =
        std::string(
            "segment_size = \"256MiB\"\nslots_max = 8192\nrecords_size = \"64MiB\"\n"
            "heartbeat_ms = 50\nsuspect_after_ms = 2000\n") +
        GetParam();
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(auto store, cluster_->Connect(0));
    for (const NodeInfo& node : store->Nodes().ValueOrDie()) {
      free_at_start_.push_back(node.free_bytes);
    }
  }

  // One client after the other, each until it is killed.
  void RunClients(int number) {
    for (uint64_t life = 0; !stop_; ++life) {
      auto started = Peer::Start({});
      SHEAF_CHECK(started.ok());
      {
        const std::lock_guard lock(mutex_);
        peers_[number] = std::move(*started);
      }
      RunClient(*peers_[number], number, life);
      const std::lock_guard lock(mutex_);
      if (!peers_[number]->Kill()) problems_.emplace_back("a client ended by itself");
      peers_[number].reset();
    }
  }
  void RunClient(Peer& peer, int number, uint64_t life) {
    const auto connected =
        peer.Ask("connect " + cluster_->name() + " " + std::to_string(number % 2) + " " +
                 std::to_string(seed_ + static_cast<uint64_t>(number) + 1000 * life));
    // While its daemon is away nobody connects.
    if (!connected.ok() || *connected != "OK") return;
    while (!stop_) {
      const auto answer = peer.Ask("round");
      if (!answer.ok()) return;  // killed
      ++rounds_;
      if (*answer == "ok") continue;
      const std::lock_guard lock(mutex_);
      problems_.push_back(*answer);
      return;
    }
  }

  void KillClients() {
    Random random(seed_ + 1);
    while (!stop_) {
      platform::SleepFor(std::chrono::milliseconds(100));
      const std::lock_guard lock(mutex_);
      const auto& peer = peers_[static_cast<int>(random() % kClients)];
      if (peer == nullptr || peer->process_id() <= 0) continue;
      ::kill(peer->process_id(), SIGKILL);
      ++kills_;
    }
  }

  void KillDaemons() {
    Random random(seed_ + 2);
    auto next = platform::BootTime() + std::chrono::seconds(5);
    while (!stop_) {
      platform::SleepFor(std::chrono::milliseconds(20));
      if (platform::BootTime() < next) continue;
      SHEAF_CHECK(cluster_->KillDaemon(static_cast<uint32_t>(random() % 2)).ok());
      const arrow::Status started = cluster_->StartMissing();
      if (!started.ok()) {
        const std::lock_guard lock(mutex_);
        problems_.push_back(started.ToString());
      }
      ++daemon_kills_;
      next = platform::BootTime() + std::chrono::seconds(5);
    }
  }

  std::unique_ptr<TestCluster> cluster_;
  std::vector<uint64_t> free_at_start_;
  const uint64_t seed_ = TestSeed();
  std::atomic<bool> stop_ = false;
  std::atomic<int64_t> rounds_ = 0;
  int64_t kills_ = 0;
  int64_t daemon_kills_ = 0;
  std::mutex mutex_;
  std::map<int, std::unique_ptr<Peer>> peers_;  ///< Entries are made before threads are.
  std::vector<std::string> problems_;
};

TEST_P(Soak, NoWrongByteAndNothingLeft) {
  for (int number = 0; number < kClients; ++number) peers_[number] = nullptr;
  std::vector<std::thread> threads;
  for (int number = 0; number < kClients; ++number) {
    threads.emplace_back([this, number] { RunClients(number); });
  }
  threads.emplace_back([this] { KillClients(); });
  threads.emplace_back([this] { KillDaemons(); });
  const auto end = platform::BootTime() + SoakTime() / std::size(kBackends);
  const auto all_is_well = [&] {
    const std::lock_guard lock(mutex_);
    return problems_.empty();
  };
  while (platform::BootTime() < end && all_is_well()) {
    platform::SleepFor(std::chrono::milliseconds(100));
  }
  stop_ = true;
  for (std::thread& thread : threads) thread.join();
  std::cout << rounds_ << " rounds of " << kStepsPerRound << " steps, " << kills_
            << " clients and " << daemon_kills_ << " daemons killed\n";
  for (const std::string& problem : problems_) ADD_FAILURE() << problem;

  ASSERT_OK_AND_ASSIGN(auto store, cluster_->Connect(0));
  ASSERT_OK_AND_ASSIGN(const auto tables, store->List());
  for (const TableInfo& table : tables) {
    ASSERT_OK_AND_ASSIGN(const TablePtr opened, store->Get(table.name));
    EXPECT_EQ(Verify(*opened, 0), "") << table.name;
  }
  for (const TableInfo& table : tables) ASSERT_OK(store->Remove(table.name));
  for (uint32_t k = 0; k < free_at_start_.size(); ++k) {
    const auto node = [&] { return store->Nodes().ValueOrDie()[k]; };
    EXPECT_TRUE(Eventually([&] {
      return node().free_bytes == free_at_start_[k] && node().objects == 0 &&
             node().sessions == (k == 0 ? 1U : 0U);
    })) << "node "
        << k << ": " << node().free_bytes << " of " << free_at_start_[k]
        << " bytes free, " << node().objects << " objects, " << node().sessions
        << " sessions";
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Soak, ::testing::ValuesIn(kBackends),
                         [](const auto& backend) {
                           return std::string(backend.param).empty() ? "Shm" : "SimChaos";
                         });

}  // namespace
}  // namespace sheaf::testing
