#include "simulation/run.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "client/node_info.h"
#include "lease/lease.h"
#include "platform/process.h"
#include "region/region.h"
#include "sheaf/info.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "simulation/client.h"
#include "simulation/cluster.h"
#include "simulation/kernel.h"
#include "simulation/machine.h"
#include "simulation/model.h"
#include "simulation/steps.h"

namespace sheaf::simulation {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Whoever has not got on after so long never will: every deadline of clients and daemons
/// is over by then.
constexpr seconds kPatience{300};
/// A leader that stands still so long is found silent, and another one leads: clients go
/// on while it does not know.
constexpr milliseconds kDeposeTime{900};
/// Until its request waits at the daemon; more than most take.
constexpr int kStepsOfAPut = 400;
/// Steps that one client may have before it.
constexpr size_t kPostedMax = 2;
/// Sessions of dead processes, withdrawn nodes, retired objects: all is over by then.
constexpr seconds kQuietTime{6};
constexpr seconds kReclaimPatience{60};

class Runner {
 public:
  Runner(const Schedule& schedule, const std::string& folder, bool is_verbose)
      : cluster_(schedule, folder, is_verbose), clients_(schedule.clients) {
    kernel_.SetSwitchPeriod(schedule.switch_period);
    kernel_.SetSlowMessages(schedule.slow_messages);
    kernel_.OnDoom(
        [this](Process* process, const Process::Doom& doom) { Befall(process, doom); });
    TurnUntil([this] { return cluster_.AllUp(); });
  }

  void Run() {
    for (const Step& step : cluster_.schedule().steps) {
      cluster_.SetStep(step);
      kernel_.Seed(cluster_.schedule().seed * 0x9E3779B97F4A7C15 + step.id);
      Do(step);
      for (uint32_t i = 0; i < step.gap; ++i) kernel_.RunOne();
    }
  }

 private:
  void TurnUntil(const std::function<bool()>& condition) {
    const Time deadline = kernel_.Now() + kPatience;
    while (!condition()) {
      const bool goes_on = kernel_.RunOne();
      if (goes_on && kernel_.Now() < deadline) continue;
      std::string doing;
      for (const auto& client : clients_) {
        if (client != nullptr) doing += "\n  " + client->Doing();
      }
      for (uint32_t k = 0; k < cluster_.schedule().nodes; ++k) {
        doing += "\n  " + cluster_.daemon(k)->name + ", last seen at " +
                 std::string(cluster_.daemon(k)->last_point);
      }
      cluster_.Fail("nothing gets on any more:" + doing);
    }
  }
  void Pass(Time duration) {
    const Time end = kernel_.Now() + duration;
    TurnUntil([this, end] { return kernel_.Now() >= end; });
  }

  Client& ClientAt(uint32_t slot) {
    auto& client = clients_[slot];
    if (client == nullptr) {
      const uint32_t node = slot % cluster_.schedule().nodes;
      client = std::make_unique<Client>(
          &cluster_,
          "client " + std::to_string(slot) + " on node " + std::to_string(node), node);
    }
    return *client;
  }

  void Do(const Step& step) {
    if (step.is_of_client()) {
      Client& client = ClientAt(step.actor);
      client.Post(step);
      TurnUntil([this, &step] {
        const auto& now = clients_[step.actor];
        return now == nullptr || now->num_posted() < kPostedMax;
      });
      return;
    }
    const Process::Doom kill{Fate::kKill, step.a, milliseconds(step.b)};
    switch (step.kind) {
      case StepKind::kKillClient:
        ClientAt(step.actor).process()->doom = kill;
        break;
      case StepKind::kPauseClient:
        ClientAt(step.actor).process()->doom = {Fate::kPause, step.a,
                                                milliseconds(5 * step.b)};
        break;
      case StepKind::kCutClient:
        cluster_.Cut(ClientAt(step.actor).process());
        break;
      case StepKind::kKillDaemon:
        cluster_.daemon(step.actor)->doom = kill;
        break;
      case StepKind::kPauseDaemon:
        cluster_.daemon(step.actor)->doom = {Fate::kPause, step.a,
                                             milliseconds(5 * step.b)};
        break;
      case StepKind::kDepose:
        return Depose(step);
      case StepKind::kPowerOff:
        cluster_.daemon(step.actor)->doom = {Fate::kPowerOff, step.a,
                                             milliseconds(step.b)};
        break;
      case StepKind::kStopDaemon:
        cluster_.StopDaemon(step.actor, milliseconds(step.b));
        break;
      case StepKind::kCutDaemon:
        cluster_.Cut(cluster_.daemon(step.actor));
        break;
      case StepKind::kQuiesce:
        return Quiesce();
      case StepKind::kDrain:
        Quiesce();
        return Drain();
      default:
        return Pass(milliseconds(step.b));
    }
  }

