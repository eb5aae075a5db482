// The machine room of a simulation: processes that take turns in one thread, their time,
// and what the operating system takes back when one of them dies.

#pragma once

#include <poll.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "simulation/fiber.h"

namespace sheaf::simulation {

using Time = std::chrono::nanoseconds;

/// \brief SplitMix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  uint64_t Below(uint64_t end) { return end == 0 ? 0 : Next() % end; }  ///< 0 .. end-1
  bool OneIn(uint64_t count) { return Below(count) == 0; }

 private:
  uint64_t state_;
};

/// \brief What a process has done so far, as far as it is counted.
struct Work {
  uint64_t lines = 0;     ///< Of control areas, that it flushed or invalidated.
  uint64_t messages = 0;  ///< That it sent, doorbells included.
  Work& operator+=(const Work& other) {
    lines += other.lines;
    messages += other.messages;
    return *this;
  }
  Work operator-(const Work& other) const {
    return {lines - other.lines, messages - other.messages};
  }
};

/// What happens to a process at one of its next steps.
enum class Fate : uint8_t { kKill, kPause, kPowerOff };

/// \brief One simulated process. Owned by the kernel.
struct Process {
  std::string name;
  uint32_t node = 0;
  std::unique_ptr<Fiber> fiber;  ///< Null once it has ended.

  /// \brief Why it does not run now: until then, or until a descriptor is ready.
  std::optional<Time> wake;
  std::vector<struct pollfd> awaited;
  bool is_waiting = false;
  std::optional<Time> ready;  ///< When it learns that a descriptor is ready.
  uint64_t looked_at = 0;     ///< Kernel activity when its descriptors were polled.
  Time paused_until{0};

  struct Doom {
    Fate fate = Fate::kKill;
    uint64_t steps_left = 0;
    Time duration{0};
  };
  std::optional<Doom> doom;
  bool is_signalled = false;    ///< Another process sent it a SIGKILL.
  std::string_view last_point;  ///< The fault point that it passed last.

  int death_pipe[2] = {-1, -1};   ///< Readable at the end of the process.
  const void* spun_at = nullptr;  ///< The memory it looked at last, where, how often.
  uint64_t spun_offset = 0;
  uint64_t spins = 0;

  Work work;

  bool is_alive() const { return fiber != nullptr; }
};

/// \brief Runs processes one step at a time, in an order that follows from a seed. Time
/// passes only here. What the rooms below ask of the operating system comes here by the
/// linker (system_calls.cc): time, sleep, chance, waiting for descriptors, process ids;
/// files, sockets and mappings are real, and noted by owner. One per program.
class Kernel {
 public:
  static Kernel& Get();

  Process* Spawn(const std::string& name, uint32_t node, std::function<void()> body);
  /// \brief As SIGKILL: it never runs again, its descriptors close, its mappings go. Not
  /// the current process.
  void Kill(Process* process);

  /// \brief Called when a doom of a process comes true, between two steps.
  void OnDoom(std::function<void(Process*, const Process::Doom&)> action) {
    on_doom_ = std::move(action);
  }

  /// \brief One step of one process; false if nobody will ever run again.
  bool RunOne();

  // Inside of a process.
  Process* current() const { return current_; }
  /// \brief A point between two steps: others may run now, or this process may die.
  void Step(std::string_view point);
  /// \brief A step before a cache operation. Who looks at one line again and again, which
  /// its writer left half-way, is left alone with it for most of the time.
  void StepAtMemory(const void* memory, uint64_t offset);
  void SleepUntil(Time wake);
  /// \brief Until one of `fds` is ready, or `deadline`.
  void WaitFor(std::vector<struct pollfd> fds, std::optional<Time> deadline);
  void EndCurrent();  ///< As SIGKILL to itself.

  Time Now() const { return now_; }
  void Advance(Time duration) { now_ += duration; }
  Random& random() { return random_; }
  void Seed(uint64_t seed) { random_ = Random(seed); }
  void SetSwitchPeriod(uint64_t period) { switch_period_ = period; }
  void SetSlowMessages(uint64_t one_in) { slow_messages_ = one_in; }

  // What belongs to whom.
  void Own(int fd);
  void Disown(int fd);
  void OwnMapping(uint64_t begin, uint64_t size_bytes);
  void DisownMapping(uint64_t begin, uint64_t size_bytes);
  std::vector<int> FdsOf(const Process* process) const;
  /// \brief Something happened that may make a descriptor ready.
  void NoteActivity() { ++activity_; }
  void NoteMessage() {
    NoteActivity();
    if (current_ != nullptr) ++current_->work.messages;
  }
  uint64_t activity() const { return activity_; }
  /// \brief A living process for which `is_it` holds, or null.
  Process* Find(const std::function<bool(const Process&)>& is_it) const;

 private:
  struct Owned {
    uint64_t end = 0;
    Process* owner = nullptr;
  };
  bool IsReady(Process* process);
  Time NextEvent() const;
  void SwitchOut();
  Time MessageDelay();

  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<std::unique_ptr<Process>> dead_;
  Process* current_ = nullptr;
  std::optional<Process::Doom> fired_;
  std::function<void(Process*, const Process::Doom&)> on_doom_;
  Time now_{std::chrono::seconds(1000)};
  Random random_{1};
  uint64_t switch_period_ = 3;
  uint64_t slow_messages_ = 50;
  uint64_t activity_ = 1;
  std::map<int, Process*> fds_;
  std::map<uint64_t, Owned> mappings_;  ///< By begin.
};

}  // namespace sheaf::simulation
