// From a seal request to a table that everybody sees (docs/protocol.md C4-C6, C9).

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <arrow/result.h>

#include "daemon/catalog_client.h"
#include "daemon/grant_table.h"
#include "daemon/home.h"
#include "daemon/home_client.h"
#include "daemon/old_versions.h"
#include "daemon/scheduler.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// Leaders that may follow one another while one table is published.
constexpr int kBindsMax = 8;
/// How often a seal asks the homes of removed objects whether it may go on sharing them:
/// each time for all that it knows of.
constexpr int kDoubtRoundsMax = 4;
/// How long a publish waits for a node whose epoch line cannot be read (C5: it is
/// blocked), beside the time that a change of leader takes.
constexpr std::chrono::seconds kEpochReadDeadline{5};

/// \brief Runs the steps of all publishes of this home; each may wait for other nodes.
/// Whatever fails is undone: the object is retired and its name free; but not once it is
/// the next version of a name (C9), which is committed for as long as that takes. All it
/// is given outlives it.
class Publisher {
 public:
  struct Request {
    uint64_t session = 0;
    SealInput input;
    bool is_repeated = false;  ///< It may have been done before, in whole or in part.
    bool replace = false;
    uint32_t expected_version = 0;  ///< 0: any.
  };
  struct Published {
    ObjectId object;
    uint32_t version = 0;  ///< 0 when unnamed.
  };
  using Done = std::function<void(const arrow::Result<Published>&)>;

  Publisher(region::Region* region, Home* home, CatalogClient* catalog, HomeClient* homes,
            Scheduler* scheduler);

  /// \brief Calls `done` once, maybe before this returns.
  void Publish(const Request& request, const Done& done);

  /// \brief Make visible what was sealed as prepared, under `name`: once, however often
  /// and by whomever it is asked for. Invalid with reason stale generation if it is gone,
  /// as it is once a table that was visible is; what the leader refuses (as for a put)
  /// stays prepared.
  void PublishPrepared(const ObjectId& object, const Request& request, Done done);
  /// \brief After a restart: finish or undo what a former life began. Returns at once.
  void Recover();

  /// \brief How long a publish waits for a leader, or for memory that cannot be read.
  std::chrono::nanoseconds Patience() const;

  OldVersions& old_versions() { return old_versions_; }

 private:
  struct Attempt;
  using AttemptPtr = std::shared_ptr<Attempt>;
  using Sealed = std::function<void(const arrow::Result<ObjectId>&)>;
  arrow::Status CheckName(const Request& request) const;
  void Seal(const Request& request, int rounds_left, const Sealed& done);
  bool HoldsStill(uint64_t session, const std::vector<GrantId>& grants) const;
  void Go(const Request& request, const ObjectId& object, Done done);
  bool PublishedBefore(const Request& request, const Done& done);
  void CommitAgain(const ObjectId& object, const std::string& name,
                   const format::Slot& slot, Done done);
  void Finish(const AttemptPtr& attempt, const arrow::Result<Published>& result);
  void OnCommitFailed(const AttemptPtr& attempt, const arrow::Status& status);
  static arrow::Status NotCommitted(const Attempt& attempt, const arrow::Status& status);
  static arrow::Status NotRetired(const Attempt& attempt, const ObjectId& before,
                                  const arrow::Status& status);
  void TellIfLate(const AttemptPtr& attempt, const arrow::Status& status);
  void Bind(const AttemptPtr& attempt);
  void OnBindFailed(const AttemptPtr& attempt, const arrow::Status& status);
  void Again(std::chrono::nanoseconds delay, std::function<void()> action);
  void OnGranted(const AttemptPtr& attempt, directory::Version version);
  void CheckEpochs(const AttemptPtr& attempt);
  arrow::Status MakeVisible(const AttemptPtr& attempt);
  void Commit(const AttemptPtr& attempt);
  void RetireSuperseded(const AttemptPtr& attempt,
                        const std::vector<ObjectId>& superseded);
  void Fail(const AttemptPtr& attempt, const arrow::Status& status);
  void StayPrepared(const ObjectId& object, const std::string& name);

  region::Region* region_;
  Home* home_;
  CatalogClient* catalog_;
  HomeClient* homes_;
  Scheduler* scheduler_;
  std::unordered_map<ObjectId, std::vector<Done>> publishing_;  ///< Prepared ones.
  OldVersions old_versions_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
