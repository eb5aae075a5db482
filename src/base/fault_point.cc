#include "base/fault_point.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_info.h"

namespace sheaf {
namespace {

constexpr int kExitUsage = 2;
constexpr const char* kVariable = "SHEAF_FAULT";

constexpr bool NamesAreGood() {
  for (size_t i = 0; i < kFaultPoints.size(); ++i) {
    const std::string_view program = kFaultPoints[i].program();
    if (program != "client" && program != "daemon") return false;
    if (!kFaultPoints[i].what.ends_with('.')) return false;
    for (size_t k = 0; k < i; ++k) {
      if (kFaultPoints[k].name == kFaultPoints[i].name) return false;
    }
  }
  return true;
}
static_assert(NamesAreGood(), "names begin with a program and are unique");

enum class Action : uint8_t { kKill, kPause, kDelay };

struct Fault {
  size_t point = 0;  ///< Index in kFaultPoints.
  Action action = Action::kKill;
  std::chrono::milliseconds delay{0};
  uint64_t at_pass = 1;
  mutable std::atomic<uint64_t> passes{0};
};

using Faults = std::deque<Fault>;  // Atomics do not move.

arrow::Result<uint64_t> ParseNumber(std::string_view text, std::string_view entry) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size()) return value;
  return arrow::Status::Invalid("'", entry, "': '", text, "' is not a number");
}

arrow::Status ParseAction(std::string_view text, std::string_view entry, Fault* fault) {
  constexpr std::string_view kDelay = "delay:";
  constexpr uint64_t kDelayMsMax = 86'400'000;
  if (text == "kill") {
    fault->action = Action::kKill;
  } else if (text == "pause") {
    fault->action = Action::kPause;
  } else if (text.starts_with(kDelay)) {
    fault->action = Action::kDelay;
    ARROW_ASSIGN_OR_RAISE(const uint64_t ms,
                          ParseNumber(text.substr(kDelay.size()), entry));
    if (ms > kDelayMsMax) {
      return arrow::Status::Invalid("'", entry, "': a delay is at most ", kDelayMsMax,
                                    " ms");
    }
    fault->delay = std::chrono::milliseconds(ms);
  } else {
    return arrow::Status::Invalid("'", entry, "': there is no action '", text,
                                  "'; actions are kill, pause and delay:<ms>");
  }
  return arrow::Status::OK();
}

// <name>=<action>[@<n>]
arrow::Status ParseFault(std::string_view entry, Fault* fault) {
  const size_t equals = entry.find('=');
  if (equals == std::string_view::npos) {
    return arrow::Status::Invalid("'", entry, "' is not <name>=<action>[@<n>]");
  }
  const std::string_view name = entry.substr(0, equals);
  const auto* const found = std::ranges::find(kFaultPoints, name, &FaultPointInfo::name);
  if (found == kFaultPoints.end()) {
    return arrow::Status::Invalid("there is no fault point '", name,
                                  "'; `sheaf faults` lists them");
  }
  fault->point = static_cast<size_t>(found - kFaultPoints.begin());
  std::string_view action = entry.substr(equals + 1);
  if (const size_t at = action.find('@'); at != std::string_view::npos) {
    ARROW_ASSIGN_OR_RAISE(fault->at_pass, ParseNumber(action.substr(at + 1), entry));
    if (fault->at_pass == 0) {
      return arrow::Status::Invalid("'", entry, "': the first pass is 1");
    }
    action = action.substr(0, at);
  }
  return ParseAction(action, entry, fault);
}

/// Null for an empty text.
arrow::Result<std::unique_ptr<const Faults>> Parse(std::string_view text) {
  auto faults = std::make_unique<Faults>();
  while (!text.empty()) {
    const size_t end = std::min(text.find(','), text.size());
    ARROW_RETURN_NOT_OK(ParseFault(text.substr(0, end), &faults->emplace_back()));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (faults->empty()) faults.reset();
  return std::unique_ptr<const Faults>(std::move(faults));
}

/// Never freed: another thread may be looking at what a test replaces.
const Faults* Keep(std::unique_ptr<const Faults> faults) {
  if (faults == nullptr) return nullptr;
  static std::mutex mutex;
  static auto* kept = new std::vector<std::unique_ptr<const Faults>>();
  const std::lock_guard lock(mutex);
  return kept->emplace_back(std::move(faults)).get();
}

const Faults* FromEnvironment() {
  const char* text = std::getenv(kVariable);  // NOLINT(concurrency-mt-unsafe): once
  auto faults = Parse(text == nullptr ? "" : text);
  if (!faults.ok()) {
    std::fprintf(stderr, "sheaf: %s: %s\n", kVariable, faults.status().message().c_str());
    std::_Exit(kExitUsage);  // Other threads may run: no destructor may.
  }
  if (*faults == nullptr) internal::faults_may_be_armed.store(false);
  return Keep(std::move(*faults));
}

std::atomic<const Faults*>& Current() {
  static std::atomic<const Faults*> current{FromEnvironment()};
  return current;
}

void Act(const Fault& fault) {
  const char* name = kFaultPoints[fault.point].name.data();  // Of a literal: ends in 0.
  const auto pass = static_cast<unsigned long long>(fault.at_pass);
  switch (fault.action) {
    case Action::kKill:
      std::fprintf(stderr, "sheaf: fault: killed at %s, pass %llu\n", name, pass);
      std::raise(SIGKILL);
      break;
    case Action::kPause:
      std::fprintf(stderr, "sheaf: fault: paused at %s, pass %llu\n", name, pass);
      std::raise(SIGSTOP);
      break;
    case Action::kDelay:
      std::fprintf(stderr, "sheaf: fault: delayed at %s, pass %llu, %lld ms\n", name,
                   pass, static_cast<long long>(fault.delay.count()));
      std::this_thread::sleep_for(fault.delay);
      break;
  }
}

}  // namespace

void internal::PassArmedFaultPoint(FaultPoint point) {
  // pairs with the release in ArmFaults
  const Faults* faults = Current().load(std::memory_order_acquire);
  if (faults == nullptr) return;
  for (const Fault& fault : *faults) {
    if (fault.point != point.index()) continue;
    if (fault.passes.fetch_add(1) + 1 == fault.at_pass) Act(fault);
  }
}

arrow::Status ArmFaults(std::string_view text) {
  ARROW_ASSIGN_OR_RAISE(auto faults, Parse(text));
  std::atomic<const Faults*>& current = Current();  // Reads the environment before.
  const bool is_armed = faults != nullptr;
  current.store(Keep(std::move(faults)), std::memory_order_release);
  internal::faults_may_be_armed.store(is_armed);
  return arrow::Status::OK();
}

std::vector<ArmedFault> ArmedFaults() {
  const Faults* faults = Current().load(std::memory_order_acquire);
  std::vector<ArmedFault> armed;
  if (faults == nullptr) return armed;
  for (const Fault& fault : *faults) {
    armed.push_back({kFaultPoints[fault.point].name, fault.passes.load()});
  }
  return armed;
}

}  // namespace sheaf
