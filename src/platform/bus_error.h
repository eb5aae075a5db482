// Memory that fails under a load: broken hardware, a device that is gone, a file that was
// cut short under its mapping. The system says so by SIGBUS; here it becomes a Status.

#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>

#include <arrow/status.h>

namespace sheaf::platform {

/// \brief Bytes that a guarded call may touch.
struct MemoryRange {
  const void* address = nullptr;
  size_t size_bytes = 0;
};

/// \brief Run `touch(context)`, which loads from `memory`, and perhaps stores there. If
/// memory fails under that, the call ends there and then: IOError with reason damaged
/// names the byte. So `touch` takes no lock, allocates nothing, has nothing to destroy,
/// and what it was to fill has any contents after an error. Guards nest. Any thread.
///
/// The first guard of a process installs a handler of SIGBUS, which hands on to the one
/// that was there what is not of a guarded range and of the thread that guards it. A
/// program that wants a handler of its own installs it before, or hands on as well.
arrow::Status GuardBusError(std::initializer_list<MemoryRange> memory,
                            void (*touch)(void* context), void* context);

template <typename Touch>
arrow::Status GuardBusError(std::initializer_list<MemoryRange> memory, Touch touch) {
  return GuardBusError(
      memory, [](void* context) { (*static_cast<Touch*>(context))(); }, &touch);
}

/// \brief Load a byte of every `step_bytes` of `memory`, and the last one. Memory that
/// fails later is not found, nor what lies between if the step is more than a line.
arrow::Status CheckReadable(MemoryRange memory, size_t step_bytes);

/// \brief For programs: while it lives, memory that fails outside of any guard ends the
/// process with `exit_code`, after `message` went to standard error and the file at
/// `draft_path` (none if empty) was removed. For code of others over a table's memory,
/// Arrow's writers for example, which can neither be unwound nor go on. One at a time.
class BusErrorExit {
 public:
  BusErrorExit(std::string message, int exit_code, std::string draft_path = "");
  ~BusErrorExit();
  BusErrorExit(const BusErrorExit&) = delete;
  BusErrorExit& operator=(const BusErrorExit&) = delete;

  /// \brief What happens then. For the handler of the signal.
  [[noreturn]] void Exit() const;

 private:
  const std::string message_;
  const int exit_code_;
  const std::string draft_path_;
};

}  // namespace sheaf::platform
