#include "simulation/machine.h"

#include <cstdint>
#include <cstring>
#include <string>

#include "base/check.h"
#include "platform/file.h"
#include "region/cluster_config.h"
#include "region/part_set.h"
#include "region/region.h"
#include "region/sim_memory.h"
#include "region/sim_posted.h"
#include "region/sim_state.h"
#include "sheaf/types.h"
#include "simulation/kernel.h"

namespace sheaf::simulation {
namespace {

/// One dirty line in so many had been written back when the power went.
constexpr uint64_t kWrittenBackOneIn = 4;

platform::Mapping MapFile(const std::string& path) {
  const auto fd = platform::OpenFile(path, platform::Access::kReadWrite).ValueOrDie();
  const uint64_t size_bytes = platform::FileSize(fd.get()).ValueOrDie();
  return platform::Mapping::Map(fd.get(), size_bytes, platform::Access::kReadWrite)
      .ValueOrDie();
}

}  // namespace

Machine& Machine::Get() {
  static auto* const kMachine = new Machine();
  return *kMachine;
}

void Machine::Build(const region::ClusterConfig& config) {
  config_ = config;
  boots_.assign(config.nodes, 1);
}

void Machine::PowerOff(uint32_t node) {
  ++boots_[node];
  for (uint32_t k = 0; k < config_.nodes; ++k) {
    for (const region::PartKind kind :
         {region::PartKind::kControl, region::PartKind::kLeases,
          region::PartKind::kData}) {
      DropCaches(node, {k}, kind);
    }
  }
  SHEAF_CHECK(platform::RemoveFile(config_.runtime_folder + "/node" +
                                   std::to_string(node) + ".notes")
                  .ok());
}

void Machine::DropCaches(uint32_t node, SegmentId segment, region::PartKind kind) {
  const region::SimFiles files =
      region::SimFilesOf(region::PartPath(config_, segment, kind), config_.nodes);
  if (!platform::OpenFile(files.truth, platform::Access::kRead).ok()) return;
  const platform::Mapping truth = MapFile(files.truth);
  const platform::Mapping image = MapFile(files.images[node]);
  const platform::Mapping shadow = MapFile(files.shadows[node]);
  const region::SimState state = region::SimState::Open(files.state).ValueOrDie();
  const uint64_t line_bytes = config_.sim.line_bytes;
  region::SimPosted(&state.node(node), truth.data(), line_bytes,
                    config_.sim.posted ? region::kSimPostedMax : 1)
      .ArriveAll();
  state.node(node).intent = 0;
  Random& random = Kernel::Get().random();
  for (uint64_t at = 0; at < truth.size_bytes(); at += line_bytes) {
    const bool is_dirty =
        std::memcmp(image.data() + at, shadow.data() + at, line_bytes) != 0;
    if (is_dirty && random.OneIn(kWrittenBackOneIn)) {
      std::memcpy(truth.data() + at, image.data() + at, line_bytes);
    }
    for (const platform::Mapping* cache : {&image, &shadow}) {
      // Not all of it: most was never used, and takes no memory.
      if (std::memcmp(cache->data() + at, truth.data() + at, line_bytes) == 0) continue;
      std::memcpy(cache->data() + at, truth.data() + at, line_bytes);
    }
  }
}

std::string Machine::FindDirtyData(uint32_t node, uint32_t segment) const {
  const region::SimFiles files = region::SimFilesOf(
      region::PartPath(config_, {segment}, region::PartKind::kData), config_.nodes);
  const platform::Mapping image = MapFile(files.images[node]);
  const platform::Mapping shadow = MapFile(files.shadows[node]);
  const uint64_t line_bytes = config_.sim.line_bytes;
  for (uint64_t at = 0; at < image.size_bytes(); at += line_bytes) {
    if (std::memcmp(image.data() + at, shadow.data() + at, line_bytes) != 0) {
      return "offset " + std::to_string(at) + " of segment " + std::to_string(segment) +
             " in the caches of node " + std::to_string(node);
    }
  }
  return "";
}

}  // namespace sheaf::simulation
