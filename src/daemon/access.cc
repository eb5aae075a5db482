#include "daemon/access.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "format/layout.h"
#include "format/message_generated.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"

namespace sheaf::daemon {
namespace {

using format::Access;
using format::Body;

bool Contains(const std::vector<uint32_t>& group_ids,
              const std::optional<uint32_t>& group_id) {
  return group_id && std::ranges::find(group_ids, *group_id) != group_ids.end();
}

}  // namespace

arrow::Result<AccessRules> AccessRules::Make(const region::ClusterConfig& config) {
  AccessRules rules;
  if (!config.group.empty()) {
    ARROW_ASSIGN_OR_RAISE(rules.readers_, platform::FindGroup(config.group));
    rules.groups_ = "group '" + config.group + "' may read";
  }
  if (!config.group_write.empty()) {
    ARROW_ASSIGN_OR_RAISE(rules.writers_, platform::FindGroup(config.group_write));
    rules.groups_ += (rules.groups_.empty() ? "" : " and ") +
                     ("group '" + config.group_write + "' may write");
  }
  return rules;
}

arrow::Result<SessionOwner> AccessRules::OwnerOf(
    const platform::PeerCredentials& peer) const {
  if (peer.user_id == platform::CurrentUserId()) {
    return SessionOwner{peer.user_id, Access::Owner};
  }
  if (Contains(peer.group_ids, writers_)) {
    return SessionOwner{peer.user_id, Access::Writer};
  }
  if (Contains(peer.group_ids, readers_)) {
    return SessionOwner{peer.user_id, Access::Reader};
  }
  const std::string who = "process " + std::to_string(peer.process_id) + " of user " +
                          std::to_string(peer.user_id);
  const std::string whose = "user " + std::to_string(platform::CurrentUserId());
  if (groups_.empty()) {
    return arrow::Status::IOError(who, " may not use this cluster, which is for ", whose,
                                  " alone: `sheaf up --group G` lets a group read");
  }
  return arrow::Status::IOError(who, " may not use this cluster of ", whose, ": ",
                                groups_, ", and it is in no such group");
}

arrow::Status CheckAllowed(Access access, Body request) {
  switch (request) {
    case Body::PartRequest:
    case Body::Goodbye:
      return arrow::Status::OK();
    case Body::LeaseRequest:
    case Body::DropLeaseRequest:
      if (access == Access::Reader) return arrow::Status::OK();
      return arrow::Status::Invalid("a session that may write writes its leases itself");
    case Body::NodeHello:
    case Body::ShutdownRequest:
    case Body::ForgetNodeRequest:
      if (access == Access::Owner) return arrow::Status::OK();
      return arrow::Status::Invalid("only user ", platform::CurrentUserId(),
                                    ", whose cluster this is, may do that");
    default:
      if (access != Access::Reader) return arrow::Status::OK();
      return arrow::Status::Invalid(
          "this session may only read: nothing can be put, removed or kept; user ",
          platform::CurrentUserId(),
          " can start the cluster so that a group writes: sheaf up --group-write G");
  }
}

uint32_t GreetingBytesMax(const region::ClusterConfig& config, Access access) {
  // The longest path of a program takes a third of it.
  constexpr uint64_t kWithoutLists = 16384;
  const uint64_t list_bytes =
      access == Access::Reader
          ? kReaderPagesMax * format::kLeaseCellsPerPage * sizeof(format::LeaseCell)
          : config.grants_max() * sizeof(format::GrantKey);
  return CheckedCast<uint32_t>(
      std::min<uint64_t>(kWithoutLists + list_bytes, platform::kFramePayloadMax));
}

uint32_t SessionsOfUserMax(const region::ClusterConfig& config) {
  return std::max(config.lease_pages_max / (2 * kReaderPagesMax), 1U);
}

}  // namespace sheaf::daemon
