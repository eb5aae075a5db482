#include "sheaf/store.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "base/math.h"
#include "client/absent_name.h"
#include "client/node_info.h"
#include "client/publisher.h"
#include "client/put.h"
#include "client/reader.h"
#include "client/session.h"
#include "client/staged_table.h"
#include "client/staging.h"
#include "client/store_session.h"
#include "codec/codec.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "format/lease_cell.h"
#include "lease/lease.h"
#include "platform/process.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/handle.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf {
namespace {

using client::ExplainAbsent;
using client::FindName;
using client::OpenName;
using client::OpenObject;
using client::Publisher;
using client::PublishOptions;
using client::Session;

// Waiting for a name looks this often: first soon, then rarely.
constexpr std::chrono::microseconds kWaitFirst{100};
constexpr std::chrono::microseconds kWaitLongest{10'000};
// For ever, as far as a clock of nanoseconds in 64 bits goes.
constexpr std::chrono::hours kTimeoutMax{24 * 365 * 100};

// Of a handle whose bytes anyone may have made, for a table of `rows` rows.
arrow::Status CheckRows(const Handle& handle, int64_t rows) {
  if (handle.row_offset < 0) {
    return arrow::Status::Invalid(
        "the handle is a slice outside of the rows that its "
        "parent names");
  }
  if (handle.num_rows < -1 || handle.row_offset > rows ||
      handle.num_rows > rows - handle.row_offset) {
    return arrow::Status::Invalid("a handle with row_offset ", handle.row_offset,
                                  " and num_rows ", handle.num_rows,
                                  " does not fit a table of ", rows, " rows");
  }
  return arrow::Status::OK();
}

// Of an opened table: `table`, which is what is selected of it. Its data first, since
// what Arrow's code reads must not fail under it.
arrow::Status Validate(const OpenObject& open, const codec::Selection& selection,
                       const arrow::Table& table) {
  ARROW_RETURN_NOT_OK(open.CheckData(selection));
  return table.ValidateFull();
}

arrow::Status VerifyObject(const OpenObject& open) {
  ARROW_RETURN_NOT_OK(open.RequireChecksums());
  return open.CheckData();
}

TableInfo MakeInfo(uint64_t cluster_id, const directory::Found& found,
                   const directory::Record& record) {
  TableInfo info;
  info.name = record.name;
  info.handle = Handle{cluster_id, found.object};
  info.home_node = found.object.segment.value;
  info.version = found.version.sequence;
  info.num_rows = record.num_rows;
  info.num_columns = record.num_columns;
  info.num_chunks = record.num_chunks;
  info.bytes = record.data_bytes;
  info.has_checksums = record.has_checksums;
  info.created_unix_ns = record.created_unix_ns;
  return info;
}

}  // namespace

class Store::Impl {
 public:
  explicit Impl(std::shared_ptr<Session> connected) : session(std::move(connected)) {}
  ~Impl() { Session::Linger(std::move(session)); }

  /// What can be refused before any byte is copied.
  arrow::Status CheckPut(const std::string& name, const PutOptions& options) {
    ARROW_RETURN_NOT_OK(session->CheckProcess());
    ARROW_RETURN_NOT_OK(client::CheckTableName(name));
    if (options.replace) return arrow::Status::OK();
    ARROW_ASSIGN_OR_RAISE(auto found, FindName(*session, name));
    if (!found) return arrow::Status::OK();
    return arrow::Status::AlreadyExists("a table named '", name, "' exists (version ",
                                        found->version.sequence,
                                        "); replace it, or remove it first");
  }

  arrow::Result<directory::Found> Find(const std::string& name) {
    ARROW_RETURN_NOT_OK(session->CheckProcess());
    ARROW_RETURN_NOT_OK(client::CheckTableName(name));
    ARROW_ASSIGN_OR_RAISE(auto found, FindName(*session, name));
    if (!found) return arrow::Status::KeyError("no table is named '", name, "'");
    return *found;
  }

  arrow::Status CheckHandle(const Handle& handle) const {
    ARROW_RETURN_NOT_OK(session->CheckProcess());
    const uint64_t own = session->region().config().cluster_id;
    if (handle.cluster_id == own) return arrow::Status::OK();
    return arrow::Status::Invalid("handle of cluster ", handle.cluster_id,
                                  " used with cluster ", own);
  }

