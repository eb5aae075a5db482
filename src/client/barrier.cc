// A barrier is a list of arrivals under a reserved name. Each is an unnamed object that
// goes with its process; the last one to arrive removes the list, and that opens it.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "base/fault_point.h"
#include "client/put.h"
#include "client/session.h"
#include "client/staged_object.h"
#include "client/staging.h"
#include "client/store_session.h"
#include "directory/directory.h"
#include "platform/process.h"
#include "sheaf/parts.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf {

namespace {

using client::Backoff;
using client::FoundStaging;
using client::Session;
using client::Staging;

constexpr std::chrono::microseconds kPollFirst{100};
constexpr std::chrono::microseconds kPollLongest{5'000};
constexpr std::chrono::hours kTimeoutMax{24 * 365};
/// Beside the timeout, for changes of the list: many may arrive at once.
constexpr std::chrono::seconds kPatience{10};

/// One call of Barrier.
class Arrival {
 public:
  Arrival(std::shared_ptr<Session> session, const std::string& name, uint32_t n)
      : session_(std::move(session)),
        name_(name),
        list_(client::BarrierName(name)),
        n_(n) {}

  arrow::Status Run(std::chrono::milliseconds timeout) {
    timeout_ = timeout;
    end_ = platform::BootTime() + timeout;
    arrow::Status status = ArriveAndWait();
    if (object_) ARROW_UNUSED(client::Drop(*session_, *object_));
    return status;
  }

 private:
  arrow::Status ArriveAndWait() {
    ARROW_ASSIGN_OR_RAISE(bool is_open, Arrive());
    std::chrono::nanoseconds pause = kPollFirst;
    while (!is_open) {
      ARROW_ASSIGN_OR_RAISE(const auto found, Load());
      if (!found) return arrow::Status::OK();
      const auto left = end_ - platform::BootTime();
      if (left <= std::chrono::nanoseconds(0)) return Withdraw();
      platform::SleepFor(std::min(pause, left));
      pause = std::min<std::chrono::nanoseconds>(2 * pause, kPollLongest);
    }
    return arrow::Status::OK();
  }

  /// True if this was the last one: the barrier is open.
  arrow::Result<bool> Arrive() {
    Backoff backoff;
    for (;; backoff.Pause()) {
      ARROW_ASSIGN_OR_RAISE(auto found, client::LoadStaging(session_, list_));
      Staging staging;
      if (found) {
        staging = found->staging;
        std::erase_if(staging.entries, [&](const client::StagedEntry& entry) {
          return !client::IsThere(*session_, entry.object);
        });
      }
      if (staging.entries.empty()) staging = Begin(std::move(staging.leftovers));
      if (staging.of != n_) {
        return arrow::Status::Invalid("barrier '", name_, "' is for ", staging.of,
                                      " participants at the moment, not for ", n_);
      }
      if (staging.entries.size() + 1 == n_) {
        ARROW_ASSIGN_OR_RAISE(const bool opened, Open(found));
        if (opened) return true;
        ARROW_RETURN_NOT_OK(CheckPatience());
        continue;
      }
      ARROW_ASSIGN_OR_RAISE(const ObjectId object, MakeObject());
      uint32_t index = 0;
      while (staging.Find(index) != nullptr) ++index;
      staging.Add({index, 0, object});
      ARROW_ASSIGN_OR_RAISE(const auto stored,
                            client::StoreStaging(session_, list_, staging, found));
      if (!stored) {
        ARROW_RETURN_NOT_OK(CheckPatience());
        continue;
      }
      id_ = staging.id;
      PassFaultPoint("client.barrier.after-arrival");
      return false;
    }
  }

  Staging Begin(std::vector<ObjectId> leftovers) const {
    Staging staging{platform::RandomBits() | 1, n_, false, 0, {}};
    staging.leftovers = std::move(leftovers);
    return staging;
  }

  /// A list that its node was about to remove, and died, changes for nobody until then.
  arrow::Status CheckPatience() const {
    if (platform::BootTime() < end_ + kPatience) return arrow::Status::OK();
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                      "barrier '" + name_ +
                          "': its list does not change; a node may be down: start it "
                          "again with: sheaf up");
  }

  /// Not kept: it ends with this process.
  arrow::Result<ObjectId> MakeObject() {
    if (object_) return *object_;
    const auto empty = arrow::Table::Make(arrow::schema({}), arrow::ArrayVector{}, 0);
    ARROW_ASSIGN_OR_RAISE(const auto shared, client::Put(session_, *empty, {}));
    object_ = shared.handle.object;
    PassFaultPoint("client.barrier.after-object");
    return shared.handle.object;
  }

  arrow::Result<bool> Open(const std::optional<FoundStaging>& found) {
    if (!found) return true;  // a barrier for one
    return client::EraseStaging(session_, list_, *found);
  }

  /// The list that this arrival is in; nothing once the barrier has opened.
  arrow::Result<std::optional<FoundStaging>> Load() {
    ARROW_ASSIGN_OR_RAISE(auto found, client::LoadStaging(session_, list_));
    if (found && found->staging.id == id_) return found;
    return std::nullopt;
  }

  // Nobody is left who would take a list that is gone for a barrier that has opened.
  arrow::Result<bool> StoreWithout(const Staging& staging, const FoundStaging& found) {
    if (staging.entries.empty()) {
      return client::EraseStaging(session_, list_, found);
    }
    ARROW_ASSIGN_OR_RAISE(const auto stored,
                          client::StoreStaging(session_, list_, staging, found));
    return stored.has_value();
  }

  arrow::Status Withdraw() {
    Backoff backoff;
    for (;; backoff.Pause()) {
      ARROW_ASSIGN_OR_RAISE(auto found, Load());
      if (!found) return arrow::Status::OK();  // opened meanwhile
      Staging& staging = found->staging;
      std::erase_if(staging.entries, [&](const client::StagedEntry& entry) {
        return entry.object == object_ || !client::IsThere(*session_, entry.object);
      });
      const size_t arrived = staging.entries.size() + 1;
      PassFaultPoint("client.barrier.before-withdraw");
      ARROW_ASSIGN_OR_RAISE(const bool withdrawn, StoreWithout(staging, *found));
      if (!withdrawn) {
        ARROW_RETURN_NOT_OK(CheckPatience());
        continue;
      }
      return TimedOut(arrived);
    }
  }

  // `arrived`: with this one, which is withdrawn.
  arrow::Status TimedOut(size_t arrived) const {
    return MakeStatus(
        arrow::StatusCode::IOError, ErrorReason::kTimeout,
        "barrier '" + name_ + "': " + std::to_string(arrived) + " of " +
            std::to_string(n_) + " were here after " + std::to_string(timeout_.count()) +
            " ms, with this one, which counts no more: start those that are missing, and "
            "call again");
  }

  std::shared_ptr<Session> session_;
  const std::string& name_;
  const std::string list_;
  const uint32_t n_;
  std::chrono::milliseconds timeout_{0};
  std::chrono::nanoseconds end_{0};
  std::optional<ObjectId> object_;  ///< Of this arrival, if others are missing.
  uint64_t id_ = 0;
};

}  // namespace

arrow::Status Barrier(const std::shared_ptr<Store>& store, const std::string& name,
                      uint32_t n, std::chrono::milliseconds timeout) {
  const std::shared_ptr<Session> session = SessionOf(*store);
  ARROW_RETURN_NOT_OK(session->CheckProcess());
  ARROW_RETURN_NOT_OK(directory::ValidateName(client::BarrierName(name)));
  if (n == 0 || n > client::kStagedMax || name.empty()) {
    return arrow::Status::Invalid("a barrier has a name, and 1 to ", client::kStagedMax,
                                  " participants");
  }
  return Arrival(session, name, n)
      .Run(std::clamp<std::chrono::milliseconds>(timeout, std::chrono::milliseconds(0),
                                                 kTimeoutMax));
}

}  // namespace sheaf
