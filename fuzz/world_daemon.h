// One daemon's services without event loop and sockets.

#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <arrow/result.h>

#include "base/check.h"
#include "daemon/catalog_client.h"
#include "daemon/home.h"
#include "daemon/home_client.h"
#include "daemon/home_life.h"
#include "daemon/membership.h"
#include "daemon/membership_client.h"
#include "daemon/node_lines.h"
#include "daemon/publisher.h"
#include "daemon/reader_leases.h"
#include "daemon/reclaimer.h"
#include "daemon/session_service.h"
#include "daemon/test_node.h"
#include "daemon/transport.h"
#include "directory/catalog.h"
#include "format/message.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::fuzz {

constexpr uint64_t kWorldBoot = 1;

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
      : life(daemon::NodeLines(&region->own_segment()).BeginLife(kWorldBoot)),
        home(daemon::Home::Make(region, &clock, life).ValueOrDie()),
        leader(Lead(region, home.get())),
        membership(region, &clock, life.incarnation, [](bool) { return uint64_t{0}; }),
        catalog(
            region, [this] { return leader.get(); }, &transport),
        reclaimer(region, home.get(), &transport, &clock),
        homes(region, home.get(), &catalog, &reclaimer, &transport, &clock),
        members(region, &membership, &reclaimer, &transport, /*arbiter=*/nullptr),
        publisher(region, home.get(), &catalog, &homes, &clock),
        service(home.get(), &homes, &members, &publisher, &reclaimer),
        leases(region, home.get()) {}

  static std::unique_ptr<directory::CatalogLeader> Lead(region::Region* region,
                                                        daemon::Home* home) {
    if (region->node() != NodeId{0}) return nullptr;
    // Versions of other epochs may be there: the next claim is above them.
    uint32_t granted = 0;
    for (;;) {
      const region::SegmentList segments = region::SegmentsOf(*region);
      const uint32_t epoch =
          directory::NextEpoch(segments, region->node(), granted).ValueOrDie();
      auto leader = directory::CatalogLeader::Begin([segments] { return segments; },
                                                    &home->directory(), epoch)
                        .ValueOrDie();
      arrow::Result<bool> leads = false;
      while (leads.ok() && !*leads) leads = leader->GoOn(UINT32_MAX);
      if (leads.ok()) return leader;
      SHEAF_CHECK(leader->granted_epoch() >= epoch);
      granted = leader->granted_epoch();
    }
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
  daemon::ReaderLeases leases;
};

}  // namespace sheaf::fuzz