  std::shared_ptr<Session> session;
};

Store::Store(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

arrow::Result<std::shared_ptr<Store>> Store::Connect(const ConnectOptions& options) {
  ARROW_ASSIGN_OR_RAISE(auto session, Session::Connect(options));
  return std::shared_ptr<Store>(new Store(std::make_shared<Impl>(std::move(session))));
}

arrow::Result<PutReceipt> Store::Put(const std::string& name, const arrow::Table& table,
                                     const PutOptions& options) {
  ARROW_RETURN_NOT_OK(impl_->CheckPut(name, options));
  return client::Put(impl_->session, table, {name, options, /*keep=*/false});
}

arrow::Result<PutReceipt> Store::Put(const std::string& name,
                                     arrow::RecordBatchReader* reader,
                                     const PutOptions& options) {
  ARROW_RETURN_NOT_OK(impl_->CheckPut(name, options));
  return client::Put(impl_->session, reader->schema(), {name, options, /*keep=*/false},
                     [&](Publisher* publisher) -> arrow::Status {
                       for (;;) {
                         ARROW_ASSIGN_OR_RAISE(auto batch, reader->Next());
                         if (batch == nullptr) return arrow::Status::OK();
                         ARROW_RETURN_NOT_OK(publisher->Append(*batch));
                       }
                     });
}

arrow::Result<std::shared_ptr<arrow::Table>> Store::Get(const std::string& name,
                                                        const GetOptions& options) {
  ARROW_RETURN_NOT_OK(impl_->session->CheckProcess());
  ARROW_RETURN_NOT_OK(client::CheckTableName(name));
  const auto opened = OpenName(impl_->session, name);
  if (!opened.ok()) return ExplainAbsent(impl_->session, name, opened.status());
  const OpenObject& open = *opened;
  if (options.version && *options.version != open.version()) {
    return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kVersionMismatch,
                      "'" + name + "' is at version " + std::to_string(open.version()) +
                          ", asked for version " + std::to_string(*options.version));
  }
  std::optional<std::vector<int>> columns;
  if (options.columns) {
    ARROW_ASSIGN_OR_RAISE(
        columns, client::ColumnIndices(*open.descriptor().schema(), *options.columns));
  }
  ARROW_ASSIGN_OR_RAISE(auto table, open.ToTable(columns));
  if (options.validate == Validation::kFull) {
    ARROW_RETURN_NOT_OK(Validate(open, columns, *table));
  }
  return table;
}

// A put in parts whose list says that it is complete is a table, whether it is visible
// yet or not; what is removed is never put again by what is left of its list.
arrow::Status Store::Remove(const std::string& name) {
  client::Backoff backoff;
  for (bool is_again = false;;) {
    const auto found = impl_->Find(name);
    if (!found.ok() && !found.status().IsKeyError()) return found.status();
    ARROW_ASSIGN_OR_RAISE(const bool finished,
                          client::FinishStaged(impl_->session, name));
    if (finished) continue;
    arrow::Status removed = found.ok()
                                ? client::Retire(*impl_->session, found->object, name)
                                : found.status();
    // Replaced between look-up and removal: remove what is there now.
    if (IsStaleGeneration(removed)) {
      ARROW_RETURN_NOT_OK(
          backoff.PauseAt(found->version.sequence, "table '" + name + "'"));
      continue;
    }
    if (!removed.ok() && !removed.IsKeyError()) return removed;
    ARROW_ASSIGN_OR_RAISE(const auto aborted, client::AbortStaged(impl_->session, name));
    if (aborted == client::StagedAbort::kAborted) return arrow::Status::OK();
    if (removed.ok() || aborted == client::StagedAbort::kNone || is_again) {
      return ExplainAbsent(impl_->session, name, removed);
    }
    is_again = true;  // Its list may be left, as where a node is away.
  }
}

arrow::Result<std::vector<TableInfo>> Store::List() {
  ARROW_RETURN_NOT_OK(impl_->session->CheckProcess());
  ARROW_RETURN_NOT_OK(impl_->session->AttachMissing());
  const region::Region& region = impl_->session->region();
  ARROW_ASSIGN_OR_RAISE(const auto listed, directory::List(region));
  ARROW_ASSIGN_OR_RAISE(const auto leases, lease::CountLeases(region));
  std::vector<TableInfo> infos;
  infos.reserve(listed.size());
  for (const auto& [found, record] : listed) {
    if (client::IsReserved(record.name)) continue;
    TableInfo& info = infos.emplace_back(MakeInfo(cluster_id(), found, record));
    const ObjectId& object = found.object;
    const auto counted = leases.find(
        format::PackLeaseCell(object.segment.value, object.slot, object.generation));
    if (counted != leases.end()) info.leases = counted->second;
  }
  std::sort(infos.begin(), infos.end(),
            [](const TableInfo& a, const TableInfo& b) { return a.name < b.name; });
  return infos;
}

arrow::Result<TableInfo> Store::Stat(const std::string& name) {
  for (;;) {
    auto looked_up = impl_->Find(name);
    if (!looked_up.ok()) return ExplainAbsent(impl_->session, name, looked_up.status());
    directory::Found& found = *looked_up;
    // Counted before our own look needs a lease.
    ARROW_ASSIGN_OR_RAISE(const uint32_t leases,
                          lease::CountLeases(impl_->session->region(), found.object));
    const auto open = OpenObject::Open(impl_->session, found.object);
    if (IsStaleGeneration(open.status())) continue;  // Replaced meanwhile: look again.
    ARROW_RETURN_NOT_OK(open.status());
    found.version.sequence = open->version();
    TableInfo info = MakeInfo(cluster_id(), found, open->record());
    info.leases = leases;
    info.schema = open->descriptor().schema();
    for (const GlobalRange& range : open->descriptor().Ranges()) {
      info.bytes_on[range.begin.segment.value] += CheckedCast<int64_t>(range.size_bytes);
    }
    const arrow::Status shared = open->CheckReferences();
    if (IsDamaged(shared)) return shared;  // Memory that is away may come back.
    return info;
  }
}

arrow::Status Store::Verify(const std::string& name) {
  ARROW_RETURN_NOT_OK(impl_->session->CheckProcess());
  const auto open = OpenName(impl_->session, name);
  if (!open.ok()) return ExplainAbsent(impl_->session, name, open.status());
  return VerifyObject(*open);
}

arrow::Status Store::Verify(const Handle& handle) {
  ARROW_RETURN_NOT_OK(impl_->CheckHandle(handle));
  ARROW_ASSIGN_OR_RAISE(const auto open, OpenObject::Open(impl_->session, handle.object));
  return VerifyObject(open);
}

arrow::Status Store::Wait(const std::string& name, std::chrono::milliseconds timeout) {
  const auto deadline =
      platform::BootTime() + std::clamp<std::chrono::milliseconds>(
                                 timeout, std::chrono::milliseconds(0), kTimeoutMax);
  std::chrono::nanoseconds pause = kWaitFirst;
  for (;;) {
    arrow::Status found = impl_->Find(name).status();
    // The node that leads the catalog may come up yet.
    if (!found.IsKeyError() && !IsNodeLost(found)) return found;
    const auto left = deadline - platform::BootTime();
    if (left <= std::chrono::nanoseconds{0}) {
      found = ExplainAbsent(impl_->session, name, found);
      return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kTimeout,
                        "'" + name + "' did not appear within " +
                            std::to_string(timeout.count()) + " ms: " + found.message());
    }
    platform::SleepFor(std::min(pause, left));
    pause = std::min<std::chrono::nanoseconds>(pause * 2, kWaitLongest);
  }
}

