// A progress bar on standard error, when that is a terminal.

#pragma once

#include <string>

namespace sheaf::cli {

/// \brief Draws at most a hundred states of one line, and removes it when destroyed.
/// Silent when standard error is not a terminal. One thread.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(double share);  ///< 0 to 1; never goes back.

 private:
  std::string label_;
  bool enabled_;
  int percent_ = -1;
};

}  // namespace sheaf::cli
