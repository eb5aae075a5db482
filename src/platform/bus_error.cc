#include "platform/bus_error.h"

#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include <arrow/status.h>

#include "base/check.h"
#include "sheaf/status.h"

namespace sheaf::platform {
namespace {

/// A guarded call that has not returned, on the stack of its thread.
struct Guard {
  const std::initializer_list<MemoryRange> memory;
  Guard* const outer;
  /// Where memory failed: stored by the handler, between the two returns of sigsetjmp.
  volatile uintptr_t failed = 0;
  sigjmp_buf back = {};
};

/// The handler may be the first on its thread to look, and must not allocate then, as a
/// library that is loaded late would for a thread_local of the general kind.
[[gnu::tls_model("initial-exec")]] thread_local Guard* innermost = nullptr;

/// What was there before us. Never changes once our handler is installed.
struct sigaction previous = {};

bool IsFault(const siginfo_t& info) {
  return info.si_code == BUS_ADRERR || info.si_code == BUS_OBJERR ||
         info.si_code == BUS_MCEERR_AR || info.si_code == BUS_MCEERR_AO;
}

/// The bytes that the signal is about: one, or a whole page whose memory broke.
MemoryRange FailedMemory(const siginfo_t& info) {
  const auto address = reinterpret_cast<uintptr_t>(info.si_addr);
  const bool broke = info.si_code == BUS_MCEERR_AR || info.si_code == BUS_MCEERR_AO;
  const size_t size = broke ? size_t{1} << info.si_addr_lsb : 1;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): down to where the page begins
  return {reinterpret_cast<const void*>(address & ~(size - 1)), size};
}

/// Where two ranges begin to overlap, or 0.
uintptr_t Overlap(const MemoryRange& a, const MemoryRange& b) {
  const auto begin_a = reinterpret_cast<uintptr_t>(a.address);
  const auto begin_b = reinterpret_cast<uintptr_t>(b.address);
  const uintptr_t begin = begin_a < begin_b ? begin_b : begin_a;
  return begin - begin_a < a.size_bytes && begin - begin_b < b.size_bytes ? begin : 0;
}

/// Does not return if a guard of this thread is about that memory.
void JumpToGuard(const siginfo_t& info, const void* context) {
  const MemoryRange failed = FailedMemory(info);
  for (Guard* guard = innermost; guard != nullptr; guard = guard->outer) {
    for (const MemoryRange& range : guard->memory) {
      const uintptr_t at = Overlap(range, failed);
      if (at == 0) continue;
      guard->failed = at;
      innermost = guard->outer;
      // As when the load began: the handler blocks SIGBUS, and what `previous` blocks.
      ::pthread_sigmask(SIG_SETMASK, &static_cast<const ucontext_t*>(context)->uc_sigmask,
                        nullptr);
      ::siglongjmp(guard->back, 1);
    }
  }
}

/// As if we had never been there.
void HandOn(int signal_number, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal_number, info, context);
    return;
  }
  const bool sent = info->si_code <= 0;  // By a process, kill(2) for example.
  if (previous.sa_handler == SIG_IGN && sent) return;
  if (previous.sa_handler != SIG_IGN && previous.sa_handler != SIG_DFL) {
    previous.sa_handler(signal_number);
    return;
  }
  // A load is tried again and fails again; SIG_IGN does not help it either.
  ::sigaction(signal_number, &previous, nullptr);
  if (sent) ::raise(signal_number);
}

/// Of the one BusErrorExit that lives.
std::atomic<const BusErrorExit*> at_fault = nullptr;

void OnBusError(int signal_number, siginfo_t* info, void* context) {
  if (IsFault(*info)) {
    JumpToGuard(*info, context);
    if (const BusErrorExit* exit = at_fault.load()) exit->Exit();
  }
  HandOn(signal_number, info, context);
}

void InstallHandler() {
  static const bool kInstalled = [] {
    if (::sigaction(SIGBUS, nullptr, &previous) != 0) return false;
    struct sigaction ours = {};
    ours.sa_sigaction = OnBusError;
    ours.sa_mask = previous.sa_mask;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    return ::sigaction(SIGBUS, &ours, nullptr) == 0;
  }();
  SHEAF_CHECK(kInstalled);
}

/// False if memory failed. A function of its own: what returns twice keeps nothing in
/// registers that has a destructor.
[[gnu::noinline]] bool Run(Guard* guard, void (*touch)(void* context), void* context) {
  if (sigsetjmp(guard->back, /*savemask=*/0) != 0) return false;
  innermost = guard;
  std::atomic_signal_fence(std::memory_order_seq_cst);  // Before the first load, really.
  touch(context);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  innermost = guard->outer;
  return true;
}

arrow::Status Failed(const Guard& guard) {
  size_t offset = 0;
  size_t size_bytes = 0;
  for (const MemoryRange& range : guard.memory) {
    size_bytes = range.size_bytes;
    offset = guard.failed - reinterpret_cast<uintptr_t>(range.address);
    if (offset < size_bytes) break;
  }
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDamaged,
                    "memory fails at byte " + std::to_string(offset) + " of " +
                        std::to_string(size_bytes) +
                        " (bus error): it is broken, or its file was cut short");
}

}  // namespace

arrow::Status GuardBusError(std::initializer_list<MemoryRange> memory,
                            void (*touch)(void* context), void* context) {
  InstallHandler();
  Guard guard{memory, innermost};
  return Run(&guard, touch, context) ? arrow::Status::OK() : Failed(guard);
}

arrow::Status CheckReadable(MemoryRange memory, size_t step_bytes) {
  if (memory.size_bytes == 0) return arrow::Status::OK();
  return GuardBusError({memory}, [=] {
    const auto* bytes = static_cast<const uint8_t*>(memory.address);
    // Through volatile: nobody uses what is loaded.
    const auto load = [bytes](size_t at) {
      (void)*static_cast<const volatile uint8_t*>(bytes + at);
    };
    for (size_t at = 0; at < memory.size_bytes; at += step_bytes) load(at);
    load(memory.size_bytes - 1);
  });
}

BusErrorExit::BusErrorExit(std::string message, int exit_code, std::string draft_path)
    : message_(std::move(message)),
      exit_code_(exit_code),
      draft_path_(std::move(draft_path)) {
  InstallHandler();
  SHEAF_CHECK(at_fault.exchange(this) == nullptr);
}

BusErrorExit::~BusErrorExit() { at_fault.store(nullptr); }

void BusErrorExit::Exit() const {
  // Nothing can be done about an error here.
  [[maybe_unused]] const auto written =
      ::write(STDERR_FILENO, message_.data(), message_.size());
  if (!draft_path_.empty()) ::unlink(draft_path_.c_str());
  ::_exit(exit_code_);
}

}  // namespace sheaf::platform
