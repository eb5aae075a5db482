// When the home looks for objects that nobody reads any more.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "daemon/home.h"
#include "daemon/scheduler.h"
#include "daemon/transport.h"
#include "format/message.h"

namespace sheaf::daemon {

constexpr std::chrono::milliseconds kReclaimPeriodMin{5};
constexpr std::chrono::milliseconds kReclaimPeriodMax{1000};
/// How long an urgent reclaim waits for other nodes to flush their session pages.
constexpr std::chrono::milliseconds kFlushPagesWait{200};

/// \brief Scans while Retired objects exist, less and less often while nothing changes.
/// Homes that may free something since this one did are told so.
/// All it is given outlives it, except actions still in the scheduler, which it may leave
/// behind.
class Reclaimer {
 public:
  Reclaimer(const region::Region* region, Home* home, Transport* transport,
            Scheduler* scheduler);

  /// \brief Something was retired, or leases ended: scan soon.
  void Kick();

  /// \brief Memory is short: ask all nodes to flush their closed leases, wait out the
  /// GRACE of all that is Retired now, scan, then call `done` (maybe before this
  /// returns).
  void ReclaimNow(std::function<void()> done);

  /// \brief Answer a peer's FlushPagesRequest. False if it is something else.
  bool Handle(const format::Message& message, const ReplyFn& reply);

 private:
  void Scan();
  void TellHomes();
  void Arm(std::chrono::nanoseconds delay);
  void OnTimer();
  void ScanAfterGrace(const std::function<void()>& done);
  void AskPeersToFlush(const std::function<void()>& done);

  const region::Region* region_;
  Home* home_;
  Transport* transport_;
  Scheduler* scheduler_;
  std::chrono::nanoseconds period_ = kReclaimPeriodMin;
  std::optional<std::chrono::nanoseconds> due_;  ///< Of the armed timer.
  uint64_t armed_ = 0;  ///< Number of the armed timer; older ones do nothing.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
