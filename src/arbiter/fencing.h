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
#include "platform/child_process.h"
#include "sheaf/types.h"

namespace sheaf::arbiter {

/// \brief Runs `<command> <node> <host>` for a node that this home has withdrawn and
/// whose daemon is not registered any more; exit code 0 says that it is off for good. One
/// node after the other, each by one daemon of the cluster: who holds the key. The
/// arbiter's thread.
class Fencing {
 public:
  struct Outcome {
    OffCertificate life;
    arrow::Status status;  ///< OK: it is off; else why nobody knows, or that it is not.
  };

  Fencing(const ArbiterOptions& options, EtcdClient* etcd)
      : options_(options), etcd_(etcd) {}
  ~Fencing();

  /// \brief Go on with the node in hand, else begin with one of `suspects`. Returns what
  /// became of one, if that is known now.
  arrow::Result<std::optional<Outcome>> Advance(const std::vector<Suspect>& suspects);

 private:
  arrow::Result<bool> MayBegin(const Suspect& suspect);
  arrow::Result<std::optional<Outcome>> LookAtCommand();
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
};

}  // namespace sheaf::arbiter
