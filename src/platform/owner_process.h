// Whose is it: the process that made something, or the one that forked it?

#pragma once

#include <cstdint>

namespace sheaf::platform {

/// \brief Notes the process that makes it. In a child of `fork` (a bare clone goes
/// unnoticed) it names somebody else. To ask costs a load, where getpid costs a system
/// call. Any thread.
class OwnerProcess {
 public:
  OwnerProcess();

  bool IsThisOne() const;

  /// \brief True if this process made it and has forked since: then a child inherited
  /// what goes with it, and may live.
  bool HasForked() const;

 private:
  uint64_t generation_;
  uint64_t num_forks_;
};

}  // namespace sheaf::platform
