// A cluster that outlives victims: what there is on it, and whether all of it is right.

#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <fmt/format.h>

#include "daemon/live_check.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "lease/lease.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/sheaf.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "tests/holdings.h"
#include "tests/seeded_table.h"
#include "tests/table_check.h"
#include "tests/victim_parts.h"
#include "tests/victim_session.h"

namespace sheaf::testing {

/// A cluster with tables, and a session on each of two nodes that only looks.
class Survivors {
 public:
  static arrow::Result<std::unique_ptr<Survivors>> Start(const Setting& setting) {
    auto survivors = std::make_unique<Survivors>();
    TestClusterOptions options;
    options.nodes = setting.nodes;
    options.config_toml = std::string(kSmall) + setting.config;
    options.others_may_enter = setting.others_may_enter;
    options.daemon_path = SHEAFD_BINARY;
    ARROW_ASSIGN_OR_RAISE(survivors->cluster_, TestCluster::Start(options));
    ARROW_RETURN_NOT_OK(survivors->PutTables(setting.nodes));
    ARROW_ASSIGN_OR_RAISE(const auto config,
                          region::ClusterConfig::Load(
                              region::ClusterFilePath(survivors->cluster_->name())));
    for (uint32_t k = 0; k < kNodes; ++k) {
      ARROW_ASSIGN_OR_RAISE(survivors->stores_.emplace_back(),
                            survivors->cluster_->Connect(k));
      ARROW_ASSIGN_OR_RAISE(survivors->regions_.emplace_back(), AttachAs(config, k));
    }
    const auto is_quiet = [&] {
      const auto now = survivors->Look();
      if (!now.ok()) return false;
      uint32_t sessions = 0;
      for (const auto& node : now->nodes) sessions += node.sessions;
      return sessions == kNodes;
    };
    if (!Eventually(is_quiet)) return arrow::Status::Invalid("sessions do not end");
    ARROW_RETURN_NOT_OK(survivors->CheckTables());
    ARROW_ASSIGN_OR_RAISE(survivors->before_, survivors->Look());
    return survivors;
  }

  const std::string& name() const { return cluster_->name(); }
  std::string log() const { return cluster_->folder() + "/victim.log"; }
  const TestCluster& cluster() const { return *cluster_; }
  const region::ClusterConfig& config() const { return regions_[0]->config(); }
  /// The session that only looks.
  Store& store(uint32_t node) const { return *stores_[node]; }

  /// True if nobody has a session at `node` but the one that looks.
  bool HasNoGuest(uint32_t node) const {
    const auto nodes = stores_[0]->Nodes();
    return nodes.ok() && (*nodes)[node].sessions == 1;
  }

  /// OK if every table, from each node that looks, holds in memory what it should.
  arrow::Status CheckTables() const {
    for (uint32_t k = 0; k < kNodes; ++k) {
      ARROW_RETURN_NOT_OK(CheckTablesFrom(*regions_[k], stores_[k].get()));
    }
    return arrow::Status::OK();
  }

  /// OK if others put, open and remove as if nobody had stopped. What a node holds where
  /// no session looks, one that has just come sees.
  arrow::Status UseAll() const {
    for (uint32_t k = 0; k < config().nodes; ++k) {
      ARROW_ASSIGN_OR_RAISE(const auto store, cluster_->Connect(k));
      ARROW_RETURN_NOT_OK(store->Put("other", *SeededTable(20 + k, 400)).status());
      Store& looks = *stores_[k == 0 ? 1 : 0];
      ARROW_ASSIGN_OR_RAISE(const auto opened, looks.Get("other"));
      ARROW_RETURN_NOT_OK(CheckSeededTable(*opened));
      ARROW_RETURN_NOT_OK(looks.Remove("other"));
      if (k < kNodes) continue;
      ARROW_ASSIGN_OR_RAISE(const auto region, AttachAs(config(), k));
      ARROW_RETURN_NOT_OK(CheckTablesFrom(*region, store.get()));
    }
    return CheckTables();
  }

