#include "simulation/scale.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <ratio>
#include <string>
#include <vector>

#include <arrow/status.h>

#include "base/check.h"
#include "directory/catalog.h"
#include "format/layout.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/store.h"
#include "simulation/client.h"
#include "simulation/cluster.h"
#include "simulation/content.h"
#include "simulation/kernel.h"
#include "simulation/steps.h"

namespace sheaf::simulation {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Processes seldom take turns at a cache operation: what is wanted are counts.
constexpr uint64_t kSwitchPeriod = 4096;
constexpr uint64_t kSlowMessages = 1'000'000;
constexpr seconds kPatience{600};
constexpr seconds kIdleTime{5};
constexpr seconds kForEver{1'000'000};
constexpr int64_t kRows = 8;

Schedule MakeScaleSchedule(const ScaleOptions& options) {
  Schedule schedule;
  schedule.seed = 1;
  schedule.nodes = options.nodes;
  schedule.switch_period = kSwitchPeriod;
  schedule.slow_messages = kSlowMessages;
  region::ClusterConfig& config = schedule.config;
  config.name = "scale";
  config.cluster_id = 0x5EAF;
  config.backend = region::Backend::kSim;
  config.nodes = options.nodes;
  config.nodes_max = options.nodes;
  config.segment_size_bytes = format::kExtentBytes;
  config.slots_max = 64 + 2 * options.tables / options.nodes;
  config.lease_pages_max = 16;
  config.records_size_bytes =
      (uint64_t{256} << 10) + uint64_t{options.tables} * 16 * format::kLineBytes;
  config.suspect_after_ms = 1000;
  if (options.rings) config.messages = region::Messages::kRings;
  return schedule;
}

/// What was done since the last reading.
struct Counts {
  Work by_client;   ///< Of the process that was asked.
  Work by_daemons;  ///< All of them together.
  Time duration{0};
};

class Scale {
 public:
  Scale(const ScaleOptions& options, const std::string& folder)
      : options_(options), cluster_(MakeScaleSchedule(options), folder, false) {
    kernel_.SetSwitchPeriod(kSwitchPeriod);
    kernel_.SetSlowMessages(kSlowMessages);
    kernel_.OnDoom([](Process*, const Process::Doom&) {});
    TurnUntil("all are up", [this] { return cluster_.AllUp(); });
    TurnUntil("node 0 leads", [this] { return Leader().node == NodeId{0}; });
    for (uint32_t k = 0; k < options.nodes; ++k) {
      clients_.push_back(
          std::make_unique<Client>(&cluster_, "client on node " + std::to_string(k), k));
    }
    alive_.assign(options.nodes, true);
  }

  void Run() {
    EachClient([this](Client* client) {
      if (!client->Connect()) cluster_.Fail("cannot connect");
    });
    Pass(kIdleTime);
    CountIdle("idle");
    CountPuts();
    CountGets("get", 0);
    CountAbsent();
    CountRemoves();
    KillLeader();
    CountGets("get after a change of leader", 0);
    KillAnother();
    Put(FirstAlive(), "late", nullptr);
    EachClient([this](Client* client) {
      for (uint32_t i = 0; i < options_.tables; ++i) {
        if (!Exists(i)) continue;
        MustGet(client, NameOf(i));
      }
      MustGet(client, "late");
    });
  }

 private:
  static std::string NameOf(uint32_t table) { return "t" + std::to_string(table); }
  bool Exists(uint32_t table) const { return table >= num_removed_; }
  /// Where it was put: never on node 0, which is going to die.
  uint32_t HomeOf(uint32_t table) const {
    SHEAF_CHECK(options_.nodes > 1);
    return 1 + table % (options_.nodes - 1);
  }

  void TurnUntil(const std::string& what, const std::function<bool()>& condition) {
    const Time deadline = kernel_.Now() + kPatience;
    while (!condition()) {
      if (!kernel_.RunOne() || kernel_.Now() > deadline) {
        cluster_.Fail("it never happens that " + what);
      }
    }
  }
  void Pass(Time duration) {
    const Time end = kernel_.Now() + duration;
    TurnUntil("time passes", [this, end] { return kernel_.Now() >= end; });
  }
  uint32_t NumAlive() const {
    uint32_t alive = 0;
    for (const bool is_alive : alive_) alive += is_alive;
    return alive;
  }
  Client* FirstAlive() {
    uint32_t k = 0;
    while (!alive_[k]) ++k;
    return clients_[k].get();
  }
  Work OfDaemons() const {
    Work work;
    for (uint32_t k = 0; k < options_.nodes; ++k) {
      if (alive_[k]) work += cluster_.daemon(k)->work;
    }
    return work;
  }

