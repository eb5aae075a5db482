// `simulate`: many schedules, or one of them again (docs/simulation.md).

#include <sys/personality.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "simulation/scale.h"
#include "simulation/steps.h"
#include "simulation/trials.h"

namespace {

using sheaf::simulation::Finding;
using sheaf::simulation::Schedule;
using sheaf::simulation::Step;

constexpr int kExitFound = 1;
constexpr int kExitUsage = 2;
constexpr std::chrono::seconds kShrinkTime{120};

constexpr const char* kUsage = R"(usage: simulate [options]
  --seeds N      schedules to try (200)
  --first S      the first seed (1)
  --ops N        steps in all (1000000), the same number for each seed
  --jobs N       processes at a time (one for each processor)
  --seed S       only this one, and say what happens; --ops is of this one then
  --only LIST    with --seed: leave out all steps but these (1,2,5)
  --planted      something is wrong with this program: exit status 0 once that is found
  --no-shrink    do not look for a shorter schedule that fails
  --scale N      no schedule: N nodes, and what things cost in lines and messages
  --tables T     with --scale: how many (20 for each node)
  --rings        with --scale, of 16 nodes at most: messages through rings
)";

struct Options {
  uint64_t seeds = 200;
  uint64_t first = 1;
  uint64_t ops = 1'000'000;
  uint32_t jobs = std::max(1U, std::thread::hardware_concurrency());
  std::optional<uint64_t> seed;
  std::string only;
  bool is_planted = false;
  bool shrinks = true;
  sheaf::simulation::ScaleOptions scale{.nodes = 0, .tables = 0};
};

[[noreturn]] void EndWithUsage() {
  std::fputs(kUsage, stderr);
  std::exit(kExitUsage);  // NOLINT(concurrency-mt-unsafe): there is one thread
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--planted") {
      options.is_planted = true;
      continue;
    }
    if (name == "--no-shrink") {
      options.shrinks = false;
      continue;
    }
    if (name == "--rings") {
      options.scale.rings = true;
      continue;
    }
    if (i + 1 == argc) EndWithUsage();
    if (name == "--only") {
      options.only = argv[++i];
      continue;
    }
    char* end = nullptr;
    const uint64_t value = std::strtoull(argv[++i], &end, 10);
    if (*end != '\0') EndWithUsage();
    if (name == "--seeds") {
      options.seeds = value;
    } else if (name == "--first") {
      options.first = value;
    } else if (name == "--ops") {
      options.ops = value;
    } else if (name == "--jobs") {
      options.jobs = static_cast<uint32_t>(value);
    } else if (name == "--seed") {
      options.seed = value;
    } else if (name == "--scale") {
      options.scale.nodes = static_cast<uint32_t>(value);
    } else if (name == "--tables") {
      options.scale.tables = static_cast<uint32_t>(value);
    } else {
      EndWithUsage();
    }
  }
  if (options.seed) options.seeds = 1;
  constexpr uint32_t kTablesPerNode = 20;
  sheaf::simulation::ScaleOptions& scale = options.scale;
  if (scale.tables == 0) scale.tables = kTablesPerNode * scale.nodes;
  // The leader and one more node die, and the first tables of all are removed.
  const bool is_small = scale.nodes < 4 || scale.tables <= scale.nodes;
  // A ring of each pair, in the image that each node has of it: gigabytes.
  constexpr uint32_t kNodesWithRingsMax = 16;
  const bool is_large = scale.rings && scale.nodes > kNodesWithRingsMax;
  if (scale.nodes != 0 && (is_small || is_large)) EndWithUsage();
  if (options.seeds == 0 || options.jobs == 0 || options.ops < options.seeds) {
    EndWithUsage();
  }
  return options;
}

/// A schedule runs the same each time: addresses are part of it.
void FixAddresses(char** argv) {
  const int old = ::personality(0xFFFFFFFF);
  if (old < 0 || (old & ADDR_NO_RANDOMIZE) != 0) return;
  if (::personality(static_cast<unsigned>(old) | ADDR_NO_RANDOMIZE) < 0) return;
  ::execv("/proc/self/exe", argv);
}

/// Those of its steps whose ids are in `list`.
Schedule Only(Schedule schedule, const std::string& list) {
  if (list.empty()) return schedule;
  const std::string ids = "," + list + ",";
  std::erase_if(schedule.steps, [&ids](const Step& step) {
    return ids.find("," + std::to_string(step.id) + ",") == std::string::npos;
  });
  return schedule;
}

std::string IdsOf(const Schedule& schedule) {
  std::string ids;
  for (const Step& step : schedule.steps) {
    ids += (ids.empty() ? "" : ",") + std::to_string(step.id);
  }
  return ids;
}

void Print(const Schedule& schedule) {
  std::printf("%zu steps, %s:\n", schedule.steps.size(),
              sheaf::simulation::Describe(schedule).c_str());
  for (const auto& step : schedule.steps) {
    std::printf("  %s\n", sheaf::simulation::ToString(step).c_str());
  }
}

void Explain(const Finding& finding, uint32_t ops, bool shrinks) {
  std::printf("%s", finding.verdict.text.c_str());
  const auto seed = static_cast<unsigned long long>(finding.seed);
  std::printf("again: simulate --seed %llu --ops %u\n", seed, ops);
  if (!shrinks) return;
  std::fflush(stdout);
  const Schedule shortest = sheaf::simulation::Shrink(
      sheaf::simulation::MakeSchedule(finding.seed, ops), kShrinkTime);
  Print(shortest);
  std::printf("again: simulate --seed %llu --ops %u --only %s\n%s", seed, ops,
              IdsOf(shortest).c_str(),
              sheaf::simulation::Try(shortest, false).text.c_str());
}

int TryMany(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  const auto ops = static_cast<uint32_t>(options.ops / options.seeds);
  uint64_t done = 0;
  const auto finding = sheaf::simulation::TrySeeds(
      options.first, options.seeds, ops, options.jobs, [&done](uint64_t n) { done = n; });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const uint64_t operations = done * ops;
  std::printf("%llu operations, %llu seeds, %.1f s, %.0f operations/s: %s\n",
              static_cast<unsigned long long>(operations),
              static_cast<unsigned long long>(done), seconds,
              static_cast<double>(operations) / seconds,
              finding ? "something is wrong" : "nothing is wrong");
  if (finding) Explain(*finding, ops, options.shrinks && !options.is_planted);
  return finding.has_value() == options.is_planted ? 0 : kExitFound;
}

}  // namespace

int main(int argc, char** argv) {
  FixAddresses(argv);
  const Options options = Parse(argc, argv);
  if (options.scale.nodes != 0) {
    const auto verdict = sheaf::simulation::TryIn([&](const std::string& folder) {
      sheaf::simulation::RunScale(options.scale, folder);
    });
    std::printf("%s", verdict.text.c_str());
    return verdict.is_good ? 0 : kExitFound;
  }
  if (!options.seed) return TryMany(options);
  const Schedule schedule = Only(
      sheaf::simulation::MakeSchedule(*options.seed, static_cast<uint32_t>(options.ops)),
      options.only);
  const auto verdict = sheaf::simulation::Try(schedule, true);
  std::printf("%s", verdict.text.c_str());
  return verdict.is_good ? 0 : kExitFound;
}
