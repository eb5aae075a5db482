#include "testing/test_cluster.h"

#include <signal.h>
#include <stdlib.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "sheaf/cluster.h"
#include "sheaf/store.h"

namespace sheaf::testing {

arrow::Result<std::unique_ptr<TestCluster>> TestCluster::Start(
    const TestClusterOptions& options) {
  std::string folder = "/tmp/sheaf-test-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr)
    return platform::OsError("cannot create", folder);
  if (options.others_may_enter) ARROW_RETURN_NOT_OK(platform::SetMode(folder, 0711));
  ::setenv("SHEAF_RUNTIME_DIR", (folder + "/run").c_str(), 1);
  // The name is part of paths in /dev/shm, which other tests use at the same time.
  auto cluster = std::unique_ptr<TestCluster>(new TestCluster(
      "test" + std::to_string(platform::RandomBits() % 1'000'000'000), folder));
  const std::string config_file = folder + "/config.toml";
  std::string toml = options.config_toml;
  if (options.window_bytes != 0) {
    const std::string device = folder + "/data";
    ARROW_RETURN_NOT_OK(
        platform::CreateFile(device, options.nodes * options.window_bytes).status());
    for (uint32_t k = 0; k < options.nodes; ++k) {
      toml += "[[node]]\nid = " + std::to_string(k) + "\npath = '" + device +
              "'\noffset = " + std::to_string(k * options.window_bytes) + "\n";
    }
  }
  std::ofstream(config_file) << toml;

  ClusterOptions& start = cluster->start_;
  start.name = cluster->name_;
  start.config_file = config_file;
  start.nodes = options.nodes;
  start.daemon_path = options.daemon_path;
  if (options.memory_in_folder) start.folder = folder + "/memory";
  ::setenv("SHEAF_PLANT", options.daemon_plants.c_str(), 1);
  const arrow::Status started = StartCluster(start).status();
  ::unsetenv("SHEAF_PLANT");
  ARROW_RETURN_NOT_OK(started);
  return cluster;
}

TestCluster::~TestCluster() {
  // A test that ended its cluster itself leaves nothing to stop.
  arrow::Status stopped = StopCluster(name_);
  if (stopped.IsKeyError()) stopped = arrow::Status::OK();
  stopped &= platform::RemoveAll(folder_);
  if (!stopped.ok()) stopped.Warn();
  ::unsetenv("SHEAF_RUNTIME_DIR");
}

arrow::Result<platform::UniqueFd> TestCluster::OpenDaemon(uint32_t node) const {
  ARROW_ASSIGN_OR_RAISE(const auto socket,
                        platform::ConnectUnix(folder_ + "/run/" + name_ + "/node" +
                                              std::to_string(node) + ".sock"));
  ARROW_ASSIGN_OR_RAISE(const auto peer, platform::GetPeerCredentials(socket.get()));
  return platform::OpenPidFd(peer.process_id);
}

arrow::Status TestCluster::SignalDaemon(uint32_t node, int signal_number) const {
  ARROW_ASSIGN_OR_RAISE(const auto pidfd, OpenDaemon(node));
  return platform::SendSignal(pidfd, signal_number);
}

arrow::Status TestCluster::KillDaemon(uint32_t node) const {
  ARROW_ASSIGN_OR_RAISE(const auto pidfd, OpenDaemon(node));
  ARROW_RETURN_NOT_OK(platform::SendSignal(pidfd, SIGKILL));
  while (!platform::HasExited(pidfd)) {
    platform::SleepFor(std::chrono::milliseconds(1));
  }
  return arrow::Status::OK();
}

arrow::Status TestCluster::StartMissing(const std::string& fault) const {
  // Other threads may start processes meanwhile: without a fault the environment is
  // left alone.
  if (!fault.empty()) ::setenv("SHEAF_FAULT", fault.c_str(), 1);
  const arrow::Status started = StartCluster(start_).status();
  if (!fault.empty()) ::unsetenv("SHEAF_FAULT");
  return started;
}

arrow::Result<std::shared_ptr<Store>> TestCluster::Connect(uint32_t node,
                                                           bool relocate) const {
  return Store::Connect({name_, node, relocate});
}

}  // namespace sheaf::testing
