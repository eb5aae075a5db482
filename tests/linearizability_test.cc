// Names, as clients on four nodes see them while leaders of the catalog die and stop: a
// recorded history of puts, replaces of any and of just one version, removes, gets and
// versions that Porcupine judges
// (tools/linearizability). `make linearizability`.

#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/array/array_primitive.h>
#include <arrow/builder.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/macros.h>
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

constexpr uint32_t kNodes = 4;
constexpr uint32_t kClients = 8;
/// Few, so that operations meet.
constexpr uint64_t kNames = 4;
/// A checker's time grows fast with what happens at once, not with this.
constexpr std::chrono::milliseconds kPauseMax{4};

std::shared_ptr<arrow::Table> TableOf(int64_t value) {
  arrow::Int64Builder builder;
  SHEAF_CHECK(builder.Append(value).ok());
  return arrow::Table::Make(arrow::schema({arrow::field("value", arrow::int64())}),
                            {builder.Finish().ValueOrDie()});
}

int64_t ValueOf(const arrow::Table& table) {
  return static_cast<const arrow::Int64Array&>(*table.column(0)->chunk(0)).Value(0);
}

int64_t Now() {  // One clock for all processes of the host.
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// One client process: does what chance says, and writes down what it was told.
class Recorder {
 public:
  Recorder(std::shared_ptr<Store> store, uint32_t client, uint64_t seed)
      : store_(std::move(store)), client_(client), random_(seed) {}

  void Run(std::chrono::seconds time, std::ostream* history) {
    const int64_t end = Now() + std::chrono::nanoseconds(time).count();
    while (Now() < end) {
      *history << One()
               << std::flush;  // A kill loses one line at most: of none that ended
      platform::SleepFor(std::chrono::milliseconds(
          random_() % static_cast<uint64_t>(kPauseMax.count() + 1)));
    }
  }

 private:
  std::string One() {
    const std::string name = "name" + std::to_string(random_() % kNames);
    const uint64_t draw = random_() % 12;
    value_ = (int64_t{client_} + 1) * 1'000'000 + ++last_value_;
    expected_ = version_ = 0;
    std::string operation;
    std::string outcome;
    const int64_t begin = Now();
    if (draw < 4) {
      operation = "get";
      const auto found = store_->Get(name);
      value_ = found.ok() ? ValueOf(**found) : 0;
      outcome = found.status().IsKeyError() ? "absent" : OutcomeOf(found.status());
    } else if (draw < 6) {
      operation = "stat";
      value_ = 0;
      const auto found = store_->Stat(name);
      if (found.ok()) seen_[name] = version_ = found->version;
      outcome = OutcomeOf(found.status());
    } else if (draw < 8) {
      operation = "put";
      outcome = Put(name, {});
    } else if (draw < 9) {
      operation = "replace";
      outcome = Put(name, {.replace = true, .expected_version = {}});
    } else if (draw < 11) {
      operation = "swap";
      expected_ = std::max(seen_[name], uint32_t{1});
      outcome = Put(name, {.replace = true, .expected_version = expected_});
    } else {
      operation = "remove";
      value_ = 0;
      outcome = OutcomeOf(store_->Remove(name));
    }
    std::ostringstream line;
    line << client_ << ' ' << operation << ' ' << name << ' ' << value_ << ' ' << begin
         << ' ' << Now() << ' ' << outcome << ' ' << expected_ << ' ' << version_ << '\n';
    return line.str();
  }

  std::string Put(const std::string& name, const PutOptions& options) {
    const auto receipt = store_->Put(name, *TableOf(value_), options);
    if (receipt.ok()) seen_[name] = version_ = receipt->version;
    return OutcomeOf(receipt.status());
  }

  static std::string OutcomeOf(const arrow::Status& status) {
    if (status.ok()) return "ok";
    if (status.IsAlreadyExists()) return "exists";
    if (IsVersionMismatch(status)) return "mismatch";
    return status.IsKeyError() ? "absent" : "unknown";
  }

  std::shared_ptr<Store> store_;
  uint32_t client_;
  std::mt19937_64 random_;
  int64_t last_value_ = 0;
  // Of the operation that is under way; versions 0: none.
  int64_t value_ = 0;
  uint32_t expected_ = 0;
  uint32_t version_ = 0;
  std::map<std::string, uint32_t> seen_;  ///< The last version, by name.
};

// "<cluster> <client> <seed> <seconds> <history>"
std::string AnswerAsRecorder(const std::string& request) {
  std::istringstream words(request);
  std::string cluster;
  std::string path;
  uint32_t client = 0;
  uint64_t seed = 0;
  int64_t seconds = 0;
  words >> cluster >> client >> seed >> seconds >> path;
  auto store = Store::Connect({cluster, client % kNodes});
  // The daemon of its node may be dead just now.
  ARROW_UNUSED(Eventually([&] {
    if (!store.ok()) store = Store::Connect({cluster, client % kNodes});
    return store.ok();
  }));
  if (!store.ok()) return store.status().ToString();
  std::ofstream history(path);
  Recorder(*store, client, seed).Run(std::chrono::seconds(seconds), &history);
  return "OK";
}

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "started by other tests";
  ServePeer(AnswerAsRecorder);
}

struct Verdict {
  int exit_code = 0;
  std::string said;
};

