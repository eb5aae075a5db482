#include "daemon/log.h"

#include <array>
#include <cstddef>
#include <memory>

#include <arrow/result.h>
#include <arrow/status.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace sheaf::daemon {
namespace {

struct NamedLevel {
  const char* name;
  LogLevel level;
  spdlog::level::level_enum spdlog_level;
};

constexpr std::array<NamedLevel, 5> kLevels = {
    {{"debug", LogLevel::kDebug, spdlog::level::debug},
     {"info", LogLevel::kInfo, spdlog::level::info},
     {"warning", LogLevel::kWarning, spdlog::level::warn},
     {"error", LogLevel::kError, spdlog::level::err},
     {"off", LogLevel::kOff, spdlog::level::off}}};

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> kLogger = [] {
    auto made = std::make_shared<spdlog::logger>(
        "sheafd", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *kLogger;
}

}  // namespace

void SetLogLevel(LogLevel least) {
  Logger().set_level(kLevels[static_cast<size_t>(least)].spdlog_level);
}

arrow::Result<LogLevel> ParseLogLevel(const std::string& text) {
  for (const NamedLevel& level : kLevels) {
    if (text == level.name) return level.level;
  }
  return arrow::Status::Invalid("log level '", text,
                                "', expected debug, info, warning, error or off");
}

void WriteLog(LogLevel level, const std::string& line) {
  Logger().log(kLevels[static_cast<size_t>(level)].spdlog_level, "{}", line);
}

}  // namespace sheaf::daemon
