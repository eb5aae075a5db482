// Daemons that are started one by one from one cluster file, as on the hosts of a
// cluster.

#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include <gtest/gtest.h>

#include "testing/eventually.h"
#include "tests/command_line.h"

namespace sheaf::testing {

/// \brief The file is `lab.toml` in the test's folder.
class JoinedNodes : public CommandLine {
 protected:
  std::string Command(int node, const std::string& file = "lab.toml") const {
    return std::string(SHEAFD_BINARY) + " --config " + Path(file) + " --node " +
           std::to_string(node);
  }
  // In the background; returns when it can be connected to.
  void Start(int node, const std::string& environment = "") {
    const std::string number = std::to_string(node);
    const std::string ready = Path("ready" + number);
    std::filesystem::remove(ready);
    ASSERT_EQ(Run(environment + Command(node) + " --ready-fd 3 3> " + ready + " > " +
                  Path("log" + number) + " 2>&1 &")
                  .code,
              0);
    std::error_code error;
    EXPECT_TRUE(Eventually([&] { return std::filesystem::file_size(ready, error) == 6; }))
        << std::ifstream(Path("log" + number)).rdbuf();
  }
};

}  // namespace sheaf::testing
