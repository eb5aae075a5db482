// Powering off nodes that are silent: by the operator's program, from one daemon at a
// time (F8).

#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "arbiter/arbiter.h"
#include "arbiter/etcd_client.h"
#include "arbiter/steady.h"
#include "platform/child_process.h"
#include "sheaf/types.h"

namespace sheaf::arbiter {

/// \brief Runs `<command> <node> <host>` for a node that this home has withdrawn and
/// whose daemon was not registered at any look of a whole time to live (F8): looks that
/// follow one another within that, at one etcd that has lost nothing meanwhile. Whoever
/// is about to register again is there by then. Exit code 0 says that the node is off for
/// good. One node after the other, each by one daemon of the cluster: who holds the key.
/// The arbiter's thread.
class Fencing {
 public:
  struct Outcome {
    OffCertificate life;
    arrow::Status status;  ///< OK: it is off; else why nobody knows, or that it is not.
  };

  Fencing(const ArbiterOptions& options, EtcdClient* etcd)
      : options_(options), etcd_(etcd) {}
  ~Fencing();

  /// \brief What a look is worth.
  struct Look {
    std::chrono::nanoseconds now{0};
    /// The lease of this daemon's own registration: an etcd that has lost all has lost
    /// it.
    int64_t registration = 0;
  };
  /// \brief Go on with the node in hand, else look for `suspects`, and begin with one.
  /// Returns what became of one, if that is known now.
  arrow::Result<std::optional<Outcome>> Advance(const std::vector<Suspect>& suspects,
                                                const Look& look);
  /// \brief Etcd does not answer, or not for us: what was missing may be there again.
  void LoseSight() { missing_.clear(); }

 private:
  arrow::Status LookFor(const std::vector<Suspect>& suspects, const Look& look);
  arrow::Result<bool> MayBegin(const Suspect& suspect);
  arrow::Result<std::optional<Outcome>> LookAtCommand(std::chrono::nanoseconds now);
  Outcome Finish(const arrow::Status& status);
  void LetGo();

  const ArbiterOptions& options_;
  EtcdClient* etcd_;
  /// In hand while there is a process.
  OffCertificate life_;
  std::unique_ptr<platform::ChildProcess> process_;
  int64_t lease_ = 0;
  std::chrono::nanoseconds deadline_{0};
  /// What did not work is not tried again before.
  std::map<NodeId, std::chrono::nanoseconds> not_before_;
  struct Missing {
    Steady steady;
    std::chrono::nanoseconds time{0};  ///< As of the last look.
  };
  std::map<NodeId, Missing> missing_;  ///< Suspects that are not registered.
  int64_t revision_ = 0;               ///< Of the last look.
};

}  // namespace sheaf::arbiter
