// Runs the command line as a user does: real processes, in a folder of the test's own.

#pragma once

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ios>
#include <string>

#include <arrow/builder.h>
#include <arrow/io/file.h>
#include <arrow/table.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <parquet/arrow/writer.h>

#include "format/control_layout.h"
#include "format/layout.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"

namespace sheaf::testing {

using Json = nlohmann::json;

/// \brief How a command ended.
struct Ran {
  int code = -1;
  std::string out;  ///< Standard output and standard error.
};

/// \brief A runtime folder and a cluster name of its own, and `sheaf` run in them as a
/// user does. The cluster, if one was started, ends with the test.
class CommandLine : public ::testing::Test {
 public:
  static Ran Run(const std::string& command);

 protected:
  void SetUp() override {
    std::string folder = "/tmp/sheaf-cli-XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    // The cluster's name is part of a path in /dev/shm that other tests use too.
    cluster_ = "cli" + std::to_string(platform::RandomBits() % 1'000'000'000);
    ::setenv("SHEAF_RUNTIME_DIR", (folder_ + "/run").c_str(), 1);
    ::setenv("SHEAF_CLUSTER", cluster_.c_str(), 1);
  }
  void TearDown() override {
    Sheaf("down");
    std::filesystem::remove_all(folder_);
    ::unsetenv("SHEAF_RUNTIME_DIR");
    ::unsetenv("SHEAF_CLUSTER");
  }

  static Ran Sheaf(const std::string& arguments) {
    return Run(std::string(SHEAF_BINARY) + " " + arguments);
  }
  Json SheafJson(const std::string& arguments) {
    const Ran ran = Sheaf("--json " + arguments);
    EXPECT_EQ(ran.code, 0) << ran.out;
    return Json::parse(ran.out, nullptr, /*allow_exceptions=*/false);
  }
  void Up(const std::string& options = "") {
    const Ran ran = Sheaf("up --size 64MiB " + options);
    ASSERT_EQ(ran.code, 0) << ran.out;
  }
  // As a crash would: by SIGKILL.
  void EndDaemon(int node) {
    const std::string socket =
        folder_ + "/run/" + cluster_ + "/node" + std::to_string(node) + ".sock";
    ASSERT_OK_AND_ASSIGN(auto connection, platform::ConnectUnix(socket));
    ASSERT_OK_AND_ASSIGN(auto peer, platform::GetPeerCredentials(connection.get()));
    ASSERT_OK_AND_ASSIGN(auto pidfd, platform::OpenPidFd(peer.process_id));
    ASSERT_EQ(::kill(peer.process_id, SIGKILL), 0);
    ASSERT_TRUE(Eventually([&] { return platform::HasExited(pidfd); }));
  }
  // Where the arrays of node `node`'s control part are.
  format::ControlLayout Layout() {
    const auto config =
        region::ClusterConfig::Load(folder_ + "/run/" + cluster_ + "/cluster.toml")
            .ValueOrDie();
    return format::ControlLayout::Make(config.nodes_max, config.lease_pages_max,
                                       config.grants_max(), config.slots_max,
                                       config.records_size_bytes);
  }
  // Flips a bit of one byte of the control part.
  void Damage(int node, uint64_t offset) {
    std::fstream file(MemoryFolder() + "/node" + std::to_string(node) + "/control",
                      std::ios::binary | std::ios::in | std::ios::out);
    const auto at = static_cast<std::streamoff>(offset);
    const int byte = file.seekg(at).get();
    file.seekp(at).put(static_cast<char>(static_cast<uint8_t>(byte) ^ 1U));
    ASSERT_TRUE(file.flush().good());
  }
  std::string MemoryFolder() const { return region::DefaultMemoryFolder(cluster_); }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  // `rows` rows of id and name.
  std::string WriteParquet(const std::string& name, int64_t rows) {
    arrow::Int64Builder ids;
    arrow::StringBuilder names;
    for (int64_t i = 0; i < rows; ++i) {
      EXPECT_OK(ids.Append(i));
      EXPECT_OK(names.Append("name " + std::to_string(i)));
    }
    const auto table =
        arrow::Table::Make(arrow::schema({arrow::field("id", arrow::int64()),
                                          arrow::field("name", arrow::utf8())}),
                           {ids.Finish().ValueOrDie(), names.Finish().ValueOrDie()});
    auto file = arrow::io::FileOutputStream::Open(Path(name)).ValueOrDie();
    EXPECT_OK(parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), file));
    EXPECT_OK(file->Close());
    return Path(name);
  }
  void WriteText(const std::string& name, const std::string& text) {
    std::ofstream(Path(name), std::ios::binary) << text;
  }

  std::string folder_;
  std::string cluster_;
};

inline Ran CommandLine::Run(const std::string& command) {
  Ran ran;
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  if (pipe == nullptr) return ran;
  std::array<char, 4096> block;
  for (size_t size; (size = std::fread(block.data(), 1, block.size(), pipe)) > 0;) {
    ran.out.append(block.data(), size);
  }
  const int status = ::pclose(pipe);
  ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ran;
}

}  // namespace sheaf::testing