  /// A daemon stands still until another node leads the catalog, if it led it. When it
  /// goes on, a table waits to be put there under a name that another node has just put.
  void Depose(const Step& step) {
    cluster_.daemon(step.actor)->doom = {Fate::kPause, 1, kPatience};
    Pass(kDeposeTime);
    const auto replace_on = [&](uint32_t node) -> Client& {
      Client& client = ClientAt(node);
      Step put = step;
      put.kind = StepKind::kReplace;
      put.actor = node;
      client.Post(put);
      return client;
    };
    const uint32_t other = (step.actor + 1) % cluster_.schedule().nodes;
    replace_on(other);
    TurnUntil([&] { return clients_[other] == nullptr || clients_[other]->is_idle(); });
    replace_on(step.actor);
    for (int i = 0; i < kStepsOfAPut; ++i) kernel_.RunOne();
    Heal(cluster_.daemon(step.actor));
    cluster_.NoteDisturbance();
  }

  /// A doom comes true.
  void Befall(Process* process, const Process::Doom& doom) {
    if (doom.fate == Fate::kPause) {
      cluster_.Say(process->name + " pauses at " + std::string(process->last_point));
      process->paused_until = kernel_.Now() + doom.duration;
      return cluster_.NoteDisturbance();
    }
    for (uint32_t k = 0; k < cluster_.schedule().nodes; ++k) {
      if (cluster_.daemon(k) != process) continue;
      if (doom.fate == Fate::kKill) return cluster_.KillDaemon(k, doom.duration);
      for (auto& client : clients_) {
        if (client != nullptr && client->node() == k) KillClient(&client);
      }
      return cluster_.PowerOff(k, doom.duration);
    }
    for (auto& client : clients_) {
      if (client != nullptr && client->process() == process) KillClient(&client);
    }
  }

  void KillClient(std::unique_ptr<Client>* client) {
    cluster_.Say("killed: " + (*client)->Doing());
    (*client)->Abandon();
    kernel_.Kill((*client)->process());
    // What it owned is gone with its process: nobody runs its destructors.
    [[maybe_unused]] Client* const lost = client->release();
  }

  /// Everybody is well, nobody does anything: each name and handle leads to what it must.
  void Quiesce() {
    for (uint32_t k = 0; k < cluster_.schedule().nodes; ++k) {
      Heal(cluster_.daemon(k));
    }
    for (const auto& client : clients_) {
      if (client != nullptr) Heal(client->process());
    }
    cluster_.HurryStarts();
    TurnUntil([this] { return cluster_.AllUp(); });
    for (const auto& client : clients_) {
      if (client == nullptr) continue;
      client->PostCheck([](Client* self) { self->Disconnect(); });
    }
    TurnUntil([this] {
      for (const auto& client : clients_) {
        if (client != nullptr && !client->is_idle()) return false;
      }
      return true;
    });
    Pass(kQuietTime);
    cluster_.model().Quiet();
    for (uint32_t k = 0; k < cluster_.schedule().nodes; ++k) {
      Check(k, [this](Client* checker) { CheckAll(checker); });
    }
  }
  static void Heal(Process* process) {
    process->doom.reset();
    process->paused_until = Time(0);
  }

  /// \brief Run `check` in a process of its own on `node`.
  void Check(uint32_t node, const std::function<void(Client*)>& check) {
    Client checker(&cluster_, "checker on node " + std::to_string(node), node);
    bool is_done = false;
    checker.PostCheck([&](Client* self) {
      check(self);
      self->Disconnect();
      is_done = true;
    });
    TurnUntil([&] { return is_done && checker.is_idle(); });
    kernel_.Kill(checker.process());
  }

