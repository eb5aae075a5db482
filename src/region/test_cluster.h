// A small cluster in a folder of its own. Not for other code than tests.

#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "base/check.h"
#include "platform/file.h"
#include "region/cluster_config.h"
#include "region/region.h"

namespace sheaf::region {

/// \brief A folder in memory, removed on destruction with what is mounted on it.
class TestMemory {
 public:
  TestMemory() : path_("/dev/shm/sheaf-test-XXXXXX") {
    SHEAF_CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~TestMemory() {
    (void)platform::Unmount(path_ + "/memory");
    std::filesystem::remove_all(path_);
  }
  TestMemory(const TestMemory&) = delete;
  TestMemory& operator=(const TestMemory&) = delete;

  const std::string& path() const { return path_; }

  /// A cluster of two nodes whose segments have 4 MiB of data.
  ClusterConfig Config() const {
    ClusterConfig config;
    config.name = "test";
    config.cluster_id = 0x5EAF;
    config.nodes = 2;
    config.nodes_max = 4;
    config.memory_folder = path_ + "/memory";
    config.runtime_folder = path_ + "/run";
    config.segment_size_bytes = uint64_t{4} << 20;
    config.slots_max = 256;
    config.lease_pages_max = 8;
    config.records_size_bytes = uint64_t{64} << 10;
    return config;
  }

  /// The same with windows of one file, `<path>/device`, in place of folders.
  ClusterConfig ConfigOnDevice() const {
    ClusterConfig config = Config();
    config.backend = Backend::kFile;
    const std::string device = path_ + "/device";
    config.node_tables = {{}, {}};
    for (uint32_t k = 0; k < config.nodes; ++k) {
      config.node_tables[k].id = k;
      config.node_tables[k].path = device;
      config.node_tables[k].offset_bytes = k * kWindowBytes;
    }
    std::error_code ignored;
    if (!std::filesystem::exists(device, ignored)) {
      SHEAF_CHECK(platform::CreateFile(device, 2 * kWindowBytes).ok());
    }
    return config;
  }
  /// Room for a segment of `ConfigOnDevice`: exactly.
  static constexpr uint64_t kWindowBytes = uint64_t{8} << 20;

 private:
  std::string path_;
};

/// \brief Run `body` in a forked child: the wait status of a child that exits with what
/// `body` returns.
template <typename Body>
int ExitStatusOfChild(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  SHEAF_CHECK(::waitpid(pid, &status, 0) == pid);
  return status;
}

}  // namespace sheaf::region