arrow::Result<PutReceipt> Store::Share(const arrow::Table& table,
                                       const ShareOptions& options) {
  ARROW_RETURN_NOT_OK(impl_->session->CheckProcess());
  const PutOptions put{
      .checksum = options.checksum, .on = options.on, .spill = options.spill};
  return client::Put(impl_->session, table, {"", put, options.keep});
}

arrow::Result<std::shared_ptr<arrow::Table>> Store::Open(const Handle& handle,
                                                         Validation validate) {
  ARROW_RETURN_NOT_OK(impl_->CheckHandle(handle));
  ARROW_ASSIGN_OR_RAISE(auto open, OpenObject::Open(impl_->session, handle.object));
  const int64_t rows = open.descriptor().num_rows();
  ARROW_RETURN_NOT_OK(CheckRows(handle, rows));
  const int64_t length = handle.num_rows < 0 ? rows - handle.row_offset : handle.num_rows;
  std::optional<std::vector<int>> columns;
  if (handle.columns) {
    columns.emplace();
    for (const uint32_t column : *handle.columns) {
      if (column >= static_cast<uint32_t>(open.descriptor().num_columns())) {
        return arrow::Status::Invalid("handle names column ", column, " of a table of ",
                                      open.descriptor().num_columns(), " columns");
      }
      columns->push_back(static_cast<int>(column));
    }
  }
  const codec::Selection selection(std::move(columns), handle.row_offset, length);
  ARROW_ASSIGN_OR_RAISE(auto table, open.ToTable(selection));
  if (validate == Validation::kFull) {
    ARROW_RETURN_NOT_OK(Validate(open, selection, *table));
  }
  return table;
}

