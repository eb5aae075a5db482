// The schedule of a run: steps drawn from a seed, before anything runs, so that any of
// them can be left out.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "region/cluster_config.h"

namespace sheaf::simulation {

enum class StepKind : uint8_t {
  // Of a client.
  kPut,
  kReplace,
  kGet,
  kVerify,
  kRelease,
  kRemove,
  kShare,
  kOpen,
  kDrop,
  kKeep,
  kForget,
  kClose,
  // Done to somebody.
  kKillClient,
  kPauseClient,
  kCutClient,
  kKillDaemon,
  kPauseDaemon,
  kDepose,  ///< A pause until another node leads the catalog, if that daemon led it.
  kStopDaemon,
  kCutDaemon,
  kPowerOff,
  // Of the whole.
  kWait,
  kQuiesce,
  kDrain,
};
constexpr int kClientSteps = static_cast<int>(StepKind::kKillClient);

/// \brief One step. What `a`, `b` and `c` mean depends on the kind: which name or table,
/// how large, at which of its next steps somebody dies and for how long.
struct Step {
  uint32_t id = 0;  ///< Its place in the whole schedule; seeds what chance does after it.
  StepKind kind = StepKind::kWait;
  uint32_t actor = 0;
  uint32_t a = 0;
  uint32_t b = 0;
  uint32_t c = 0;
  uint32_t gap = 0;  ///< Turns of processes before the next step.

  bool is_of_client() const { return static_cast<int>(kind) < kClientSteps; }
};

std::string ToString(const Step& step);

/// \brief One cluster, and what happens to it.
struct Schedule {
  uint64_t seed = 0;
  uint32_t nodes = 2;
  uint32_t clients = 4;
  uint64_t switch_period = 3;
  uint64_t slow_messages = 50;
  region::ClusterConfig config;  ///< Without folders.
  std::vector<Step> steps;
};

/// \brief The schedule of `seed` with `num_steps` steps.
Schedule MakeSchedule(uint64_t seed, uint32_t num_steps);

/// \brief One line about the cluster.
std::string Describe(const Schedule& schedule);

}  // namespace sheaf::simulation
