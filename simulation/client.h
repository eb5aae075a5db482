// A client process: it does one step after the other with a real Store, and compares what
// it is told and what it reads with the model.

#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/status.h>
#include <arrow/table.h>

#include "sheaf/store.h"
#include "simulation/cluster.h"
#include "simulation/content.h"
#include "simulation/kernel.h"
#include "simulation/model.h"
#include "simulation/steps.h"

namespace sheaf::simulation {

/// \brief Owned by whoever posts steps; one whose process was killed is never destroyed.
class Client {
 public:
  Client(Cluster* cluster, const std::string& name, uint32_t node);

  Process* process() const { return process_; }
  uint32_t node() const { return process_->node; }
  void Post(const Step& step);
  bool is_idle() const { return steps_.empty() && !is_busy_; }
  size_t num_posted() const { return steps_.size(); }
  /// \brief What it does now, for messages.
  std::string Doing() const;

  /// \brief Its process is dead: what it was about is in doubt.
  void Abandon();

  /// \brief Run once by this process, after all that was posted.
  void PostCheck(std::function<void(Client*)> check);

  // For checks, inside of the process.
  bool Connect();
  void Disconnect();
  Store* store() { return store_.get(); }
  /// \brief Get `name` and compare; what it leads to.
  std::optional<ContentId> Look(const std::string& name);
  void OpenHandle(size_t index);

 private:
  struct Held {
    std::shared_ptr<arrow::Table> table;
    ContentId content = kNothing;
    bool is_of_pool = false;  ///< Built there: the pool must outlive it.
  };
  struct Change {
    NameModel* name;
    NameModel::Look look;
    ContentId effect;
  };
  struct Composed {
    std::shared_ptr<arrow::Table> table;
    ContentId content = kNothing;
    bool is_of_pool = false;
  };

  void Run();
  void Do(const Step& step);
  std::optional<Composed> Compose(const Step& step);
  void Put(const Step& step, bool replace);
  void JudgePut(const arrow::Status& status, bool replace,
                const std::set<ContentId>& seen, const std::string& name);
  void Remove(const Step& step);
  void Share(const Step& step);
  void Drop(size_t index);
  void Keep(size_t index);
  void Forget(uint32_t node);
  void Verify();
  void Hold(Held held);
  void Close(bool keeps_tables);
  void Tolerate(const arrow::Status& status, const std::string& what) const;
  std::optional<size_t> PickHandle(const Step& step) const;

  Cluster* cluster_;
  Process* process_;
  std::deque<Step> steps_;
  std::deque<std::function<void(Client*)>> checks_;
  bool is_busy_ = false;
  Step step_;
  Time began_{0};
  uint64_t serial_ = 0;  ///< Of the session.
  std::shared_ptr<Store> store_;
  std::vector<Held> held_;
  std::optional<Change> change_;
  std::optional<std::pair<NameModel*, NameModel::Look>> look_;
};

}  // namespace sheaf::simulation
