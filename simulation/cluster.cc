#include "simulation/cluster.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "base/check.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "platform/file.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"
#include "simulation/kernel.h"
#include "simulation/machine.h"
#include "simulation/steps.h"

namespace sheaf::simulation {
namespace {

using std::chrono::milliseconds;

/// How long after a disturbance an operation may still begin that feels it: heartbeats,
/// withdrawal and return, a connection that is tried again.
constexpr std::chrono::seconds kAftermath{5};
/// A daemon that cannot start for this long, when all others are there, never will.
constexpr std::chrono::seconds kStartPatience{60};
constexpr milliseconds kStartRetryPeriod{20};

}  // namespace

Cluster::Cluster(const Schedule& schedule, const std::string& folder, bool is_verbose)
    : schedule_(schedule), is_verbose_(is_verbose), nodes_(schedule.nodes) {
  daemon::SetLogLevel(is_verbose ? daemon::LogLevel::kDebug : daemon::LogLevel::kOff);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread
  ::setenv("SHEAF_RUNTIME_DIR", (folder + "/run").c_str(), 1);
  region::ClusterConfig& config = schedule_.config;
  config.memory_folder = folder + "/memory";
  config.runtime_folder = folder + "/run/" + config.name;
  config.ApplyDefaults();
  SHEAF_CHECK(platform::MakePrivateFolder(config.memory_folder).ok());
  SHEAF_CHECK(platform::MakePrivateFolder(config.runtime_folder).ok());
  std::ofstream(region::ClusterFilePath(config.name)) << config.ToToml();
  Machine::Get().Build(config);
  for (uint32_t k = 0; k < nodes_.size(); ++k) StartDaemon(k, Time(0));
}

void Cluster::Say(const std::string& what) const {
  if (!is_verbose_) return;
  const Time now = Kernel::Get().Now();
  std::fprintf(stderr, "%14.6f ms  %s\n", static_cast<double>(now.count()) / 1e6,
               what.c_str());
}

void Cluster::Fail(const std::string& what) const {
  std::fprintf(stderr, "seed %llu, during step %s\n  %s\n",
               static_cast<unsigned long long>(schedule_.seed), step_.c_str(),
               what.c_str());
  std::_Exit(kExitViolation);
}

bool Cluster::IsUp(uint32_t node) const { return nodes_[node].server != nullptr; }

bool Cluster::AllUp() const {
  for (uint32_t k = 0; k < nodes_.size(); ++k) {
    if (!IsUp(k)) return false;
  }
  return true;
}

bool Cluster::WasDisturbed(Time since) const {
  if (last_disturbance_ + kAftermath > since || !AllUp()) return true;
  return std::ranges::any_of(nodes_, [since](const Node& node) {
    return node.process->paused_until + kAftermath > since;
  });
}

void Cluster::StartDaemon(uint32_t node, Time pause) {
  const Time start = Kernel::Get().Now() + pause;
  nodes_[node].process =
      Kernel::Get().Spawn("daemon of node " + std::to_string(node), node,
                          [this, node, start] { RunDaemon(node, start); });
}

void Cluster::RunDaemon(uint32_t node, Time start) {
  Kernel& kernel = Kernel::Get();
  kernel.SleepUntil(start);
  Say("node " + std::to_string(node) + " starts");
  nodes_[node].is_off = false;
  for (;;) {
    auto server =
        daemon::Server::Start({schedule_.config, NodeId{node}, /*relocate=*/true});
    if (server.ok()) {
      nodes_[node].server = server->get();
      NoteDisturbance();
      const arrow::Status ended = (*server)->Run();
      if (nodes_[node].server == server->get()) nodes_[node].server = nullptr;
      NoteDisturbance();
      if (!ended.ok()) Fail("a daemon ended with " + ended.ToString());
      return;
    }
    if (kernel.Now() > start + kStartPatience) {
      Fail("node " + std::to_string(node) +
           " cannot start: " + server.status().ToString());
    }
    kernel.SleepUntil(kernel.Now() + kStartRetryPeriod);
  }
}

void Cluster::KillDaemon(uint32_t node, Time pause) {
  NoteDisturbance();
  Say("node " + std::to_string(node) + " loses its daemon at " +
      std::string(nodes_[node].process->last_point));
  nodes_[node].server = nullptr;
  Kernel::Get().Kill(nodes_[node].process);
  StartDaemon(node, pause);
}

void Cluster::StopDaemon(uint32_t node, Time pause) {
  Node& stopped = nodes_[node];
  if (stopped.server == nullptr) return;
  NoteDisturbance();
  Say("node " + std::to_string(node) + " is told to end");
  stopped.server->Stop();
  stopped.server = nullptr;  // Told once: another start would be one too many.
  stopped.process->wake = Kernel::Get().Now();
  // It has its turn first: what it holds is locked until then.
  StartDaemon(node, std::max<Time>(pause, milliseconds(1)));
}

void Cluster::PowerOff(uint32_t node, Time pause) {
  NoteDisturbance();
  Say("node " + std::to_string(node) + " loses power at " +
      std::string(nodes_[node].process->last_point));
  nodes_[node].server = nullptr;
  Kernel::Get().Kill(nodes_[node].process);
  Machine::Get().PowerOff(node);
  nodes_[node].is_off = true;
  StartDaemon(node, pause);
}

void Cluster::HurryStarts() {
  for (const Node& node : nodes_) {
    if (node.server == nullptr) node.process->wake = Kernel::Get().Now();
  }
}

void Cluster::Cut(Process* process) {
  std::vector<int> connections;
  for (const int fd : Kernel::Get().FdsOf(process)) {
    struct sockaddr_storage peer{};
    socklen_t size = sizeof(peer);
    if (::getpeername(fd, reinterpret_cast<struct sockaddr*>(&peer), &size) == 0) {
      connections.push_back(fd);
    }
  }
  if (connections.empty()) return;
  Say("a connection of " + process->name + " breaks");
  NoteDisturbance();
  ::shutdown(connections[Kernel::Get().random().Below(connections.size())], SHUT_RDWR);
  Kernel::Get().NoteActivity();
}

}  // namespace sheaf::simulation
