#include "apps/sheaf/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace sheaf::cli {
namespace {

constexpr int kBarWidth = 40;
constexpr const char* kClearLine = "\r\033[K";

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)), enabled_(::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (percent_ >= 0) std::fputs(kClearLine, stderr);  // throws nothing
}

void ProgressBar::Update(double share) {
  const int percent = static_cast<int>(std::clamp(share, 0.0, 1.0) * 100);
  if (!enabled_ || percent <= percent_) return;
  percent_ = percent;
  const auto filled = static_cast<size_t>(percent * kBarWidth / 100);
  fmt::print(stderr, "{}{} [{}{}] {:3} %", kClearLine, label_, std::string(filled, '#'),
             std::string(kBarWidth - filled, '.'), percent);
  std::fflush(stderr);
}

}  // namespace sheaf::cli
