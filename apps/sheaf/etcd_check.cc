#include "apps/sheaf/etcd_check.h"

#include <string>

#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>

#include "arbiter/etcd_client.h"
#include "region/etcd_config.h"

namespace sheaf::cli {

std::string EtcdError(const region::EtcdConfig& etcd) {
  if (!etcd.is_used()) return "";
  const auto client = arbiter::EtcdClient::Make(etcd.access);
  const arrow::Status status =
      client.ok() ? (*client)->Get(etcd.prefix + "/").status() : client.status();
  if (status.ok()) return "";
  return fmt::format(
      "etcd does not answer: {}; the cluster goes on without it, by what is in memory, "
      "and "
      "its daemons register when etcd is back",
      status.message());
}

}  // namespace sheaf::cli