  /// OK if all that is left of a victim are tables that it put or was told to keep; and
  /// when those are removed, everything is as it was.
  arrow::Status AwaitAllBack() const {
    const auto sessions_end = [&] {
      const auto now = Look();
      return now.ok() &&
             std::ranges::equal(now->nodes, before_.nodes, {}, &Holdings::Node::sessions,
                                &Holdings::Node::sessions);
    };
    if (!Eventually(sessions_end)) return arrow::Status::Invalid("its session stays");
    ARROW_RETURN_NOT_OK(CheckTables());
    arrow::Status status;
    const bool all_back = Eventually([&] {
      status = RemoveRemains();  // A publish may be under way: it comes later.
      const auto now = Look();
      if (!status.ok() || !now.ok()) return false;
      if (*now == before_) return true;
      status = arrow::Status::Invalid("there is: ", now->ToString(),
                                      "; there was: ", before_.ToString());
      return false;
    });
    if (!all_back) return status;
    ARROW_RETURN_NOT_OK(CheckTables());
    ARROW_ASSIGN_OR_RAISE(const auto problems, daemon::CheckLiveCluster(config()));
    if (problems.empty()) return arrow::Status::OK();
    return arrow::Status::Invalid("sheaf doctor: ", problems.front());
  }

 private:
  arrow::Status PutTables(uint32_t nodes) const {
    std::vector<std::shared_ptr<Store>> stores;
    for (uint32_t k = 0; k < nodes; ++k) {
      ARROW_ASSIGN_OR_RAISE(stores.emplace_back(), cluster_->Connect(k));
      const std::string name = "base/" + std::to_string(k);
      ARROW_RETURN_NOT_OK(stores[k]->Put(name, *SeededTable(10 + k, 1000)).status());
    }
    ARROW_ASSIGN_OR_RAISE(const auto foreign, stores[1]->Get("base/0"));
    ARROW_ASSIGN_OR_RAISE(const auto receipt, stores[1]->Put("base/foreign", *foreign));
    if (receipt.bytes_copied != 0) return arrow::Status::Invalid("bytes were copied");
    // Built side by side: each put of private memory would have an extent for itself.
    std::vector<std::shared_ptr<arrow::Table>> many;
    for (uint64_t i = 0; i < kMany; ++i) {
      const uint64_t seed = 1000 + i;
      many.push_back(SeededTable(seed, 1, stores[0]->memory_pool()));
      ARROW_RETURN_NOT_OK(
          stores[0]->Put(kManyNames + std::to_string(i), *many.back()).status());
    }
    return arrow::Status::OK();
  }

  arrow::Result<Holdings> Look() const {
    return LookAtHoldings(stores_[0].get(), *regions_[0]);
  }

  arrow::Status RemoveRemains() const {
    ARROW_ASSIGN_OR_RAISE(const auto staged, ListStagedParts(stores_[0]));
    for (const StagedParts& parts : staged) {
      ARROW_RETURN_NOT_OK(AbortParts(stores_[0], parts.name));
    }
    // Whoever comes next takes the arrivals of the dead away.
    ARROW_RETURN_NOT_OK(Barrier(stores_[0], kVictimBarrier, 1, {}));
    ARROW_ASSIGN_OR_RAISE(const auto infos, stores_[0]->List());
    for (const TableInfo& info : infos) {
      if (!info.name.starts_with(kVictimNames)) continue;
      const arrow::Status removed = stores_[0]->Remove(info.name);
      if (!removed.IsKeyError()) ARROW_RETURN_NOT_OK(removed);
    }
    for (uint32_t k = 0; k < config().nodes; ++k) {
      const region::Segment& segment = *regions_[0]->segment({k});
      for (uint32_t slot = 0; slot < directory::SlotsUsed(segment); ++slot) {
        ARROW_ASSIGN_OR_RAISE(const auto line, directory::ReadSlot(segment, slot));
        if ((line.flags & format::kSlotKept) == 0 || !directory::IsReadable(line))
          continue;
        ARROW_RETURN_NOT_OK(stores_[0]->Drop(
            Handle{stores_[0]->cluster_id(), ObjectId{{k}, slot, line.generation}}));
      }
    }
    return arrow::Status::OK();
  }

  std::unique_ptr<TestCluster> cluster_;
  std::vector<std::shared_ptr<region::Region>> regions_;  ///< As each node sees it.
  std::vector<std::shared_ptr<Store>> stores_;
  Holdings before_;
};

}  // namespace sheaf::testing
