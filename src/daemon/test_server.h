// Daemons in threads of the test. Not for other code than tests.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "base/check.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "platform/process.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "region/test_cluster.h"

namespace sheaf::daemon {

/// \brief A daemon that serves in a thread until destruction.
class ServerThread {
 public:
  ServerThread(const region::ClusterConfig& config, uint32_t node)
      : server_(Server::Start({config, {node}, /*relocate=*/true}).ValueOrDie()),
        thread_([this] { status_ = server_->Run(); }) {}
  ~ServerThread() { SHEAF_CHECK(Stop().ok()); }

  arrow::Status Stop() {
    server_->Stop();
    return Join();
  }
  /// Wait for an end that somebody else asked for.
  arrow::Status Join() {
    if (thread_.joinable()) thread_.join();
    return status_;
  }

 private:
  std::unique_ptr<Server> server_;
  arrow::Status status_;
  std::thread thread_;
};

/// \brief Look until it is true: the test's time limit is the only one.
template <typename Predicate>
void AwaitTrue(Predicate predicate) {
  while (!predicate()) platform::SleepFor(std::chrono::milliseconds(1));
}

/// \brief Until the daemon of `home` has mapped the memory of `node`, and honours it.
inline void AwaitAdmitted(const region::Region& region, uint32_t home, uint32_t node) {
  const region::Segment& segment = *region.segment({home});
  AwaitTrue([&] { return region::LoadAdmitLine(segment, {node}).incarnation != 0; });
}

inline format::StatisticsLine ReadStatistics(const region::Region& region,
                                             uint32_t node) {
  const region::Segment& segment = *region.segment({node});
  return region::ReadControlLine<format::StatisticsLine>(
             segment, segment.NodeLine(format::NodeLine::kStatistics))
      .value();  // NOLINT(bugprone-unchecked-optional-access): a test may end here
}

}  // namespace sheaf::daemon
