// daemon::EventLoop under the simulated clock: linked instead of the one over Asio.

#include "daemon/event_loop.h"

#include <fcntl.h>
#include <poll.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "simulation/kernel.h"
#include "simulation/system_calls.h"

namespace sheaf::daemon {

class FdWatch::Impl {
 public:
  Impl(int watched, uint64_t* loop_quiet_since)
      : fd(watched), quiet_since(loop_quiet_since) {}

  struct pollfd Awaited() const {
    const int events = (on_readable ? POLLIN : 0) | (on_writable ? POLLOUT : 0);
    return {fd, static_cast<short>(events), 0};  // NOLINT(google-runtime-int)
  }

  int fd;
  uint64_t* quiet_since;  ///< Of the loop, which outlives this.
  std::function<void()> on_readable;
  std::function<void()> on_writable;
};

FdWatch::FdWatch(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
FdWatch::~FdWatch() = default;
void FdWatch::WhenReadable(std::function<void()> action) {
  impl_->on_readable = std::move(action);
  *impl_->quiet_since = 0;
}
void FdWatch::WhenWritable(std::function<void()> action) {
  impl_->on_writable = std::move(action);
  *impl_->quiet_since = 0;
}

class EventLoop::Impl {
 public:
  /// What is ready now, in the order of their watches; timers that are due last.
  std::vector<std::function<void()>> TakeReady() {
    std::vector<std::function<void()>> ready;
    TakeReadyWatches(&ready);
    const auto due = timers.upper_bound(simulation::Kernel::Get().Now());
    for (auto it = timers.begin(); it != due; ++it) {
      ready.push_back(std::move(it->second));
    }
    timers.erase(timers.begin(), due);
    return ready;
  }

  void WaitForEvents() const {
    std::vector<struct pollfd> fds;
    for (const auto& watch : watches) {
      const auto impl = watch.lock();
      if (impl != nullptr && impl->Awaited().events != 0) fds.push_back(impl->Awaited());
    }
    std::optional<std::chrono::nanoseconds> next;
    if (!timers.empty()) next = timers.begin()->first;
    simulation::Kernel::Get().WaitFor(std::move(fds), next);
  }

  std::vector<std::weak_ptr<FdWatch::Impl>> watches;
  std::multimap<std::chrono::nanoseconds, std::function<void()>> timers;
  std::vector<std::function<void()>> at_turn_end;
  bool stopped = false;
  uint64_t quiet_since = 0;  ///< Kernel activity when nothing was ready; 0: look.

 private:
  void TakeReadyWatches(std::vector<std::function<void()>>* ready) {
    const uint64_t activity = simulation::Kernel::Get().activity();
    if (std::exchange(quiet_since, activity) == activity) return;
    std::erase_if(watches, [](const auto& watch) { return watch.expired(); });
    std::vector<struct pollfd> polls;
    polls.reserve(watches.size());
    for (const auto& watch : watches) polls.push_back(watch.lock()->Awaited());
    if (simulation::RealPoll(polls.data(), polls.size()) == 0) return;
    quiet_since = 0;  // what is not read to its end is ready again
    for (size_t i = 0; i < polls.size(); ++i) {
      const auto impl = watches[i].lock();
      constexpr int kEnded = POLLHUP | POLLERR;
      const int events = polls[i].events == 0 ? 0 : polls[i].revents;
      if ((events & (POLLIN | kEnded)) != 0) Take(impl, &impl->on_readable, ready);
      if ((events & (POLLOUT | kEnded)) != 0) Take(impl, &impl->on_writable, ready);
    }
  }

  static void Take(const std::shared_ptr<FdWatch::Impl>& impl,
                   std::function<void()>* action,
                   std::vector<std::function<void()>>* ready) {
    if (!*action) return;
    ready->push_back([watch = std::weak_ptr<FdWatch::Impl>(impl),
                      action = std::exchange(*action, nullptr)] {
      if (!watch.expired()) action();
    });
  }
};

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() = default;

void EventLoop::Run(const std::function<void()>& after_turn) {
  while (!impl_->stopped) {
    auto ready = impl_->TakeReady();
    if (ready.empty()) {
      impl_->WaitForEvents();
      continue;
    }
    for (const auto& action : ready) action();
    after_turn();
    for (const auto& action : std::exchange(impl_->at_turn_end, {})) action();
  }
}

void EventLoop::AtTurnEnd(std::function<void()> action) {
  impl_->at_turn_end.push_back(std::move(action));
}

void EventLoop::SpinFor(std::chrono::nanoseconds /*duration*/) {}
// NOLINTNEXTLINE(performance-unnecessary-value-param): as the one over Asio has it
void EventLoop::OnSpin(std::function<bool(bool)> /*look*/) {}

void EventLoop::Stop() { impl_->stopped = true; }

void EventLoop::Post(std::function<void()> action) {
  After(std::chrono::nanoseconds(0), std::move(action));
}

void EventLoop::OnSignals(const std::vector<int>& /*signals*/,
                          const std::function<void(int)>& /*action*/) {}

// As Asio does: nothing that is watched may block.
std::unique_ptr<FdWatch> EventLoop::Watch(int fd) {
  SHEAF_CHECK(::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
  auto impl = std::make_shared<FdWatch::Impl>(fd, &impl_->quiet_since);
  impl_->watches.push_back(impl);
  return std::unique_ptr<FdWatch>(new FdWatch(std::move(impl)));
}

std::chrono::nanoseconds EventLoop::Now() const {
  return simulation::Kernel::Get().Now();
}

void EventLoop::After(std::chrono::nanoseconds delay, std::function<void()> action) {
  impl_->timers.emplace(Now() + delay, std::move(action));
}

}  // namespace sheaf::daemon
