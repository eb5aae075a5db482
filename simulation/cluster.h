// A simulated cluster: daemons that are started again, the model of what they hold, and
// what is done to them.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <arrow/status.h>

#include "daemon/server.h"
#include "simulation/kernel.h"
#include "simulation/model.h"
#include "simulation/steps.h"

namespace sheaf::simulation {

/// How the process of a run ends that found something wrong.
constexpr int kExitViolation = 3;

/// \brief One per program.
class Cluster {
 public:
  Cluster(const Schedule& schedule, const std::string& folder, bool is_verbose);

  const Schedule& schedule() const { return schedule_; }
  Model& model() { return model_; }
  uint64_t NextSerial() { return ++last_serial_; }

  /// \brief Something that must hold does not. Ends the program.
  [[noreturn]] void Fail(const std::string& what) const;
  void Say(const std::string& what) const;
  void SetStep(const Step& step) { step_ = ToString(step); }

  // Daemons.
  Process* daemon(uint32_t node) const { return nodes_[node].process; }
  bool IsUp(uint32_t node) const;
  /// \brief It lost its power and has not got it back.
  bool IsOff(uint32_t node) const { return nodes_[node].is_off; }
  bool AllUp() const;
  /// \brief The daemon of `node` is gone; the next one begins after `pause`.
  void KillDaemon(uint32_t node, Time pause);
  /// \brief The daemon ends by itself, its memory kept; the next begins after `pause`.
  void StopDaemon(uint32_t node, Time pause);
  void PowerOff(uint32_t node, Time pause);
  /// \brief Whoever waits for its turn to start does so now.
  void HurryStarts();
  /// \brief One of the connections of `process` breaks.
  void Cut(Process* process);

  /// \brief Called when something was done to a node or a daemon.
  void NoteDisturbance() { last_disturbance_ = Kernel::Get().Now(); }
  /// \brief True if an operation that began at `since` may fail for want of a daemon.
  bool WasDisturbed(Time since) const;

 private:
  struct Node {
    Process* process = nullptr;
    daemon::Server* server = nullptr;  ///< While it is up.
    bool is_off = false;
  };
  void StartDaemon(uint32_t node, Time pause);
  void RunDaemon(uint32_t node, Time start);

  Schedule schedule_;
  bool is_verbose_;
  Model model_;
  std::vector<Node> nodes_;
  std::string step_ = "start";
  uint64_t last_serial_ = 0;
  Time last_disturbance_{0};
};

}  // namespace sheaf::simulation
