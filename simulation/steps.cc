#include "simulation/steps.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "format/layout.h"
#include "region/cluster_config.h"
#include "simulation/kernel.h"

namespace sheaf::simulation {
namespace {

constexpr uint32_t kNames = 10;
constexpr uint32_t kStepsPerQuiesce = 400;

struct KindInfo {
  StepKind kind;
  const char* name;
  uint32_t weight;
};
constexpr auto kKinds = std::to_array<KindInfo>({
    {StepKind::kPut, "put", 14},
    {StepKind::kReplace, "replace", 12},
    {StepKind::kGet, "get", 26},
    {StepKind::kVerify, "verify", 8},
    {StepKind::kRelease, "release", 10},
    {StepKind::kRemove, "remove", 10},
    {StepKind::kShare, "share", 8},
    {StepKind::kOpen, "open", 10},
    {StepKind::kDrop, "drop", 5},
    {StepKind::kKeep, "keep", 4},
    {StepKind::kForget, "forget", 2},
    {StepKind::kClose, "close", 1},
    {StepKind::kKillClient, "kill-client", 8},
    {StepKind::kPauseClient, "pause-client", 5},
    {StepKind::kCutClient, "cut-client", 3},
    {StepKind::kKillDaemon, "kill-daemon", 5},
    {StepKind::kPauseDaemon, "pause-daemon", 4},
    {StepKind::kDepose, "depose", 1},
    {StepKind::kStopDaemon, "stop-daemon", 1},
    {StepKind::kCutDaemon, "cut-daemon", 2},
    {StepKind::kPowerOff, "power-off", 3},
    {StepKind::kWait, "wait", 0},
    {StepKind::kQuiesce, "quiesce", 0},
    {StepKind::kDrain, "drain", 0},
});

StepKind Draw(Random* random, bool of_client) {
  uint64_t sum = 0;
  for (size_t i = 0; i < kKinds.size(); ++i) {
    if ((static_cast<int>(i) < kClientSteps) == of_client) sum += kKinds[i].weight;
  }
  uint64_t at = random->Below(sum);
  for (size_t i = 0; i < kKinds.size(); ++i) {
    if ((static_cast<int>(i) < kClientSteps) != of_client) continue;
    if (at < kKinds[i].weight) return kKinds[i].kind;
    at -= kKinds[i].weight;
  }
  return StepKind::kWait;
}

region::ClusterConfig MakeConfig(uint32_t nodes, Random* random) {
  region::ClusterConfig config;
  config.name = "simulation";
  config.cluster_id = 0x5EAF;
  config.backend = region::Backend::kSim;
  config.nodes = nodes;
  config.nodes_max = nodes;
  config.segment_size_bytes = (1 + random->Below(2)) * format::kExtentBytes;
  config.slots_max = 128;
  config.lease_pages_max = 48;
  config.records_size_bytes = uint64_t{128} << 10;
  config.heartbeat_ms = 50;
  config.suspect_samples = 3;
  config.suspect_after_ms = 300;
  config.sim.seed = random->Next();
  config.sim.line_bytes = random->OneIn(4) ? 128 : 64;
  config.sim.chaos = random->OneIn(2);
  config.sim.posted = random->OneIn(3);
  // Longer than a reclaim waits by itself: who needs the grace is seen without it.
  config.posted_delay_us = random->OneIn(3) ? 1000 : 20'000;
  return config;
}

Step DrawStep(uint32_t id, const Schedule& schedule, bool is_fault, Random* random) {
  Step step;
  step.id = id;
  step.kind = Draw(random, !is_fault);
  const bool is_about_client =
      step.is_of_client() || step.kind == StepKind::kKillClient ||
      step.kind == StepKind::kPauseClient || step.kind == StepKind::kCutClient;
  step.actor = static_cast<uint32_t>(
      random->Below(is_about_client ? schedule.clients : schedule.nodes));
  step.a = static_cast<uint32_t>(random->Below(is_fault ? 80 : kNames));
  // Rows, or milliseconds: mostly few.
  step.b = static_cast<uint32_t>(1 + random->Below(random->OneIn(12) ? 2000 : 200));
  step.c = static_cast<uint32_t>(random->Below(256));
  step.gap =
      static_cast<uint32_t>(random->OneIn(3) ? random->Below(150) : random->Below(20));
  return step;
}

}  // namespace

std::string ToString(const Step& step) {
  std::string text = std::to_string(step.id) + ": ";
  text += kKinds[static_cast<size_t>(step.kind)].name;
  if (step.kind < StepKind::kKillDaemon) {
    text += " client " + std::to_string(step.actor);
  } else if (step.kind < StepKind::kWait) {
    text += " node " + std::to_string(step.actor);
  }
  return text + " a=" + std::to_string(step.a) + " b=" + std::to_string(step.b) +
         " c=" + std::to_string(step.c) + " gap=" + std::to_string(step.gap);
}

Schedule MakeSchedule(uint64_t seed, uint32_t num_steps) {
  Random random(seed * 0x9E3779B97F4A7C15 + 7);
  Schedule schedule;
  schedule.seed = seed;
  schedule.nodes = 2 + static_cast<uint32_t>(random.Below(2));
  schedule.clients = schedule.nodes * (1 + static_cast<uint32_t>(random.Below(2))) + 1;
  schedule.switch_period = 1 + random.Below(6);
  schedule.slow_messages = random.OneIn(3) ? 20 : 500;
  schedule.config = MakeConfig(schedule.nodes, &random);
  if (seed % 2 == 0) schedule.config.messages = region::Messages::kRings;
  constexpr std::array<uint64_t, 5> kFaultPeriods = {12, 30, 60, 150, 1'000'000};
  const uint64_t fault_period = kFaultPeriods[random.Below(kFaultPeriods.size())];
  for (uint32_t id = 0; id < num_steps; ++id) {
    if (id % kStepsPerQuiesce == kStepsPerQuiesce - 1) {
      Step step;
      step.id = id;
      step.kind = random.OneIn(2) ? StepKind::kDrain : StepKind::kQuiesce;
      schedule.steps.push_back(step);
      continue;
    }
    schedule.steps.push_back(DrawStep(id, schedule, random.OneIn(fault_period), &random));
  }
  Step last;
  last.id = num_steps;
  last.kind = StepKind::kDrain;
  schedule.steps.push_back(last);
  return schedule;
}

std::string Describe(const Schedule& schedule) {
  const region::ClusterConfig& config = schedule.config;
  return std::to_string(schedule.nodes) + " nodes, " + std::to_string(schedule.clients) +
         " clients, segments of " + region::FormatSize(config.segment_size_bytes) +
         ", lines of " + std::to_string(config.sim.line_bytes) +
         (config.sim.chaos ? ", chaos" : ", stale") +
         (config.sim.posted
              ? ", posted for " + std::to_string(config.posted_delay_us) + " us"
              : "") +
         ", messages over " + region::ToString(config.messages_kind());
}

}  // namespace sheaf::simulation