  /// \brief Run `action` in `client` to its end.
  Counts Do(Client* client, const std::function<void(Client*)>& action) {
    const Work client_before = client->process()->work;
    const Work daemons_before = OfDaemons();
    const Time began = kernel_.Now();
    bool is_done = false;
    client->PostCheck([&](Client* self) {
      action(self);
      is_done = true;
    });
    TurnUntil("a client is done", [&] { return is_done && client->is_idle(); });
    return {client->process()->work - client_before, OfDaemons() - daemons_before,
            kernel_.Now() - began};
  }
  void EachClient(const std::function<void(Client*)>& action) {
    for (uint32_t k = 0; k < options_.nodes; ++k) {
      if (alive_[k]) Do(clients_[k].get(), action);
    }
  }

  void Print(const std::string& what, double lines, double messages, double took_ms) {
    std::printf(
        "{\"nodes\": %u, \"tables\": %u, \"messages_over\": \"%s\", \"what\": \"%s\", "
        "\"lines\": %.1f, \"messages\": %.2f, \"milliseconds\": %.1f}\n",
        options_.nodes, options_.tables, options_.rings ? "rings" : "sockets",
        what.c_str(), lines, messages, took_ms);
    std::fflush(stdout);
  }

  /// Of one daemon in a second.
  void CountIdle(const std::string& what) {
    const Work before = OfDaemons();
    const Time began = kernel_.Now();
    Pass(kIdleTime);
    const Work work = OfDaemons() - before;
    const double daemon_seconds =
        std::chrono::duration<double>(kernel_.Now() - began).count() * NumAlive();
    idle_.lines = static_cast<double>(work.lines) / daemon_seconds;
    idle_.messages = static_cast<double>(work.messages) / daemon_seconds;
    Print(what + ", one daemon, in a second", idle_.lines, idle_.messages, 1000);
  }

  /// What `counts` of `operations` cost each, without what daemons do anyway.
  void PrintEach(const std::string& what, const Counts& counts, double operations) {
    const double daemon_seconds =
        std::chrono::duration<double>(counts.duration).count() * NumAlive();
    Print(
        what + ", its client", static_cast<double>(counts.by_client.lines) / operations,
        static_cast<double>(counts.by_client.messages) / operations,
        std::chrono::duration<double, std::milli>(counts.duration).count() / operations);
    Print(what + ", all daemons",
          (static_cast<double>(counts.by_daemons.lines) - idle_.lines * daemon_seconds) /
              operations,
          (static_cast<double>(counts.by_daemons.messages) -
           idle_.messages * daemon_seconds) /
              operations,
          0);
  }

  void Put(Client* on, const std::string& name, Counts* sum) {
    const Counts counts = Do(on, [&](Client* client) {
      arrow::ArrayVector chunks = {
          MakeChunk({1, 0, kRows}, client->store()->memory_pool())};
      if (chunks[0] == nullptr) cluster_.Fail("no memory for '" + name + "'");
      const auto status = client->store()->Put(name, *MakeTable(chunks)).status();
      if (!status.ok()) cluster_.Fail("put of '" + name + "': " + status.ToString());
    });
    if (sum != nullptr) Add(counts, sum);
  }
  static void Add(const Counts& counts, Counts* sum) {
    sum->by_client += counts.by_client;
    sum->by_daemons += counts.by_daemons;
    sum->duration += counts.duration;
  }
  void MustGet(Client* client, const std::string& name) {
    const auto table = client->store()->Get(name);
    if (!table.ok()) {
      cluster_.Fail(client->Doing() + ": get of '" + name +
                    "': " + table.status().ToString());
    }
    const std::string difference = Difference(**table, {{1, 0, kRows}});
    if (!difference.empty()) cluster_.Fail("'" + name + "' has " + difference);
  }

