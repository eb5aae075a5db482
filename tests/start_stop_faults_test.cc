// A daemon that is killed while it makes its memory, or while it ends: nothing is left of
// the first, and nothing is lost by the second.

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/daemon_faults.h"
#include "base/fault_info.h"
#include "tests/command_line.h"

namespace sheaf::testing {
namespace {

class StartStopFaults : public CommandLine {
 protected:
  static Ran SheafWithFault(const FaultPointInfo& point, const std::string& arguments) {
    return Run(
        fmt::format("SHEAF_FAULT={}=kill {} {}", point.name, SHEAF_BINARY, arguments));
  }
  static bool IsOf(const FaultPointInfo& point, std::string_view prefix) {
    return point.name.starts_with(prefix);
  }
};

TEST_F(StartStopFaults, NothingIsLeftOfAClusterThatDidNotStart) {
  for (const FaultPointInfo& point : kDaemonFaultPoints) {
    if (!IsOf(point, "daemon.format.")) continue;
    SCOPED_TRACE(point.name);
    const Ran killed = SheafWithFault(point, "up --nodes 2 --size 16MiB");
    EXPECT_EQ(killed.code, 1) << killed.out;
    EXPECT_FALSE(std::filesystem::exists(MemoryFolder()));
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/run/" + cluster_));
    ASSERT_EQ(Sheaf("up --nodes 2 --size 16MiB").code, 0);
    EXPECT_EQ(Sheaf("doctor").code, 0);
    ASSERT_EQ(Sheaf("down").code, 0);
  }
}

TEST_F(StartStopFaults, TablesOutliveADaemonThatDiesWhileItEnds) {
  const std::string file = WriteParquet("t.parquet", 1000);
  for (const FaultPointInfo& point : kDaemonFaultPoints) {
    if (!IsOf(point, "daemon.stop.")) continue;
    for (const char* down : {"down --keep", "down"}) {
      SCOPED_TRACE(fmt::format("{}, {}", point.name, down));
      ASSERT_EQ(SheafWithFault(point, "up --nodes 2 --size 16MiB").code, 0);
      ASSERT_EQ(Sheaf("put t " + file + " --checksum").code, 0);
      // The daemon is gone either way: that is all that was asked for.
      EXPECT_EQ(Sheaf(down).code, 0);
      if (std::string_view(down) == "down") {
        EXPECT_FALSE(std::filesystem::exists(MemoryFolder()));
        continue;
      }
      const Ran again = Sheaf("up");
      EXPECT_EQ(again.code, 0) << again.out;
      const Ran verified = Sheaf("--node 1 verify t");
      EXPECT_EQ(verified.code, 0) << verified.out;
      EXPECT_EQ(Sheaf("doctor").code, 0);
      ASSERT_EQ(Sheaf("down").code, 0);
    }
  }
}

}  // namespace
}  // namespace sheaf::testing
