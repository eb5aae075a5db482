// Whether the etcd of a cluster answers.

#pragma once

#include <string>

#include "region/etcd_config.h"

namespace sheaf::cli {

/// \brief Empty if it answers, or there is none; else why not, and what holds without it.
/// A few seconds at most.
std::string EtcdError(const region::EtcdConfig& etcd);

}  // namespace sheaf::cli