class Recorded : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(SHEAF_LINEARIZABILITY_CHECKER)) {
      GTEST_SKIP()
          << "no checker: it is built where there are a Go compiler (tools/setup.sh "
             "test) and the Go module proxy";
    }
  }

  /// The histories of all clients over `time`; `disturb` is called again and again
  /// meanwhile.
  template <typename Disturb>
  Verdict RecordAndCheck(const TestCluster& cluster, std::chrono::seconds time,
                         uint64_t seed, Disturb disturb) {
    std::vector<std::unique_ptr<Peer>> peers;
    std::vector<std::thread> running;
    std::vector<std::string> answers(kClients);
    for (uint32_t i = 0; i < kClients; ++i) {
      peers.push_back(Peer::Start({}).ValueOrDie());
      std::ostringstream request;
      request << cluster.name() << ' ' << i << ' ' << seed * 1000 + i << ' '
              << time.count() << ' ' << cluster.folder() << "/history" << i;
      running.emplace_back([&, i, text = request.str()] {
        answers[i] = peers[i]->Ask(text).ValueOr("died");
      });
    }
    const auto end = platform::BootTime() + time;
    while (platform::BootTime() < end) disturb();
    for (std::thread& thread : running) thread.join();
    for (const std::string& answer : answers) EXPECT_EQ(answer, "OK");
    const std::string all = cluster.folder() + "/history";
    for (uint32_t i = 0; i < kClients; ++i) {
      std::ofstream(all, std::ios::app) << std::ifstream(all + std::to_string(i)).rdbuf();
    }
    const std::string command = std::string(SHEAF_LINEARIZABILITY_CHECKER) + " " + all +
                                " > " + all + ".said 2>&1";
    const int status = std::system(command.c_str());  // NOLINT(concurrency-mt-unsafe)
    std::ostringstream said;
    said << std::ifstream(all + ".said").rdbuf();
    if (status != 0) {  // What can be looked at outlives the test.
      const std::string kept =
          ::testing::TempDir() + "sheaf-history-" + std::to_string(seed);
      std::ofstream(kept) << std::ifstream(all).rdbuf();
      said << "the history: " << kept << "\n";
    }
    return {WEXITSTATUS(status), said.str()};
  }

  static TestClusterOptions Options(const std::string& config) {
    TestClusterOptions options;
    options.nodes = kNodes;
    options.config_toml =
        "segment_size = \"16MiB\"\nslots_max = 4096\n"
        "records_size = \"8MiB\"\nheartbeat_ms = 20\n"
        "suspect_after_ms = 800\nsuspect_samples = 4\n" +
        config;
    options.daemon_path = SHEAFD_BINARY;
    return options;
  }
};

class Linearizability : public Recorded,
                        public ::testing::WithParamInterface<const char*> {};

std::optional<uint32_t> LeaderOf(Store& store) {
  const auto nodes = store.Nodes();
  if (!nodes.ok()) return std::nullopt;
  for (const NodeInfo& node : *nodes) {
    if (node.is_leader) return node.id;
  }
  return std::nullopt;
}

TEST_P(Linearizability, NamesWhileLeadersDieAndStop) {
  const char* said = std::getenv("SHEAF_LINEARIZABILITY_SECONDS");
  const std::chrono::seconds time(said != nullptr ? std::stoi(said) : 10);
  const uint64_t seed = TestSeed();
  ASSERT_OK_AND_ASSIGN(auto cluster, TestCluster::Start(Options(GetParam())));
  std::vector<std::shared_ptr<Store>> stores;
  for (uint32_t k = 0; k < kNodes; ++k) {
    ASSERT_OK_AND_ASSIGN(stores.emplace_back(), cluster->Connect(k));
  }
  std::mt19937_64 random(seed);
  int changes = 0;
  const Verdict verdict = RecordAndCheck(*cluster, time, seed, [&] {
    platform::SleepFor(std::chrono::milliseconds(random() % 1000));
    const auto leader = LeaderOf(*stores[0]);
    if (!leader) return;
    Store& other = *stores[(*leader + 1) % kNodes];
    const bool dies = random() % 2 == 0;
    ASSERT_OK(dies ? cluster->KillDaemon(*leader)
                   : cluster->SignalDaemon(*leader, SIGSTOP));
    EXPECT_TRUE(Eventually([&] {
      const auto next = LeaderOf(other);
      return next && *next != *leader;
    }));
    ++changes;
    ASSERT_OK(dies ? cluster->StartMissing() : cluster->SignalDaemon(*leader, SIGCONT));
    EXPECT_TRUE(Eventually([&] {
      const auto nodes = other.Nodes();
      return nodes.ok() && (*nodes)[*leader].state == "up";
    }));
  });
  std::cout << changes << " changes of leader; " << verdict.said;
  EXPECT_EQ(verdict.exit_code, 0) << verdict.said;
  EXPECT_GE(changes, 1);
}

std::string NameOf(const ::testing::TestParamInfo<const char*>& test) {
  return std::string(test.param).empty() ? "Shm" : "SimStale";
}
INSTANTIATE_TEST_SUITE_P(Backends, Linearizability,
                         ::testing::Values("", "backend = \"sim\"\n"), NameOf);

/// C8: the slot of what is removed is Retired in memory before anybody is told.
TEST_F(Recorded, ARemoveThatRepliesBeforeItIsDoneIsFound) {
  TestClusterOptions options = Options("");
  options.daemon_plants = "reply-before-retired";
  ASSERT_OK_AND_ASSIGN(auto cluster, TestCluster::Start(options));
  const Verdict verdict =
      RecordAndCheck(*cluster, std::chrono::seconds(5), TestSeed(),
                     [] { platform::SleepFor(std::chrono::milliseconds(10)); });
  EXPECT_EQ(verdict.exit_code, 1) << verdict.said;
}

}  // namespace
}  // namespace sheaf::testing
