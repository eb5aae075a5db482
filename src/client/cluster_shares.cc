#include "client/cluster_shares.h"

#include <cstdint>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "sheaf/cluster.h"

namespace sheaf::client {
namespace {

using region::ClusterConfig;

constexpr uint32_t kOwnFolderMode = 0700;
constexpr uint32_t kSharedRootMode = 0711;
constexpr uint32_t kSharedFolderMode = 0750;
constexpr uint32_t kSharedFileMode = 0640;

}  // namespace

void SetShares(const ClusterOptions& options, ClusterConfig* config) {
  config->group = options.group.value_or(config->group);
  config->group_write = options.group_write.value_or(config->group_write);
  config->session_quota_bytes =
      options.session_quota_bytes.value_or(config->session_quota_bytes);
  config->user_quota_bytes = options.user_quota_bytes.value_or(config->user_quota_bytes);
}

void CopyShares(const ClusterConfig& from, ClusterConfig* to) {
  to->group = from.group;
  to->group_write = from.group_write;
  to->session_quota_bytes = from.session_quota_bytes;
  to->user_quota_bytes = from.user_quota_bytes;
}

arrow::Status ShareFolders(const ClusterConfig& config) {
  const std::string& group = config.socket_group();
  // A group may have had access in an earlier run.
  if (group.empty()) return platform::SetMode(config.runtime_folder, kOwnFolderMode);
  const std::string root = region::RuntimeRoot();
  if (const auto parent = platform::FindClosedParent(root)) {
    return arrow::Status::IOError(
        "group '", group, "' cannot come to ", root, ", as only its owner may search ",
        *parent,
        ": set SHEAF_RUNTIME_DIR to a folder for sockets that others can come to");
  }
  ARROW_ASSIGN_OR_RAISE(const uint32_t group_id, platform::FindGroup(group));
  ARROW_RETURN_NOT_OK(platform::SetMode(root, kSharedRootMode));
  ARROW_RETURN_NOT_OK(
      platform::ShareWithGroup(config.runtime_folder, group_id, kSharedFolderMode));
  return platform::ShareWithGroup(region::ClusterFilePath(config.name), group_id,
                                  kSharedFileMode);
}

}  // namespace sheaf::client
