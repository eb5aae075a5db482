// What a node's operator says of another node, to every home that may act on it.

#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <arrow/status.h>

#include "arbiter/arbiter.h"
#include "daemon/membership.h"
#include "daemon/reclaimer.h"
#include "daemon/transport.h"
#include "format/lease_cell.h"
#include "format/message.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Of one life of `node`, and all before, in the memory that it had then: whatever
/// memory it has now, or this node has mapped (F9).
inline arbiter::OffCertificate CertificateOf(NodeId node, uint64_t incarnation) {
  return {node, format::FormatEpochOf(incarnation), incarnation};
}

/// \brief Asks this home and those of all other nodes. Callbacks may run inside the call.
/// All it is given outlives it.
class MembershipClient {
 public:
  using Done = std::function<void(const arrow::Status&)>;

  /// `arbiter` is null where there is none.
  MembershipClient(region::Region* region, Membership* membership, Reclaimer* reclaimer,
                   Transport* transport, arbiter::Arbiter* arbiter);

  /// \brief As Membership::Forget at every home but that of `node`, and those that are
  /// off or were never there. The first error that one of them has; the others did it all
  /// the same. A home that does not answer is no error if the arbiter will tell it.
  void Forget(NodeId node, const Done& done);

  /// \brief The arbiter says that a node is off: this one itself, maybe.
  void OnOff(const arbiter::OffCertificate& certificate);
  /// \brief The nodes that this home has withdrawn and whose hearts do not beat.
  std::vector<arbiter::Suspect> Suspects() const;
  /// \brief Tell the arbiter of them, if there is one.
  void TellSuspects();

  /// \brief Answer a peer's message about membership. False if it is something else.
  bool Handle(const format::Message& message, const ReplyFn& reply);

 private:
  void ForgetHere(NodeId node, Done done);
  void TellArbiter(NodeId node, const Done& done);
  void AskOthers(NodeId node, bool arbiter_tells, const Done& done);

  region::Region* region_;
  Membership* membership_;
  Reclaimer* reclaimer_;
  Transport* transport_;
  arbiter::Arbiter* arbiter_;
};

}  // namespace sheaf::daemon
