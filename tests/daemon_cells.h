// The cells of a kill matrix in which a daemon dies or stops.

#pragma once

#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>

#include "platform/process.h"
#include "sheaf/sheaf.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "tests/armed_daemon.h"
#include "tests/daemon_cell.h"
#include "tests/survivors.h"
#include "tests/victim.h"

namespace sheaf::testing {

/// \brief One daemon that is killed or stopped at a point, while it starts or while a
/// session works through it. After a kill the next daemon finds what is left, and the
/// session sees no more than a pause. One that stops does so until the other node has
/// withdrawn it: what is opened then fails (F7), all else goes on when it does.
class DaemonFault {
 public:
  static arrow::Result<Reached> Try(const Survivors& survivors, const DaemonCell& cell) {
    return DaemonFault(survivors, cell).Run();
  }

  DaemonFault(const Survivors& survivors, const DaemonCell& cell)
      : survivors_(survivors), cell_(cell) {}

  bool is_reached() const { return is_reached_; }

  /// How the next daemon of one that is killed starts; else all that are missing do.
  void StartNextBy(std::function<arrow::Status()> start) {
    start_next_ = std::move(start);
  }

  /// Does what is to be done about an armed daemon, while others wait for it.
  class Watch {
   public:
    Watch(DaemonFault* fault, ArmedDaemon* armed)
        : thread_([this, fault, armed] {
            while (!is_over_) {
              fault->React(armed);
              platform::SleepFor(std::chrono::milliseconds(1));
            }
          }) {}
    ~Watch() { End(); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    void End() {
      is_over_ = true;
      if (thread_.joinable()) thread_.join();
    }

   private:
    std::atomic<bool> is_over_ = false;
    std::thread thread_;
  };

  // Whoever was armed is gone: all works, and all is as it was.
  arrow::Result<Reached> Finish() {
    ARROW_RETURN_NOT_OK(survivors_.cluster().StartMissing());
    ARROW_RETURN_NOT_OK(restarted_);
    ARROW_RETURN_NOT_OK(AwaitHonoured());
    ARROW_RETURN_NOT_OK(survivors_.UseAll());
    ARROW_RETURN_NOT_OK(survivors_.AwaitAllBack());
    return is_reached_ ? Reached::kYes : Reached::kNo;
  }

  // False if it died on the way.
  arrow::Result<bool> AwaitUp(ArmedDaemon* armed) {
    bool is_up = false;
    const bool is_clear = Eventually([&] {
      React(armed);
      is_up = armed->Look() == ArmedDaemon::State::kRuns &&
              survivors_.cluster().OpenDaemon(cell_.daemon).ok();
      return is_up || armed->Look() == ArmedDaemon::State::kEnded;
    });
    if (!is_clear) return arrow::Status::Invalid("the daemon does not start");
    return is_up;
  }

  // What the test does about what the daemon did.
  void React(ArmedDaemon* armed) {
    if (armed->Look() == State::kRuns || (is_reached_ && is_killed())) return;
    is_reached_ = true;
    if (is_killed()) {
      restarted_ = start_next_();
      return;
    }
    if (armed->Look() == ArmedDaemon::State::kEnded) {
      restarted_ = arrow::Status::Invalid("a daemon that was to stop has ended: ",
                                          Tail(survivors_.log() + ".daemon"));
      return;
    }
    // Past every time-out.
    if (!Eventually(
            [&] { return StateOf(1 - cell_.daemon, cell_.daemon) == "withdrawn"; })) {
      restarted_ = arrow::Status::Invalid("a stopped daemon is not withdrawn");
    }
    armed->Continue();
  }

  std::string StateOf(uint32_t of_node, uint32_t node) const {
    const auto nodes = survivors_.store(of_node).Nodes();
    return nodes.ok() ? (*nodes)[node].state : nodes.status().ToString();
  }

  // By the nodes that look, if those before `end` are up.
  arrow::Status AwaitHonoured(uint32_t end) const {
    const auto all_are = [&] {
      for (uint32_t k = 0; k < end; ++k) {
        if (StateOf(0, k) != "up" || StateOf(1, k) != "up") return false;
      }
      return true;
    };
    return Eventually(all_are) ? arrow::Status::OK()
                               : arrow::Status::Invalid("a node does not come back");
  }
  arrow::Status AwaitHonoured() const { return AwaitHonoured(survivors_.config().nodes); }

 private:
  using State = ArmedDaemon::State;

  arrow::Result<Reached> Run() {
    ARROW_RETURN_NOT_OK(survivors_.cluster().KillDaemon(cell_.daemon));
    arrow::Status session;
    {
      ArmedDaemon armed(survivors_.name(), cell_.daemon,
                        fmt::format("{}={}", cell_.point, cell_.action),
                        survivors_.log() + ".daemon");
      ARROW_ASSIGN_OR_RAISE(const bool is_up, AwaitUp(&armed));
      // Whose daemon died while it started has no session yet.
      if (is_up || is_reached_) session = RunSession(&armed);
    }
    ARROW_RETURN_NOT_OK(session);
    return Finish();
  }

  arrow::Status RunSession(ArmedDaemon* armed) {
    Watch watch(this, armed);
    // How a dead session's things come back, only a dead one shows.
    const bool dies_late = cell_.point.starts_with("daemon.guests.");
    const bool dies = dies_late || cell_.point.starts_with("daemon.session-end.");
    const char* death = dies_late ? "client.forget.before-request=kill"
                                  : "client.seal.before-request=kill@3";
    const Victim victim = Victim::Start(survivors_.name(), cell_.node, dies ? death : "",
                                        survivors_.log(), cell_.kind);
    const int end = victim.Await();
    const bool has_ended = !dies || Eventually([&] {
      return HasNoVictim() && (is_reached_ || survivors_.HasNoGuest(1 - cell_.node));
    });
    watch.End();
    ARROW_RETURN_NOT_OK(restarted_);
    if (!has_ended) return arrow::Status::Invalid("a dead session stays");
    if (dies ? WIFSIGNALED(end) : EndedWell(end)) return arrow::Status::OK();
    const std::string said = Tail(survivors_.log());
    // Of a node that others have withdrawn they take nothing until it is back: its
    // session is told so, or copies what it may not refer to.
    for (const char* refusal : {"does not honour", "node lost", "bytes were copied"}) {
      if (is_killed() || said.find(refusal) == std::string::npos) continue;
      return arrow::Status::OK();
    }
    return arrow::Status::Invalid("a session ended badly: ", said);
  }

  // True if no session is left on its node but the one that looks: each has a lock.
  bool HasNoVictim() const {
    const std::filesystem::directory_iterator locks(
        survivors_.config().session_lock_folder({cell_.node}));
    return std::distance(locks, {}) == 1;
  }

  bool is_killed() const { return cell_.action == "kill"; }

  const Survivors& survivors_;
  const DaemonCell cell_;
  std::function<arrow::Status()> start_next_ = [this] {
    return survivors_.cluster().StartMissing();
  };
  std::atomic<bool> is_reached_ = false;
  arrow::Status restarted_;
};

}  // namespace sheaf::testing
