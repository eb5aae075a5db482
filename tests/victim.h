// The process that a kill matrix kills or pauses.

#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <ios>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/client_faults.h"
#include "base/fault_info.h"
#include "base/fault_point.h"
#include "platform/file.h"
#include "platform/process.h"
#include "sheaf/store.h"
#include "tests/member.h"
#include "tests/victim_session.h"

namespace sheaf::testing {

/// The node that a cluster has forgotten: the last of three.
constexpr uint32_t kForgottenNode = 2;

/// \brief The test's end: this test program again, as a process that runs one
/// VictimSession (TEST(Victim, Runs) must be in it, calling RunAsVictim). It dies with
/// the test.
class Victim {
 public:
  /// A reader is of another user, in the group kReaders; only root can start one. An
  /// operator only has kForgottenNode forgotten.
  enum class Kind : uint8_t { kOwner, kReader, kOperator };

  /// `fault` as SHEAF_FAULT; empty to count passes instead. `log` gets its output.
  static Victim Start(const std::string& cluster, uint32_t node, const std::string& fault,
                      const std::string& log, Kind kind = Kind::kOwner) {
    const std::string self = platform::ExecutablePath().ValueOrDie();
    const int log_fd =
        ::open(log.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    SHEAF_CHECK(log_fd >= 0);
    ::setenv(kCluster, cluster.c_str(), 1);
    ::setenv(kNode, std::to_string(node).c_str(), 1);
    ::setenv("SHEAF_FAULT", fault.c_str(), 1);
    ::setenv(kKind, std::to_string(static_cast<int>(kind)).c_str(), 1);
    const platform::UniqueFd closed_at_the_end(log_fd);
    std::string filter = "--gtest_filter=Victim.Runs";
    const std::array<char*, 3> argv = {const_cast<char*>(self.c_str()), filter.data(),
                                       nullptr};
    const pid_t process = ::fork();
    if (process == 0) {  // Only async-signal-safe calls until exec.
      if (kind == Kind::kReader && !BecomeMember(kMemberUser, {&kReaders, 1})) {
        ::_exit(126);
      }
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(log_fd, STDOUT_FILENO);
      ::dup2(log_fd, STDERR_FILENO);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    SHEAF_CHECK(process > 0);
    for (const char* name : {kCluster, kNode, kKind, "SHEAF_FAULT"}) ::unsetenv(name);
    return Victim(process);
  }

  /// \brief Wait until it is stopped or has ended; returns its status as waitpid does.
  int Await() const {
    int status = 0;
    while (::waitpid(process_, &status, WUNTRACED) < 0) SHEAF_CHECK(errno == EINTR);
    return status;
  }
  void Continue() const { SHEAF_CHECK(::kill(process_, SIGCONT) == 0); }
  void Kill() const { SHEAF_CHECK(::kill(process_, SIGKILL) == 0); }

  static constexpr const char* kCluster = "SHEAF_VICTIM_CLUSTER";
  static constexpr const char* kNode = "SHEAF_VICTIM_NODE";
  static constexpr const char* kKind = "SHEAF_VICTIM_KIND";

 private:
  explicit Victim(pid_t process) : process_(process) {}
  pid_t process_;
};

/// The end of what a victim said.
inline std::string Tail(const std::string& path) {
  constexpr size_t kMax = 2000;
  std::ifstream file(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  return text.size() > kMax ? text.substr(text.size() - kMax) : text;
}

inline bool EndedWell(int status) {
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// How long nothing of a victim takes, stopped or not: it ends itself then.
constexpr unsigned kVictimWatchdogSeconds = 240;

inline bool IsVictim() { return std::getenv(Victim::kCluster) != nullptr; }

inline arrow::Status RunSession(Victim::Kind kind, const std::string& cluster,
                                uint32_t node) {
  if (kind == Victim::Kind::kReader) return VictimSession::Read(cluster, node);
  if (kind == Victim::Kind::kOwner) return VictimSession::Run(cluster, node);
  ARROW_ASSIGN_OR_RAISE(const auto store, Store::Connect({cluster, node}));
  return store->ForgetNode(kForgottenNode);
}

/// \brief The victim's end. Without a fault in the environment it counts how often each
/// of the client's points is passed, and prints that.
inline arrow::Status RunAsVictim() {
  ::alarm(kVictimWatchdogSeconds);
  const bool counts = std::string(std::getenv("SHEAF_FAULT")).empty();
  if (counts) {
    std::string all;
    for (const FaultPointInfo& point : kClientFaultPoints) {
      all += (all.empty() ? "" : ",") + std::string(point.name) + "=kill@999999999";
    }
    ARROW_RETURN_NOT_OK(ArmFaults(all));
  }
  const std::string cluster = std::getenv(Victim::kCluster);
  const auto node = static_cast<uint32_t>(std::stoul(std::getenv(Victim::kNode)));
  ARROW_RETURN_NOT_OK(RunSession(
      static_cast<Victim::Kind>(std::stoi(std::getenv(Victim::kKind))), cluster, node));
  for (const ArmedFault& fault : ArmedFaults()) {
    if (counts) std::cout << "passes " << fault.name << ' ' << fault.passes << '\n';
  }
  return arrow::Status::OK();
}

/// \brief What a victim that counted printed to `log`.
inline std::map<std::string, uint64_t> ReadPasses(const std::string& log) {
  std::map<std::string, uint64_t> passes;
  std::ifstream file(log);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string verb;
    std::string name;
    uint64_t count = 0;
    if (words >> verb >> name >> count && verb == "passes") passes[name] = count;
  }
  return passes;
}

}  // namespace sheaf::testing
