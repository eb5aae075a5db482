// What the arbiter keeps in etcd: a key and a small JSON text each. Read as input.

#pragma once

#include <cstdint>
#include <string>

#include <arrow/result.h>

#include "arbiter/arbiter.h"

namespace sheaf::arbiter {

std::string NodeKey(const std::string& prefix, NodeId node);  ///< `<prefix>/node/<k>`
std::string OffKey(const std::string& prefix, NodeId node);   ///< `<prefix>/off/<k>`
std::string OffKeys(const std::string& prefix);               ///< Begin of all of these.

std::string ToText(const Daemon& daemon);
std::string ToText(const OffCertificate& certificate);
/// \brief IOError if `text` is none.
arrow::Result<Daemon> ParseDaemon(const std::string& text);
arrow::Result<OffCertificate> ParseOffCertificate(const std::string& text);

}  // namespace sheaf::arbiter
