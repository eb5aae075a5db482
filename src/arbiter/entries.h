// What the arbiter keeps in etcd: a key and a small JSON text each. Read as input.

#pragma once

#include <cstdint>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "arbiter/arbiter.h"
#include "arbiter/etcd_client.h"
#include "sheaf/types.h"

namespace sheaf::arbiter {

std::string NodeKey(const std::string& prefix, NodeId node);   ///< `<prefix>/node/<k>`
std::string OffKey(const std::string& prefix, NodeId node);    ///< `<prefix>/off/<k>`
std::string FenceKey(const std::string& prefix, NodeId node);  ///< `<prefix>/fence/<k>`
std::string LeaderKey(const std::string& prefix);              ///< `<prefix>/leader`
std::string EpochKey(const std::string& prefix, NodeId node);  ///< `<prefix>/epoch/<k>`
std::string OffKeys(const std::string& prefix);                ///< Begin of all of these.
std::string NodeKeys(const std::string& prefix);               ///< Likewise.

std::string ToText(const Daemon& daemon);
std::string ToText(const OffCertificate& certificate);
/// \brief IOError if `text` is none.
arrow::Result<Daemon> ParseDaemon(const std::string& text);
arrow::Result<OffCertificate> ParseOffCertificate(const std::string& text);

/// \brief A certificate holds for what came before it, too.
bool Covers(const OffCertificate& held, const OffCertificate& asked);
/// \brief Keep `certificate` for all homes, now and later; never lowers one.
arrow::Status StoreOff(EtcdClient* etcd, const std::string& prefix,
                       const OffCertificate& certificate);

/// \brief The highest format epoch that memory of `node` is known to have had, 0 if none.
arrow::Result<uint64_t> LoadFormatEpoch(EtcdClient* etcd, const std::string& prefix,
                                        NodeId node);
/// \brief Keep `format_epoch`, if that is higher.
arrow::Status RaiseFormatEpoch(EtcdClient* etcd, const std::string& prefix, NodeId node,
                               uint64_t format_epoch);

}  // namespace sheaf::arbiter
