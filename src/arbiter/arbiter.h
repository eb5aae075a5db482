// What an etcd adds to what nodes agree on in memory (docs/protocol.md section 8): one
// daemon of each node, and nodes that are off for all homes, also for those that are away
// when it is said.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "arbiter/etcd_client.h"
#include "base/etcd_access.h"
#include "sheaf/types.h"

namespace sheaf::arbiter {

struct ArbiterOptions {
  EtcdAccess etcd;
  std::chrono::milliseconds etcd_timeout = kEtcdTimeout;
  /// Keys of this cluster begin with it; others may share the etcd. No '/' at its end.
  std::string key_prefix;
  /// A daemon that was not heard of for so long is not registered any more.
  std::chrono::seconds time_to_live{10};
  /// A loop that does nothing for so long hangs; a daemon that starts knows after so long
  /// whether another one is its node's.
  std::chrono::milliseconds suspect_after{3000};
  /// A program that powers a node off: see Fencing. Empty: none.
  std::string fence_command;
};

/// \brief The daemon that registers.
struct Daemon {
  NodeId node;
  std::string host;   ///< Names the host, for people.
  uint64_t boot = 0;  ///< Of the host (platform::BootNumber): tells it from any other.
};

/// \brief One life of a node, and all before it: powered off, or cut from the memory, for
/// good (F8).
struct OffCertificate {
  NodeId node;
  uint64_t format_epoch = 0;  ///< Of the node's memory: it says nothing of another one.
  uint64_t incarnation = 0;
};

/// \brief A node that this home has withdrawn.
struct Suspect {
  OffCertificate life;  ///< That would be right if it were off.
  std::string host;     ///< As the cluster file has it.
};

/// \brief A thread of its own talks to etcd; no other one waits for it, but in `Start`.
/// It keeps the daemon registered only while the loop goes on: it runs what is posted.
/// Without etcd everything goes on by the rules in memory: what could not be said is said
/// when it is back. The calls are for one thread, the loop's, on which `post` runs what
/// it is given.
class Arbiter {
 public:
  using PostFn = std::function<void(std::function<void()>)>;
  struct Events {
    /// Each certificate that is known, again and again: it may have come to nothing.
    std::function<void(const OffCertificate&)> on_off;
    /// What etcd answered last, when that changed: OK, or why it does not.
    std::function<void(const arrow::Status&)> on_change;
    /// A daemon on another host is registered as this node, and was for longer than one
    /// that ended, or that was refused, could be: this one must end.
    std::function<void(const arrow::Status&)> on_taken;
    /// The fence command has ended for a node: OK if that is off now.
    std::function<void(const OffCertificate&, const arrow::Status&)> on_fenced;
  };

  /// \brief Register `self`. Waits for the registration of a daemon on another host to
  /// end, a little longer than the time to live at most: AlreadyExists, naming the host,
  /// if it does not. If etcd does not answer it starts all the same, and registers later.
  /// Invalid for bad options.
  static arrow::Result<std::unique_ptr<Arbiter>> Start(const ArbiterOptions& options,
                                                       const Daemon& self, PostFn post,
                                                       Events events);
  /// Ends the registration, if etcd answers; nothing is posted any more.
  ~Arbiter();

  /// \brief The highest format epoch that memory of this node had, as etcd knew it at
  /// `Start`; 0 if it did not. Memory that was lost is formatted above it.
  uint64_t last_format_epoch() const;
  /// \brief What it is now: kept in etcd, also in one that loses all.
  void SetFormatEpoch(uint64_t format_epoch);

  using DoneFn = std::function<void(const arrow::Status&)>;
  /// \brief Tell all homes, now and later, that `certificate` holds. `done`: etcd has it;
  /// IOError if it does not answer: nobody will be told.
  void CertifyOff(const OffCertificate& certificate, const DoneFn& done);

  /// \brief All nodes that this home has withdrawn and whose hearts do not beat now:
  /// those that etcd does not know as alive either, for a whole time to live, are fenced,
  /// if there is a command for that.
  void SetSuspects(std::vector<Suspect> suspects);

  /// \brief Whether this daemon may claim the catalog. False as long as etcd says that
  /// another one leads, or has not been asked; true if it does not answer. Asks for
  /// leadership, and keeps it until `LetOthersLead`.
  bool MayLead();
  void LetOthersLead();

 private:
  class Impl;
  explicit Arbiter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf::arbiter
