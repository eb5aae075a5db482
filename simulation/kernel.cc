#include "simulation/kernel.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "simulation/fiber.h"
#include "simulation/system_calls.h"

namespace sheaf::simulation {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;

/// How long one step takes, at most.
constexpr uint64_t kStepNsMax = 3000;

/// Who looked at one line so often has found it Busy: its writer may be dead, and he will
/// look a quarter of a million times.
constexpr uint64_t kSpinsMax = 32;
constexpr uint64_t kSpinsPerSwitch = 4096;
constexpr nanoseconds kSpinTime{100};

}  // namespace

uint64_t Random::Next() {
  uint64_t z = (state_ += 0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

Kernel& Kernel::Get() {
  static auto* const kKernel = new Kernel();
  return *kKernel;
}

Process* Kernel::Spawn(const std::string& name, uint32_t node,
                       std::function<void()> body) {
  auto process = std::make_unique<Process>();
  process->name = name;
  process->node = node;
  process->fiber = std::make_unique<Fiber>(std::move(body));
  SHEAF_CHECK(::pipe2(process->death_pipe, O_CLOEXEC | O_NONBLOCK) == 0);
  processes_.push_back(std::move(process));
  return processes_.back().get();
}

void Kernel::Kill(Process* process) {
  SHEAF_CHECK(process != current_);
  if (!process->is_alive()) return;
  process->fiber.reset();
  for (const int fd : FdsOf(process)) {
    fds_.erase(fd);
    SHEAF_CHECK(RealClose(fd) == 0);
  }
  for (auto it = mappings_.begin(); it != mappings_.end();) {
    if (it->second.owner != process) {
      ++it;
      continue;
    }
    // NOLINTNEXTLINE(performance-no-int-to-ptr): as mmap gave it
    RealUnmap(reinterpret_cast<void*>(it->first), it->second.end - it->first);
    it = mappings_.erase(it);
  }
  // Its pidfds hold the other end.
  for (int& fd : process->death_pipe) {
    RealClose(fd);
    fd = -1;
  }
  NoteActivity();
  const auto it = std::ranges::find(processes_, process, &std::unique_ptr<Process>::get);
  dead_.push_back(std::move(*it));
  processes_.erase(it);
}

bool Kernel::IsReady(Process* process) {
  if (process->paused_until > now_) return false;
  if (!process->is_waiting) return true;
  if (process->wake && *process->wake <= now_) return true;
  if (!process->ready && process->looked_at != activity_ && !process->awaited.empty()) {
    process->looked_at = activity_;
    if (RealPoll(process->awaited.data(), process->awaited.size()) > 0) {
      process->ready = now_ + MessageDelay();
    }
  }
  return process->ready && *process->ready <= now_;
}

// Most messages take microseconds; some so long that everything else overtakes them.
Time Kernel::MessageDelay() {
  if (random_.OneIn(slow_messages_)) return microseconds(random_.Below(300'000));
  return nanoseconds(random_.Below(20'000));
}

/// When somebody can run next; Time::max() if nobody ever will.
Time Kernel::NextEvent() const {
  Time next = Time::max();
  for (const auto& process : processes_) {
    Time at = process->is_waiting ? process->wake.value_or(Time::max()) : now_;
    at = std::min(at, process->ready.value_or(Time::max()));
    next = std::min(next, std::max(at, process->paused_until));
  }
  return next;
}

bool Kernel::RunOne() {
  SHEAF_CHECK(current_ == nullptr);
  if (Process* const hit = Find([](const Process& each) { return each.is_signalled; })) {
    hit->is_signalled = false;
    on_doom_(hit, {});
    return true;
  }
  std::vector<Process*> ready;
  for (const auto& process : processes_) {
    if (IsReady(process.get())) ready.push_back(process.get());
  }
  if (ready.empty()) {
    const Time next = NextEvent();
    if (next == Time::max()) return false;
    now_ = std::max(now_, next);
    return true;
  }
  Process* const process = ready[random_.Below(ready.size())];
  now_ += nanoseconds(random_.Below(kStepNsMax));
  process->is_waiting = false;
  process->wake.reset();
  process->ready.reset();
  current_ = process;
  process->fiber->Resume();
  current_ = nullptr;
  if (const auto doom = std::exchange(fired_, std::nullopt)) {
    on_doom_(process, *doom);
  } else if (process->fiber->has_ended()) {
    Kill(process);
  }
  return true;
}

void Kernel::SwitchOut() { current_->fiber->SwitchOut(); }

void Kernel::Step(std::string_view point) {
  if (current_ == nullptr) return;
  Process& process = *current_;
  if (!point.empty()) process.last_point = point;
  if (process.doom && process.doom->steps_left-- == 0) {
    fired_ = std::exchange(process.doom, std::nullopt);
    SwitchOut();
    return;
  }
  if (random_.OneIn(switch_period_)) SwitchOut();
}

void Kernel::StepAtMemory(const void* memory, uint64_t offset) {
  if (current_ == nullptr) return;
  Process& process = *current_;
  if (process.spun_at != memory || process.spun_offset != offset) {
    process.spun_at = memory;
    process.spun_offset = offset;
    process.spins = 0;
  } else if (++process.spins > kSpinsMax) {
    now_ += kSpinTime;
    if (process.spins % kSpinsPerSwitch != 0) return;
  }
  Step("");
}

void Kernel::EndCurrent() {
  fired_ = Process::Doom{};
  SwitchOut();
}

void Kernel::SleepUntil(Time wake) { WaitFor({}, wake); }

void Kernel::WaitFor(std::vector<struct pollfd> fds, std::optional<Time> deadline) {
  SHEAF_CHECK(current_ != nullptr);
  current_->is_waiting = true;
  current_->awaited = std::move(fds);
  current_->looked_at = 0;
  current_->wake = deadline;
  SwitchOut();
}

void Kernel::Own(int fd) {
  if (fd >= 0 && current_ != nullptr) fds_[fd] = current_;
}

void Kernel::Disown(int fd) {
  fds_.erase(fd);
  NoteActivity();
}

std::vector<int> Kernel::FdsOf(const Process* process) const {
  std::vector<int> fds;
  for (const auto& [fd, owner] : fds_) {
    if (owner == process) fds.push_back(fd);
  }
  return fds;
}

void Kernel::OwnMapping(uint64_t begin, uint64_t size_bytes) {
  DisownMapping(begin, size_bytes);
  if (current_ != nullptr) mappings_[begin] = {begin + size_bytes, current_};
}

void Kernel::DisownMapping(uint64_t begin, uint64_t size_bytes) {
  const uint64_t end = begin + size_bytes;
  auto it = mappings_.upper_bound(begin);
  if (it != mappings_.begin() && std::prev(it)->second.end > begin) --it;
  while (it != mappings_.end() && it->first < end) {
    const uint64_t old_begin = it->first;
    const Owned old = it->second;
    it = mappings_.erase(it);
    if (old_begin < begin) mappings_[old_begin] = {begin, old.owner};
    if (old.end > end) mappings_[end] = old;
  }
}

Process* Kernel::Find(const std::function<bool(const Process&)>& is_it) const {
  for (const auto& process : processes_) {
    if (is_it(*process)) return process.get();
  }
  return nullptr;
}

}  // namespace sheaf::simulation
