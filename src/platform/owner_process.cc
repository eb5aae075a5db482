#include "platform/owner_process.h"

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "base/check.h"

namespace sheaf::platform {
namespace {

/// How many forks lead from the start of the program to this process. Never the same in
/// a process and in one that descends from it.
std::atomic<uint64_t> generation{0};
/// How many forks this process has begun and ended.
std::atomic<uint64_t> num_forks{0};

void WatchForks() {
  // Counted before and after: what another thread makes in between may be inherited, too.
  const auto count_fork = [] { num_forks.fetch_add(1); };
  const auto become_child = [] { generation.fetch_add(1); };
  static const int kError = ::pthread_atfork(count_fork, count_fork, become_child);
  SHEAF_CHECK(kError == 0);
}

}  // namespace

OwnerProcess::OwnerProcess() {
  WatchForks();
  generation_ = generation.load();
  num_forks_ = num_forks.load();
}

bool OwnerProcess::IsThisOne() const { return generation_ == generation.load(); }

bool OwnerProcess::HasForked() const {
  return IsThisOne() && num_forks_ != num_forks.load();
}

}  // namespace sheaf::platform
