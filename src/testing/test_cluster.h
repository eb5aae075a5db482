// A cluster of real daemons for one test: in a folder of its own, gone with the test.

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <arrow/result.h>

#include "platform/file.h"
#include "sheaf/cluster.h"
#include "sheaf/store.h"

namespace sheaf::testing {

struct TestClusterOptions {
  uint32_t nodes = 2;
  std::string config_toml;  ///< Keys of the cluster file, such as `backend = "sim"`.
  bool others_may_enter = false;  ///< Users of a group that the keys name.
  bool memory_in_folder = false;  ///< Its files go to the test's folder: backend "file".
  /// Not 0: segments are windows of this size of one file, `data` in the test's folder.
  /// With `backend = "file"`; no table may follow the keys.
  uint64_t window_bytes = 0;
  std::string daemon_plants;  ///< Faults planted in the daemons (base/plant.h).
  std::string daemon_path;    ///< sheafd; tests pass SHEAFD_BINARY.
};

/// \brief Starts daemons in a private runtime folder, which becomes SHEAF_RUNTIME_DIR of
/// this process (and of the processes it starts) until destruction. One at a time per
/// process.
class TestCluster {
 public:
  static arrow::Result<std::unique_ptr<TestCluster>> Start(
      const TestClusterOptions& options);
  ~TestCluster();
  TestCluster(const TestCluster&) = delete;
  TestCluster& operator=(const TestCluster&) = delete;

  const std::string& name() const { return name_; }
  const std::string& folder() const {
    return folder_;
  }  ///< Temporary; for the test's files.
  arrow::Result<std::shared_ptr<Store>> Connect(uint32_t node,
                                                bool relocate = false) const;
  /// \brief SIGKILL; returns when the process is gone.
  arrow::Status KillDaemon(uint32_t node) const;
  /// \brief A pidfd of the daemon.
  arrow::Result<platform::UniqueFd> OpenDaemon(uint32_t node) const;
  /// \brief Send any signal: SIGSTOP, SIGCONT.
  arrow::Status SignalDaemon(uint32_t node, int signal_number) const;
  /// \brief Start the daemons that do not run, if any; `fault` as in SHEAF_FAULT.
  arrow::Status StartMissing(const std::string& fault = "") const;

 private:
  TestCluster(std::string name, std::string folder)
      : name_(std::move(name)), folder_(std::move(folder)) {}
  ClusterOptions start_;
  std::string name_;
  std::string folder_;
};

}  // namespace sheaf::testing
