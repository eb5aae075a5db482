// A program that this process starts and whose end it wants to know.

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>

namespace sheaf::platform {

/// \brief Killed, with the processes that it started in its group, if it runs when this
/// is destroyed. One thread at a time.
class ChildProcess {
 public:
  /// \brief Start `arguments[0]` (a path) with standard input from /dev/null. IOError if
  /// it cannot be started.
  static arrow::Result<std::unique_ptr<ChildProcess>> Start(
      const std::vector<std::string>& arguments);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// \brief Its exit code once it has ended (128 + N if signal N ended it); nothing while
  /// it runs. Does not wait.
  std::optional<int> ExitCode();

 private:
  explicit ChildProcess(int process_id) : process_id_(process_id) {}
  int process_id_;
  std::optional<int> exit_code_;
};

}  // namespace sheaf::platform
