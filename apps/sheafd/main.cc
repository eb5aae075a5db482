// sheafd: the daemon of one node. `sheaf up` starts it; by hand it is good for looking
// at.

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <arrow/result.h>
#include <arrow/status.h>

#include "client/cluster_files.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "platform/process.h"
#include "region/cluster_config.h"

namespace {

using sheaf::daemon::Server;
using sheaf::region::ClusterConfig;

/// For another process that starts or stops this cluster on this host.
constexpr std::chrono::seconds kJoinTimeout{60};

struct Arguments {
  std::string cluster_file;
  std::string config_file;
  uint32_t node = 0;
  bool foreground = false;
  std::string log_level = "info";
  int ready_fd = -1;
};

// Two descriptors a session: the usual soft limit of 1024 is soon reached.
void RaiseDescriptorLimit() {
  struct rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

arrow::Status SayReady(int fd) {
  if (fd < 0) return arrow::Status::OK();
  constexpr char kReady[] = "ready\n";
  constexpr ssize_t kSize = sizeof(kReady) - 1;
  if (::write(fd, kReady, kSize) != kSize) {
    return arrow::Status::IOError("cannot write to --ready-fd ", fd);
  }
  ::close(fd);
  return arrow::Status::OK();
}

arrow::Result<std::unique_ptr<Server>> Start(const Arguments& arguments) {
  std::unique_ptr<Server> server;
  const bool is_complete = arguments.config_file.empty();
  const auto start = [&](const ClusterConfig& config) -> arrow::Status {
    ARROW_ASSIGN_OR_RAISE(server,
                          Server::Start({.config = config,
                                         .node = {arguments.node},
                                         .file = is_complete ? arguments.cluster_file
                                                             : arguments.config_file}));
    return arrow::Status::OK();
  };
  if (is_complete) {
    ARROW_ASSIGN_OR_RAISE(const auto config, ClusterConfig::Load(arguments.cluster_file));
    ARROW_RETURN_NOT_OK(start(config));
  } else {
    ARROW_RETURN_NOT_OK(sheaf::client::JoinCluster(
        arguments.config_file, sheaf::platform::BootTime() + kJoinTimeout, start));
  }
  return server;
}

arrow::Status Serve(const Arguments& arguments) {
  ARROW_ASSIGN_OR_RAISE(const auto level,
                        sheaf::daemon::ParseLogLevel(arguments.log_level));
  sheaf::daemon::SetLogLevel(level);
  if (!arguments.foreground) std::signal(SIGHUP, SIG_IGN);
  RaiseDescriptorLimit();
  ARROW_ASSIGN_OR_RAISE(const auto server, Start(arguments));
  server->StopOnSignals(/*hang_up=*/arguments.foreground);
  ARROW_RETURN_NOT_OK(SayReady(arguments.ready_fd));
  return server->Run();
}

int ParseAndServe(int argc, char** argv) {
  Arguments arguments;
  CLI::App app(
      "The Sheaf daemon of one node: home of its share of the cluster's memory.\n"
      "Started by `sheaf up`, or on each host of a cluster with one file for all:\n"
      "sheafd --config FILE --node K. Ends on SIGTERM or SIGINT. Its memory and the "
      "tables\n"
      "in it stay for the next daemon; `sheaf down` removes them.",
      "sheafd");
  app.set_version_flag("--version", SHEAF_VERSION);
  auto* files = app.add_option_group("file", "Which cluster")->require_option(1);
  files->add_option("--config", arguments.config_file,
                    "The cluster's TOML file (docs/configuration.md), the same for all "
                    "nodes");
  files->add_option("--cluster-file", arguments.cluster_file,
                    "The complete file that `sheaf up` wrote");
  app.add_option("--node", arguments.node, "Number of the node whose daemon this is")
      ->required();
  app.add_flag("--foreground", arguments.foreground,
               "End with the terminal, too (SIGHUP); otherwise that is ignored");
  app.add_option("--log-level", arguments.log_level, "debug, info, warning, error or off")
      ->capture_default_str();
  app.add_option("--ready-fd", arguments.ready_fd,
                 "Descriptor that gets the line \"ready\" once clients can connect");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const arrow::Status status = Serve(arguments);
  if (status.ok()) return 0;
  std::cerr << "sheafd: " << status.message() << '\n';
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return ParseAndServe(argc, argv);
  } catch (const std::exception& error) {  // no memory, or a library's surprise
    std::fprintf(stderr, "sheafd: %s\n", error.what());
    return 1;
  }
}
