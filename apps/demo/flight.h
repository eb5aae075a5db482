// The yardstick: the same table over Arrow Flight on loopback.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

namespace sheaf::demo {

/// \brief Serves one table on a port of 127.0.0.1 until destroyed.
class FlightServer {
 public:
  static arrow::Result<std::unique_ptr<FlightServer>> Start(
      std::shared_ptr<arrow::Table> table);
  ~FlightServer();
  int port() const;

 private:
  class Impl;
  explicit FlightServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// \brief Fetch the whole table; the time is from the request to the finished table.
struct Fetched {
  std::shared_ptr<arrow::Table> table;
  std::chrono::nanoseconds duration{0};
};
arrow::Result<Fetched> FetchByFlight(int port);

}  // namespace sheaf::demo
