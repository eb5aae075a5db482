// Starting and ending a cluster on this host: what `sheaf up` and `sheaf down` do.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/cancel.h>

namespace sheaf {

/// \brief How a cluster on this host is to be. What is absent comes from `config_file`,
/// else from the defaults: one node, 4 GiB, shared memory, coherent.
struct ClusterOptions {
  std::string name;         ///< Empty: $SHEAF_CLUSTER, else "default".
  std::string config_file;  ///< TOML; see docs/configuration.md.
  std::optional<uint32_t> nodes;
  std::optional<uint64_t> size_bytes;    ///< Of each node's data, rounded up to 2 MiB.
  std::optional<std::string> backend;    ///< "shm", "file" or "sim".
  std::optional<std::string> coherence;  ///< "coherent" or "software".
  std::optional<std::string> messages;   ///< "sockets" or "rings", between daemons.
  /// Where the memory's files go (backend file: required).
  std::optional<std::string> folder;
  /// Name or number of a group of this host that may read, and of one that may write, too
  /// (docs/security.md).
  std::optional<std::string> group;
  std::optional<std::string> group_write;
  /// What one session, and all of one user, may hold of each node's data; 0: all of it.
  std::optional<uint64_t> session_quota_bytes;
  std::optional<uint64_t> user_quota_bytes;
  bool prealloc = false;    ///< Touch all memory now instead of when it is granted.
  std::string daemon_path;  ///< sheafd; empty: $SHEAFD, beside this program, or in PATH.
  std::chrono::milliseconds timeout{60'000};
  arrow::StopToken stop_token;  ///< A stop that is asked for undoes what was begun.
};

/// \brief A node that this host may run, as the cluster file says.
struct LocalNode {
  uint32_t id = 0;
  bool is_up = false;  ///< Its daemon answers.
};

/// \brief What runs.
struct ClusterStatus {
  std::string name;
  uint64_t cluster_id = 0;
  std::vector<LocalNode> nodes;  ///< Of this host, by id.
  std::string warning;  ///< Of StartCluster: what a user should know; else empty.
  bool kept = false;    ///< Of StartCluster: it goes on with what an earlier run left.
  bool was_up = false;  ///< Of StartCluster: all of it ran, and nothing was done.
};

/// \brief Start one daemon per node, where none answers, and return when all of them do.
/// Memory that an earlier run left, ended by StopCluster with `keep` or by a crash, is
/// used again with all tables in it; Invalid, naming the option, if `options` ask for
/// something else than what is there; of a cluster of which a daemon runs that is groups
/// and quotas, too. Nothing is done if the whole cluster runs as `options` ask.
/// AlreadyExists if another one runs in the same memory; OutOfMemory or IOError if its
/// memory cannot be had, with what to do; Cancelled after a stop. What it began is undone
/// after a failure, and nothing else is touched. Any process of the user.
arrow::Result<ClusterStatus> StartCluster(const ClusterOptions& options);

struct StopOptions {
  /// Leave the memory and all tables in it to the next StartCluster.
  bool keep = false;
  /// Give the memory up whether sessions of other hosts use it or not: what they read or
  /// build there is wrong from then on. For when this cannot be told.
  bool force = false;
  std::chrono::milliseconds timeout{60'000};
};

/// \brief End all daemons of this host and give their memory back; what crashed ones left
/// is cleaned up as well; files that Sheaf did not make stay. Tables that other processes
/// have open stay readable to them. IOError, and the memory is kept, if sessions of other
/// hosts use it, or if that cannot be told (`force`). KeyError if there is no such
/// cluster; reason timeout if a daemon does not end, with its process id: those of lower
/// nodes have ended then.
arrow::Status StopCluster(const std::string& name, const StopOptions& options = {});

/// \brief State of cluster `name` on this host. KeyError if there is none.
arrow::Result<ClusterStatus> GetClusterStatus(const std::string& name);

/// \brief `name`, or $SHEAF_CLUSTER, or "default" when it is empty. Invalid if that is
/// not fit for a cluster's name, which becomes part of paths.
arrow::Result<std::string> ResolveClusterName(const std::string& name);

}  // namespace sheaf
