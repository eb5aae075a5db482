#include "apps/demo/flight.h"

#include <cstdint>
#include <memory>
#include <utility>

#include <arrow/flight/client.h>
#include <arrow/flight/server.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>

#include "platform/process.h"

namespace sheaf::demo {
namespace {

namespace fl = arrow::flight;

// Flight is fastest with batches of this many rows.
constexpr int64_t kBatchRows = 65'536;

class TableServer : public fl::FlightServerBase {
 public:
  explicit TableServer(std::shared_ptr<arrow::Table> table) : table_(std::move(table)) {}

  arrow::Status DoGet(const fl::ServerCallContext&, const fl::Ticket&,
                      std::unique_ptr<fl::FlightDataStream>* stream) override {
    auto batches = std::make_shared<arrow::TableBatchReader>(table_);
    batches->set_chunksize(kBatchRows);
    *stream = std::make_unique<fl::RecordBatchStream>(std::move(batches));
    return arrow::Status::OK();
  }

 private:
  std::shared_ptr<arrow::Table> table_;
};

}  // namespace

class FlightServer::Impl {
 public:
  explicit Impl(std::shared_ptr<arrow::Table> table) : server(std::move(table)) {}
  TableServer server;
};

FlightServer::FlightServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FlightServer::~FlightServer() {
  if (const arrow::Status status = impl_->server.Shutdown(); !status.ok()) status.Warn();
}
int FlightServer::port() const { return impl_->server.port(); }

arrow::Result<std::unique_ptr<FlightServer>> FlightServer::Start(
    std::shared_ptr<arrow::Table> table) {
  auto impl = std::make_unique<Impl>(std::move(table));
  ARROW_ASSIGN_OR_RAISE(auto location, fl::Location::ForGrpcTcp("127.0.0.1", 0));
  ARROW_RETURN_NOT_OK(impl->server.Init(fl::FlightServerOptions(location)));
  return std::unique_ptr<FlightServer>(new FlightServer(std::move(impl)));
}

arrow::Result<Fetched> FetchByFlight(int port) {
  ARROW_ASSIGN_OR_RAISE(auto location, fl::Location::ForGrpcTcp("127.0.0.1", port));
  ARROW_ASSIGN_OR_RAISE(auto client, fl::FlightClient::Connect(location));
  const auto start = platform::BootTime();
  ARROW_ASSIGN_OR_RAISE(auto stream, client->DoGet(fl::Ticket{"table"}));
  Fetched fetched;
  ARROW_ASSIGN_OR_RAISE(fetched.table, stream->ToTable());
  fetched.duration = platform::BootTime() - start;
  ARROW_RETURN_NOT_OK(client->Close());
  return fetched;
}

}  // namespace sheaf::demo
