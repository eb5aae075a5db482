// The cells of a kill matrix in which a daemon dies or stops while it says something
// about another node, that it is silent or back, or comes back itself.

#pragma once

#include <signal.h>

#include <csignal>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>

#include "sheaf/sheaf.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "tests/armed_daemon.h"
#include "tests/daemon_cell.h"
#include "tests/daemon_cells.h"
#include "tests/survivors.h"

namespace sheaf::testing {

/// \brief One daemon that is killed or stopped at a point of membership. The other node
/// is stopped until it is withdrawn, and comes back. After a kill the next daemon goes on
/// where the killed one was. One that stops does so until the other node, which is back,
/// has withdrawn it in turn; then it goes on, and comes back as well.
class MembershipFault {
 public:
  static bool IsOne(std::string_view point) {
    return point.starts_with("daemon.withdraw.") || point.starts_with("daemon.admit.") ||
           point.starts_with("daemon.rejoin.");
  }

  /// `survivors` withdraw who is silent soon.
  static arrow::Result<Reached> Try(const Survivors& survivors, std::string_view point,
                                    std::string_view action, uint32_t watcher) {
    // Who comes back dies while it does; else who waits for it.
    const bool is_own = point.starts_with("daemon.rejoin.");
    const uint32_t silent = 1 - watcher;
    const uint32_t daemon = is_own ? silent : watcher;
    DaemonFault fault(survivors, {point, action, daemon, daemon});
    const TestCluster& cluster = survivors.cluster();
    ARROW_RETURN_NOT_OK(fault.AwaitHonoured());
    ARROW_RETURN_NOT_OK(cluster.KillDaemon(daemon));
    {
      ArmedDaemon armed(survivors.name(), daemon, fmt::format("{}={}", point, action),
                        survivors.log() + ".daemon");
      ARROW_ASSIGN_OR_RAISE(const bool is_up, fault.AwaitUp(&armed));
      if (!is_up) return arrow::Status::Invalid("the daemon died while it started");
      if (is_own) {
        armed.Stop();
      } else {
        ARROW_RETURN_NOT_OK(cluster.SignalDaemon(silent, SIGSTOP));
      }
      // It does not look at one that stopped because we said so.
      std::optional<DaemonFault::Watch> watch;
      if (!is_own) watch.emplace(&fault, &armed);
      // One that stops before it withdraws another does so when that is back.
      const bool is_gone = Eventually([&] {
        return fault.is_reached() || fault.StateOf(watcher, silent) == "withdrawn";
      });
      if (is_own) {
        armed.Continue();
        watch.emplace(&fault, &armed);
      } else {
        ARROW_RETURN_NOT_OK(cluster.SignalDaemon(silent, SIGCONT));
      }
      if (!is_gone) return arrow::Status::Invalid("a silent node is not withdrawn");
      // Nothing else ends it: each of these points is passed on the way.
      if (!Eventually([&] { return fault.is_reached(); })) {
        return arrow::Status::Invalid("the point is not reached");
      }
      watch.reset();
      if (action == "pause") ARROW_RETURN_NOT_OK(fault.AwaitHonoured());
    }
    return fault.Finish();
  }
};

}  // namespace sheaf::testing
