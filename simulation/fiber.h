// Execution contexts that take turns in one thread.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace sheaf::simulation {

/// \brief One stack and what runs on it. Runs only inside `Resume`, until it calls
/// `SwitchOut` or ends. One that is dropped before its end is never run on: what its
/// frames own is lost, as that of a process that is killed. One thread.
class Fiber {
 public:
  explicit Fiber(std::function<void()> body);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// \brief Run it until it switches out. Not from inside a fiber.
  void Resume();
  /// \brief Inside of this fiber: back to whoever resumed it.
  void SwitchOut();

  bool has_ended() const { return has_ended_; }

 private:
  struct Context;
  static void Enter(uint32_t low, uint32_t high);

  std::function<void()> body_;
  std::unique_ptr<Context> context_;
  bool has_ended_ = false;
};

}  // namespace sheaf::simulation
