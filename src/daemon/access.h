// Which processes may speak to this daemon, and what for (docs/security.md).

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/message.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"

namespace sheaf::daemon {

/// \brief Whom a session belongs to, for as long as it lives.
struct SessionOwner {
  uint32_t user_id = 0;
  format::Access access = format::Access::Owner;
  bool operator==(const SessionOwner&) const = default;
};

/// \brief Decides by the user and the groups of a process, as the kernel knew them when
/// it connected; never by what it says.
class AccessRules {
 public:
  /// \brief Only this user, until `Make`.
  AccessRules() = default;
  /// \brief KeyError if this host does not know a group of `config`.
  static arrow::Result<AccessRules> Make(const region::ClusterConfig& config);

  /// \brief IOError, saying who is asked to do what, if `peer` may not even read.
  arrow::Result<SessionOwner> OwnerOf(const platform::PeerCredentials& peer) const;

 private:
  std::string groups_;  ///< As messages name them; empty: none.
  std::optional<uint32_t> readers_;
  std::optional<uint32_t> writers_;
};

/// \brief Invalid, saying what to do, if a session with `access` may not ask for this.
arrow::Status CheckAllowed(format::Access access, format::Body request);

/// \brief Length of the longest greeting: of a session that holds every grant there is,
/// or, of another user's reader, every lease it may hold.
uint32_t GreetingBytesMax(const region::ClusterConfig& config, format::Access access);

/// Lease pages, of 504 tables each, that one reader may fill.
constexpr uint32_t kReaderPagesMax = 8;
/// \brief Sessions that one other user may have at a time: half of the lease pages is
/// left to others, whatever they do.
uint32_t SessionsOfUserMax(const region::ClusterConfig& config);

}  // namespace sheaf::daemon