  void CountPuts() {
    Counts sum;
    for (uint32_t i = 0; i < options_.tables; ++i) {
      Put(clients_[HomeOf(i)].get(), NameOf(i), &sum);
    }
    PrintEach("put", sum, options_.tables);
  }
  void CountGets(const std::string& what, uint32_t first) {
    const uint32_t count = options_.tables - num_removed_ - first;
    Client* const client = clients_[options_.nodes - 1].get();
    const Counts counts = Do(client, [&](Client* self) {
      for (uint32_t i = 0; i < count; ++i)
        MustGet(self, NameOf(num_removed_ + first + i));
    });
    PrintEach(what, counts, count);
  }
  void CountAbsent() {
    const Counts counts = Do(clients_[options_.nodes - 1].get(), [&](Client* self) {
      if (self->store()->Get("absent").ok()) cluster_.Fail("something out of nothing");
    });
    PrintEach("get of a name that is absent", counts, 1);
  }
  void CountRemoves() {
    Counts sum;
    const uint32_t count = options_.nodes;
    for (uint32_t i = 0; i < count; ++i) {
      Add(Do(clients_[HomeOf(i)].get(),
             [&](Client* client) {
               const arrow::Status status = client->store()->Remove(NameOf(i));
               if (!status.ok()) cluster_.Fail("remove: " + status.ToString());
             }),
          &sum);
      ++num_removed_;
    }
    // Until all of it is free.
    const Work before = OfDaemons();
    const Time began = kernel_.Now();
    Pass(kIdleTime);
    sum.by_daemons += OfDaemons() - before;
    sum.duration += kernel_.Now() - began;
    PrintEach("remove and reclaim", sum, count);
  }

  /// As node 1 sees it, in its own process's memory.
  directory::LeaderView Leader() {
    directory::LeaderView view;
    bool is_done = false;
    const uint32_t observer = options_.nodes - 1;
    Process* const process =
        kernel_.Spawn("observer on node " + std::to_string(observer), observer, [&] {
          const auto region = region::Region::Attach(
              cluster_.schedule().config,
              {NodeId{observer}, region::Role::kReader, /*relocate=*/true});
          if (region.ok()) view = directory::FindLeader(region::SegmentsOf(**region));
          is_done = true;
          kernel_.WaitFor({}, std::nullopt);
        });
    TurnUntil("the observer has looked", [&] { return is_done; });
    kernel_.Kill(process);
    return view;
  }

  void Kill(uint32_t node) {
    kernel_.Kill(clients_[node]->process());
    // What it owned is gone with its process: nobody runs its destructors.
    [[maybe_unused]] Client* const lost = clients_[node].release();
    alive_[node] = false;
    cluster_.KillDaemon(node, kForEver);
  }

  /// Until somebody else leads, and names can be given again.
  void KillLeader() {
    const uint32_t old = Leader().node.value;
    const Work before = OfDaemonsBut(old);
    const Time began = kernel_.Now();
    Kill(old);
    Put(clients_[options_.nodes - 1].get(), "after a change of leader", nullptr);
    const Time took = kernel_.Now() - began;
    const Work work = OfDaemons() - before;
    PrintDeath("death of the leader, until a put is done", work, took);
    if (Leader().node.value == old) cluster_.Fail("the dead lead");
  }
  /// Until everybody has found out.
  void KillAnother() {
    uint32_t node = options_.nodes / 2;
    while (!alive_[node] || Leader().node.value == node) ++node;
    const Work before = OfDaemonsBut(node);
    const Time began = kernel_.Now();
    Kill(node);
    Pass(2 * milliseconds(cluster_.schedule().config.suspect_after_ms));
    const Work work = OfDaemons() - before;
    PrintDeath("death of a node, until all know", work, kernel_.Now() - began);
  }
  Work OfDaemonsBut(uint32_t node) const {
    return OfDaemons() - cluster_.daemon(node)->work;
  }
  /// For each survivor, without what it does anyway.
  void PrintDeath(const std::string& what, const Work& work, Time took) {
    const double survivors = NumAlive();
    const double passed = std::chrono::duration<double>(took).count();
    Print(what + ", each survivor",
          static_cast<double>(work.lines) / survivors - idle_.lines * passed,
          static_cast<double>(work.messages) / survivors - idle_.messages * passed,
          1000 * passed);
  }

  struct Rate {
    double lines = 0;
    double messages = 0;
  };

  ScaleOptions options_;
  Kernel& kernel_ = Kernel::Get();
  Cluster cluster_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<bool> alive_;
  uint32_t num_removed_ = 0;
  Rate idle_;  ///< Of one daemon in a second.
};

}  // namespace

void RunScale(const ScaleOptions& options, const std::string& folder) {
  auto* const scale = new Scale(options, folder);  // Its processes outlive everything.
  scale->Run();
}

}  // namespace sheaf::simulation
