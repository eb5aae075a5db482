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
#include "daemon/catalog_client.h"
#include "daemon/home.h"
#include "daemon/home_client.h"
#include "daemon/home_life.h"
#include "daemon/log.h"
#include "daemon/membership.h"
#include "daemon/membership_client.h"
#include "daemon/node_lines.h"
#include "daemon/publisher.h"
#include "daemon/reclaimer.h"
#include "daemon/session_service.h"
#include "daemon/test_node.h"
#include "daemon/transport.h"
#include "directory/catalog.h"
#include "format/layout.h"
#include "format/message.h"
#include "platform/test_folder.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/part_set.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::fuzz {

constexpr uint32_t kWorldNodes = 2;
constexpr uint32_t kWorldLeasePages = 8;
constexpr uint32_t kWorldEpoch = 2;  ///< Of the leader's first claim.

/// \brief Keeps requests to the peer until somebody answers.
class PendingTransport : public daemon::Transport {
 public:
  void Request(NodeId, std::vector<uint8_t> message,
               daemon::ReplyCallback done) override {
    SHEAF_CHECK(format::ParseMessage(message).ok());
    pending_.push_back(std::move(done));
  }
  void Serve(Handler) override {}

  /// \brief Answer the oldest request, if there is one.
  void Answer(const arrow::Result<const format::Message*>& reply) {
    if (pending_.empty()) return;
    const daemon::ReplyCallback done = std::move(pending_.front());
    pending_.erase(pending_.begin());
    done(reply);
  }
  bool has_pending() const { return !pending_.empty(); }

 private:
  std::vector<daemon::ReplyCallback> pending_;
};

/// \brief All of a daemon but its event loop and its sockets.
struct WorldDaemon {
  explicit WorldDaemon(region::Region* region)
      : life(daemon::NodeLines(&region->own_segment()).BeginLife(/*boot=*/1)),
        home(daemon::Home::Make(region, &clock, life).ValueOrDie()),
        leader(Lead(region, home.get())),
        membership(region, &clock, life.incarnation, [](bool) { return uint64_t{0}; }),
        catalog(leader.get(), &transport),
        reclaimer(region, home.get(), &transport, &clock),
        homes(region, home.get(), &catalog, &reclaimer, &transport),
        members(region, &membership, &reclaimer, &transport),
        publisher(region, home.get(), &catalog, &homes, &clock),
        service(home.get(), &homes, &members, &publisher, &reclaimer) {}

  static std::unique_ptr<directory::CatalogLeader> Lead(region::Region* region,
                                                        daemon::Home* home) {
    if (region->node() != daemon::kLeaderNode) return nullptr;
    const uint32_t epoch =
        directory::NextEpoch(region::SegmentsOf(*region), region->node()).ValueOrDie();
    return directory::CatalogLeader::Claim(region, &home->directory(), epoch)
        .ValueOrDie();
  }

  daemon::FakeScheduler clock;
  PendingTransport transport;
  daemon::HomeLife life;
  std::unique_ptr<daemon::Home> home;
  std::unique_ptr<directory::CatalogLeader> leader;  ///< Null but on node 0.
  daemon::Membership membership;
  daemon::CatalogClient catalog;
  daemon::Reclaimer reclaimer;
  daemon::HomeClient homes;
  daemon::MembershipClient members;
  daemon::Publisher publisher;
  daemon::SessionService service;
};

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
