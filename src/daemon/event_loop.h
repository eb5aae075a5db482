// The daemon's only thread: timers, readiness of descriptors, signals.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "daemon/scheduler.h"

namespace sheaf::daemon {

/// \brief Says when a descriptor is ready. One reader and one writer each; each call arms
/// once. Borrows the descriptor, which must outlive it. After destruction nothing is
/// called any more.
class FdWatch {
 public:
  ~FdWatch();
  void WhenReadable(std::function<void()> action);
  void WhenWritable(std::function<void()> action);

 private:
  friend class EventLoop;
  class Impl;
  explicit FdWatch(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

/// \brief Wraps Asio, which no other file of the daemon sees. All calls from the loop's
/// thread, except `Stop` and `Post`. Outlives every watch and connection on it.
class EventLoop : public Scheduler {
 public:
  EventLoop();
  ~EventLoop() override;

  /// \brief Handle events until `Stop`, in turns of what is ready, and not too much of
  /// it. After each turn `after_turn` is called, then what `AtTurnEnd` put off.
  void Run(const std::function<void()>& after_turn);

  /// \brief Run `action` when the events of this turn are handled and `after_turn` was
  /// called: what leaves the process then says no more than what was written before.
  void AtTurnEnd(std::function<void()> action);

  /// \brief Until `duration` from now the loop does not block when nothing is ready: it
  /// calls `look` of OnSpin again and again, which says whether it did something.
  void SpinFor(std::chrono::nanoseconds duration);
  /// \brief After the last spin, before the loop blocks, `look` is called with
  /// `is_last`. Set before Run.
  void OnSpin(std::function<bool(bool is_last)> look);

  void Stop();  ///< Any thread; not a signal handler.

  /// \brief Run `action` among the next events. Any thread.
  void Post(std::function<void()> action);

  /// \brief Call `action` with the number of any of `signals` that arrives from now on.
  void OnSignals(const std::vector<int>& signals, const std::function<void(int)>& action);

  std::unique_ptr<FdWatch> Watch(int fd);

  std::chrono::nanoseconds Now() const override;
  void After(std::chrono::nanoseconds delay, std::function<void()> action) override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf::daemon