  void CheckAll(Client* checker) {
    if (!checker->Connect()) cluster_.Fail("the checker cannot connect");
    Model& model = cluster_.model();
    for (auto& [name, state] : model.names) {
      const auto found = checker->Look(name);
      if (!found) cluster_.Fail("'" + name + "' cannot be read when all is quiet");
      state.Settle(*found);
    }
    for (size_t i = 0; i < model.handles.size(); ++i) {
      if (model.handles[i].life != Life::kGone) CheckHandle(checker, i);
    }
  }
  void CheckHandle(Client* checker, size_t index) {
    HandleModel& handle = cluster_.model().handles[index];
    if (handle.life == Life::kDoubtful) {
      const arrow::Status opened = checker->store()->Open(handle.handle).status();
      const bool is_there = opened.ok() || IsDamaged(opened);
      handle.life = is_there ? Life::kAlive : Life::kGone;
      handle.keep = handle.keep_is_known = true;
    }
    if (handle.life == Life::kAlive) checker->OpenHandle(index);
  }

  /// All is removed: nothing may be left.
  void Drain() {
    Check(0, [this](Client* checker) {
      if (!checker->Connect()) cluster_.Fail("the checker cannot connect");
      for (auto& [name, state] : cluster_.model().names) {
        if (state.possible() == std::set<ContentId>{kNothing}) continue;
        const arrow::Status removed = checker->store()->Remove(name);
        if (!removed.ok())
          cluster_.Fail("remove of '" + name + "': " + removed.ToString());
        state.Settle(kNothing);
      }
      for (const HandleModel& handle : cluster_.model().handles) {
        if (handle.life == Life::kGone) continue;
        const arrow::Status dropped = checker->store()->Drop(handle.handle);
        const bool may_be_gone =
            handle.life == Life::kDoubtful && IsStaleGeneration(dropped);
        if (!dropped.ok() && !may_be_gone) cluster_.Fail("drop: " + dropped.ToString());
      }
    });
    cluster_.model().handles.clear();
    Client inspector(&cluster_, "inspector", 0);
    bool is_done = false;
    inspector.PostCheck([&](Client*) {
      ExpectNothingLeft();
      is_done = true;
    });
    TurnUntil([&] { return is_done && inspector.is_idle(); });
    kernel_.Kill(inspector.process());
    for (uint32_t k = 0; k < cluster_.schedule().nodes; ++k) {
      for (uint32_t segment = 0; segment < cluster_.schedule().nodes; ++segment) {
        const std::string dirty = Machine::Get().FindDirtyData(k, segment);
        if (!dirty.empty()) {
          cluster_.Fail("memory is free that a cache may still write to: " + dirty);
        }
      }
    }
  }

  /// What of `node` is in use, "" if nothing is.
  static std::string Leftovers(const region::Region& region, uint32_t node) {
    const NodeInfo info = client::LoadNodeInfo(region, node);
    if (info.state != "up") return "it is " + info.state;
    if (info.used_bytes == 0 && info.objects == 0 && info.sessions == 0 &&
        info.largest_free_bytes == info.size_bytes) {
      return "";
    }
    return std::to_string(info.used_bytes) + " bytes used, " +
           std::to_string(info.objects) + " objects, " + std::to_string(info.sessions) +
           " sessions, largest free range " + std::to_string(info.largest_free_bytes);
  }

  void ExpectNothingLeft() {
    const auto region =
        region::Region::Attach(cluster_.schedule().config,
                               {NodeId{0}, region::Role::kClient, /*relocate=*/true})
            .ValueOrDie();
    const Time deadline = kernel_.Now() + kReclaimPatience;
    for (uint32_t k = 0; k < cluster_.schedule().nodes; ++k) {
      for (std::string left = Leftovers(*region, k); !left.empty();
           left = Leftovers(*region, k)) {
        if (kernel_.Now() > deadline) {
          cluster_.Fail("node " + std::to_string(k) + " leaks: " + left);
        }
        platform::SleepFor(milliseconds(100));
      }
    }
    const auto leases = lease::CountLeases(*region);
    if (!leases.ok() || !leases->empty()) cluster_.Fail("leases are left");
  }

  Kernel& kernel_ = Kernel::Get();
  Cluster cluster_;
  std::vector<std::unique_ptr<Client>> clients_;  ///< By slot; null once killed.
};

}  // namespace

void Run(const Schedule& schedule, const std::string& folder, bool is_verbose) {
  // Never destroyed: processes are cut off, not ended.
  (new Runner(schedule, folder, is_verbose))->Run();
}

}  // namespace sheaf::simulation
