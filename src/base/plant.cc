#include "base/plant.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sheaf {
namespace {

using Names = std::set<std::string, std::less<>>;

const Names* Parse(std::string_view text) {
  Names names;
  while (!text.empty()) {
    const size_t end = std::min(text.find(','), text.size());
    if (end > 0) names.emplace(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (names.empty()) return nullptr;
  // Never freed: another thread may be looking at the set that this one replaces.
  static std::mutex mutex;
  static auto* kept = new std::vector<std::unique_ptr<const Names>>();
  const std::lock_guard lock(mutex);
  return kept->emplace_back(std::make_unique<const Names>(std::move(names))).get();
}

const Names* FromEnvironment() {
  const char* text = std::getenv("SHEAF_PLANT");  // NOLINT(concurrency-mt-unsafe): once
  if (text == nullptr || *text == '\0') return nullptr;
  std::fprintf(stderr, "sheaf: faults planted for a test: SHEAF_PLANT=%s\n", text);
  return Parse(text);
}

std::atomic<const Names*>& Current() {
  static std::atomic<const Names*> current{FromEnvironment()};
  return current;
}

}  // namespace

bool Planted(std::string_view name) {
  // pairs with the release in SetPlants
  const Names* names = Current().load(std::memory_order_acquire);
  return names != nullptr && names->contains(name);
}

void SetPlants(std::string_view names) {
  Current().store(Parse(names), std::memory_order_release);
}

}  // namespace sheaf
