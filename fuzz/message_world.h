// Two nodes in one process, without sockets: one daemon's services, and the memory of a
// peer that has some tables. The same each time it is started.

#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <ios>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "base/check.h"
#include "daemon/home.h"
#include "daemon/home_life.h"
#include "daemon/log.h"
#include "daemon/node_lines.h"
#include "daemon/test_node.h"
#include "format/layout.h"
#include "format/message.h"
#include "fuzz/world_daemon.h"
#include "platform/test_folder.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/part_set.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::fuzz {

constexpr uint32_t kWorldNodes = 2;
constexpr uint32_t kWorldLeasePages = 8;
constexpr uint32_t kWorldEpoch = 2;  ///< Of the leader's first claim.

class World {
 public:
  World() {
    daemon::SetLogLevel(daemon::LogLevel::kOff);
    const region::ClusterConfig config = MakeConfig();
    for (uint32_t k = 0; k < kWorldNodes; ++k) Format(config, {k});
    for (uint32_t k = 0; k < kWorldNodes; ++k) {
      regions_[k] =
          region::Region::Attach(
              config, {.node = {k}, .role = region::Role::kDaemon, .relocate = true})
              .ValueOrDie();
    }
    for (const auto& home : regions_) {
      for (uint32_t k = 0; k < kWorldNodes; ++k) {
        region::StoreAdmitted(&home->own_segment(), {k}, /*incarnation=*/1);
      }
    }
    const Memory blank = Save();
    for (uint32_t k = 0; k < kWorldNodes; ++k) {
      Restore(blank);
      PutTables(1 - k);
      memory_[k] = Save();
    }
  }

  region::Region& region(uint32_t node) const { return *regions_[node]; }

  /// \brief The segment of `node` as good as new. The peer has one table named "peer",
  /// version 1, and one without a name.
  region::Region* Blank(uint32_t node) {
    Restore(memory_[node]);
    return regions_[node].get();
  }

  /// \brief The daemon of `node`, new on a blank segment.
  std::unique_ptr<WorldDaemon> Start(uint32_t node) {
    return std::make_unique<WorldDaemon>(Blank(node));
  }
  /// \brief The daemon of `node` that follows on one that died, which is gone.
  std::unique_ptr<WorldDaemon> StartAgain(uint32_t node) const {
    auto daemon = std::make_unique<WorldDaemon>(regions_[node].get());
    daemon->publisher.Recover();
    return daemon;
  }

 private:
  /// Control and leases parts of all nodes, one after the other.
  using Memory = std::vector<std::vector<uint8_t>>;

  region::ClusterConfig MakeConfig() const {
    region::ClusterConfig config;
    config.name = "fuzz";
    config.cluster_id = 0x5EAF;
    config.backend = region::Backend::kFile;
    config.nodes = kWorldNodes;
    config.nodes_max = kWorldNodes;
    config.memory_folder = folder_.path() + "/memory";
    config.runtime_folder = folder_.path() + "/run";
    config.segment_size_bytes = 4 * format::kExtentBytes;
    config.slots_max = 64;
    config.lease_pages_max = kWorldLeasePages;
    config.records_size_bytes = 32768;
    return config;
  }

  /// With an epoch that does not depend on the clock: it is in every generation.
  static void Format(const region::ClusterConfig& config, NodeId node) {
    SHEAF_CHECK(region::FormatSegment(config, node).ok());
    const SegmentId segment{node.value};
    const auto header = region::MakeHeader(config, segment, /*format_epoch=*/7);
    std::fstream file(PartPath(config, segment, region::PartKind::kControl),
                      std::ios::binary | std::ios::in | std::ios::out);
    file.write(reinterpret_cast<const char*>(&header), sizeof(header));
    SHEAF_CHECK(file.flush().good());
  }

  void PutTables(uint32_t node) {
    WorldDaemon maker(regions_[node].get());
    const uint64_t session = maker.home->OpenSession().ValueOrDie().id;
    const auto grant = maker.home->Grant(session, format::kSmallExtentBytes).ValueOrDie();
    daemon::SealInput input;
    input.descriptor =
        daemon::DescribeRanges(*regions_[node], {{{{node}, grant.extent.offset}, 4096}});
    input.keep = true;
    SHEAF_CHECK(maker.home->Seal(session, input).ok());
    input.name = "peer";
    const ObjectId object = maker.home->Seal(session, input).ValueOrDie();
    directory::HomeDirectory& directory = maker.home->directory();
    SHEAF_CHECK(directory.SetVersion(object, kWorldEpoch, 1).ok());
    SHEAF_CHECK(directory.Bind(object).ok());
    if (maker.leader == nullptr) return;
    SHEAF_CHECK(maker.leader->Commit("peer", object, {kWorldEpoch, 1}).ok());
  }

  std::vector<region::Part*> Parts() const {
    std::vector<region::Part*> parts;
    for (const auto& region : regions_) {
      parts.push_back(&region->own_segment().control());
      parts.push_back(&region->own_segment().leases());
    }
    return parts;
  }
  Memory Save() const {
    Memory memory;
    for (const region::Part* part : Parts()) {
      memory.emplace_back(part->data(), part->data() + part->size_bytes());
    }
    return memory;
  }
  void Restore(const Memory& memory) const {
    const auto parts = Parts();
    for (size_t i = 0; i < parts.size(); ++i) {
      std::memcpy(parts[i]->data(), memory[i].data(), memory[i].size());
    }
  }

  platform::TestFolder folder_;
  std::array<std::shared_ptr<region::Region>, kWorldNodes> regions_;
  std::array<Memory, kWorldNodes> memory_;  ///< Before `Start` of that node.
};

}  // namespace sheaf::fuzz