arrow::Status Store::Drop(const Handle& handle) {
  ARROW_RETURN_NOT_OK(impl_->CheckHandle(handle));
  return client::Drop(*impl_->session, handle.object);
}

arrow::Status Store::Keep(const Handle& handle) {
  ARROW_RETURN_NOT_OK(impl_->CheckHandle(handle));
  return client::Keep(*impl_->session, handle.object);
}

arrow::MemoryPool* Store::memory_pool() { return &impl_->session->pool(); }

arrow::Result<arrow::MemoryPool*> Store::memory_pool(uint32_t node, bool spill) {
  return client::PoolOf(*impl_->session, node, spill);
}

arrow::Result<std::vector<NodeInfo>> Store::Nodes() {
  ARROW_RETURN_NOT_OK(impl_->session->CheckProcess());
  ARROW_RETURN_NOT_OK(impl_->session->AttachMissing());
  const region::Region& region = impl_->session->region();
  std::vector<NodeInfo> nodes = client::LoadNodeInfos(region);
  const auto leader = directory::FindLeader(region::SegmentsOf(region));
  if (leader.epoch != 0) nodes[leader.node.value].is_leader = true;
  return nodes;
}

arrow::Status Store::ForgetNode(uint32_t node) {
  ARROW_RETURN_NOT_OK(impl_->session->CheckProcess());
  return impl_->session->daemon()
      .Call(format::Body::ForgetNodeRequest,
            [&](flatbuffers::FlatBufferBuilder* builder) {
              return format::CreateForgetNodeRequest(*builder, node).Union();
            })
      .status();
}

std::shared_ptr<client::Session> SessionOf(const Store& store) {
  return store.impl_->session;
}

uint32_t Store::node() const { return impl_->session->region().node().value; }
uint64_t Store::cluster_id() const {
  return impl_->session->region().config().cluster_id;
}

class TableWriter::Impl {
 public:
  Impl(std::shared_ptr<Store::Impl> connected, PublishOptions publish,
       std::unique_ptr<Publisher> made)
      : store(std::move(connected)),
        options(std::move(publish)),
        publisher(std::move(made)) {}

  std::shared_ptr<Store::Impl> store;
  PublishOptions options;
  std::unique_ptr<Publisher> publisher;  ///< Null once sealed.
};

TableWriter::TableWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TableWriter::~TableWriter() = default;

arrow::Result<std::unique_ptr<TableWriter>> Store::NewWriter(
    const std::string& name, std::shared_ptr<arrow::Schema> schema,
    const PutOptions& options) {
  ARROW_RETURN_NOT_OK(impl_->CheckPut(name, options));
  const PublishOptions publish{name, options, /*keep=*/false};
  ARROW_ASSIGN_OR_RAISE(
      auto publisher, client::MakePublisher(impl_->session, std::move(schema), publish));
  return std::unique_ptr<TableWriter>(new TableWriter(
      std::make_unique<TableWriter::Impl>(impl_, publish, std::move(publisher))));
}

arrow::Status TableWriter::Append(const arrow::RecordBatch& batch) {
  if (impl_->publisher == nullptr)
    return arrow::Status::Invalid("this writer was sealed");
  ARROW_RETURN_NOT_OK(impl_->store->session->CheckProcess());
  arrow::Status appended = impl_->publisher->Append(batch);
  if (appended.ok()) return appended;
  impl_->store->session->DidPut(appended);
  return client::ExplainPut(*impl_->store->session, appended, impl_->options,
                            impl_->publisher->bytes_needed(), impl_->publisher->home());
}

arrow::Result<PutReceipt> TableWriter::Seal() {
  if (impl_->publisher == nullptr)
    return arrow::Status::Invalid("this writer was sealed");
  ARROW_RETURN_NOT_OK(impl_->store->session->CheckProcess());
  auto receipt = impl_->publisher->Finish();
  const int64_t needed_bytes = impl_->publisher->bytes_needed();
  const SegmentId home = impl_->publisher->home();
  impl_->publisher.reset();
  impl_->store->session->DidPut(receipt.status());
  if (receipt.ok()) return receipt;
  return client::ExplainPut(*impl_->store->session, receipt.status(), impl_->options,
                            needed_bytes, home);
}

}  // namespace sheaf
