#include "daemon/event_loop.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>

#include "platform/process.h"
#include "platform/relax.h"

namespace sheaf::daemon {

class FdWatch::Impl {
 public:
  Impl(asio::io_context* context, int fd) : descriptor(*context, fd) {}
  ~Impl() { descriptor.release(); }  // Not ours to close.

  asio::posix::stream_descriptor descriptor;
};

FdWatch::FdWatch(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
FdWatch::~FdWatch() = default;

namespace {

// A handler may be queued already when its watch goes: `alive` tells.
template <typename ImplType>
void Wait(const std::shared_ptr<ImplType>& impl,
          asio::posix::stream_descriptor::wait_type type, std::function<void()> action) {
  impl->descriptor.async_wait(
      type, [alive = std::weak_ptr<ImplType>(impl),
             action = std::move(action)](const asio::error_code& error) {
        if (!error && !alive.expired()) action();
      });
}

}  // namespace

void FdWatch::WhenReadable(std::function<void()> action) {
  Wait(impl_, asio::posix::stream_descriptor::wait_read, std::move(action));
}

void FdWatch::WhenWritable(std::function<void()> action) {
  Wait(impl_, asio::posix::stream_descriptor::wait_write, std::move(action));
}

/// Handlers of one turn: replies wait for its end.
constexpr int kHandlersPerTurn = 64;

class EventLoop::Impl {
 public:
  void AwaitSignal(const std::function<void(int)>& action) {
    signals->async_wait([this, action](const asio::error_code& error, int number) {
      if (error) return;
      action(number);
      AwaitSignal(action);
    });
  }

  /// True if something was done in place of waiting.
  bool Spin() {
    if (!is_spinning) return false;
    // Other events have their turn as well, which cost a system call to look for.
    constexpr int kLooksPerPoll = 64;
    do {
      if (context.poll_one() > 0) return true;
      for (int i = 0; i < kLooksPerPoll; ++i) {
        if (look(/*is_last=*/false)) return true;
        platform::Relax();
      }
    } while (std::chrono::steady_clock::now() < spin_until);
    is_spinning = false;
    return look(/*is_last=*/true);
  }

  asio::io_context context{1};
  std::function<bool(bool)> look;
  bool is_spinning = false;
  std::chrono::steady_clock::time_point spin_until;
  std::unique_ptr<asio::signal_set> signals;  ///< Null until some are awaited.
  std::atomic<bool> stopped = false;
  std::vector<std::function<void()>> at_turn_end;
};

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() = default;

void EventLoop::Run(const std::function<void()>& after_turn) {
  const auto work = asio::make_work_guard(impl_->context);
  // pairs with the release in Stop
  while (!impl_->stopped.load(std::memory_order_acquire)) {
    if (!impl_->Spin()) impl_->context.run_one();
    for (int i = 1; i < kHandlersPerTurn && impl_->context.poll_one() > 0; ++i) {
    }
    after_turn();
    for (const auto& action : std::exchange(impl_->at_turn_end, {})) action();
  }
}

void EventLoop::AtTurnEnd(std::function<void()> action) {
  impl_->at_turn_end.push_back(std::move(action));
}

void EventLoop::SpinFor(std::chrono::nanoseconds duration) {
  if (duration.count() == 0 || !impl_->look) return;
  impl_->is_spinning = true;
  impl_->spin_until = std::chrono::steady_clock::now() + duration;
}

void EventLoop::OnSpin(std::function<bool(bool)> look) { impl_->look = std::move(look); }

void EventLoop::Stop() {
  impl_->stopped.store(true, std::memory_order_release);  // pairs with the acquire in Run
  asio::post(impl_->context, [] {});
}

void EventLoop::Post(std::function<void()> action) {
  asio::post(impl_->context, std::move(action));
}

void EventLoop::OnSignals(const std::vector<int>& signals,
                          const std::function<void(int)>& action) {
  impl_->signals = std::make_unique<asio::signal_set>(impl_->context);
  for (const int number : signals) impl_->signals->add(number);
  impl_->AwaitSignal(action);
}

std::unique_ptr<FdWatch> EventLoop::Watch(int fd) {
  auto impl = std::make_shared<FdWatch::Impl>(&impl_->context, fd);
  return std::unique_ptr<FdWatch>(new FdWatch(std::move(impl)));
}

std::chrono::nanoseconds EventLoop::Now() const { return platform::BootTime(); }

void EventLoop::After(std::chrono::nanoseconds delay, std::function<void()> action) {
  auto timer = std::make_shared<asio::steady_timer>(impl_->context, delay);
  timer->async_wait([timer, action = std::move(action)](const asio::error_code& error) {
    if (!error) action();
  });
}

}  // namespace sheaf::daemon
