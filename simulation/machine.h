// The hardware of a simulated cluster: nodes that boot and lose power, and their caches.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "region/cluster_config.h"
#include "region/part_set.h"
#include "sheaf/types.h"
#include "simulation/kernel.h"

namespace sheaf::simulation {

/// \brief Caches are those of the incoherent simulator (region/sim_memory.h), in files.
/// One per program.
class Machine {
 public:
  static Machine& Get();

  void Build(const region::ClusterConfig& config);
  const region::ClusterConfig& config() const { return config_; }
  uint64_t BootNumberOf(uint32_t node) const { return boots_[node]; }

  /// \brief The caches of `node` are gone: what had left them arrives, of the rest some
  /// lines had been written back by chance. Its local memory is empty. Its processes must
  /// be dead.
  void PowerOff(uint32_t node);

  /// \brief The data lines of `segment` that `node` has stored to and not written back;
  /// "" if there are none, else where the first is.
  std::string FindDirtyData(uint32_t node, uint32_t segment) const;

 private:
  void DropCaches(uint32_t node, SegmentId segment, region::PartKind kind);

  region::ClusterConfig config_;
  std::vector<uint64_t> boots_;
};

}  // namespace sheaf::simulation
