// The daemon's log: one line each, to standard error.

#pragma once

#include <cstdint>
#include <sstream>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

namespace sheaf::daemon {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError, kOff };

void SetLogLevel(LogLevel least);

/// \brief Invalid lists the levels: debug, info, warning, error, off.
arrow::Result<LogLevel> ParseLogLevel(const std::string& text);

void WriteLog(LogLevel level, const std::string& line);

template <typename... Parts>
void Log(LogLevel level, const Parts&... parts) {
  std::ostringstream line;
  (line << ... << parts);
  WriteLog(level, line.str());
}

/// \brief Logs `status` after `what` if it is an error: where nobody is left to be told.
inline void LogIfError(const char* what, const arrow::Status& status) {
  if (!status.ok()) Log(LogLevel::kWarning, what, ": ", status.ToString());
}

}  // namespace sheaf::daemon
