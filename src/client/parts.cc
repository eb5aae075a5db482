#include "sheaf/parts.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>

#include "base/check.h"
#include "client/absent_name.h"
#include "client/part_put.h"
#include "client/reader.h"
#include "client/session.h"
#include "client/staged_assembly.h"
#include "client/staged_table.h"
#include "client/staging.h"
#include "client/store_session.h"
#include "codec/codec.h"
#include "directory/catalog.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf {

namespace {

using client::OpenObject;
using client::Session;

std::vector<PartInfo> InfosOf(const OpenObject& open) {
  std::vector<PartInfo> infos;
  int64_t row = 0;
  for (const codec::Part& part : client::PartsOf(open)) {
    PartInfo info{static_cast<uint32_t>(infos.size()), part.segment.value, row,
                  part.num_rows, 0};
    for (const GlobalRange& range :
         open.descriptor().Ranges({std::nullopt, row, part.num_rows})) {
      info.bytes += static_cast<int64_t>(range.size_bytes);
    }
    infos.push_back(info);
    row += part.num_rows;
  }
  return infos;
}

// `name` once what is left of a put of it that is over was cleaned up; for who looks at
// parts only.
arrow::Result<OpenObject> OpenParted(const std::shared_ptr<Session>& session,
                                     const std::string& name,
                                     const GetOptions& options = {}) {
  ARROW_RETURN_NOT_OK(session->CheckProcess());
  ARROW_RETURN_NOT_OK(client::CheckTableName(name));
  // Who may only read cleans nothing up, and what is left harms nobody.
  const arrow::Status met = client::MeetStaging(session, name).status();
  auto open = client::OpenName(session, name);
  if (open.status().IsKeyError() && (IsNodeLost(met) || IsDamaged(met))) return met;
  if (!open.ok()) return client::ExplainAbsent(session, name, open.status());
  if (options.version && *options.version != open->version()) {
    return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kVersionMismatch,
                      "'" + name + "' is at version " + std::to_string(open->version()) +
                          ", asked for version " + std::to_string(*options.version));
  }
  return open;
}

arrow::Result<std::shared_ptr<arrow::Table>> OpenPart(const OpenObject& open,
                                                      const PartInfo& info,
                                                      const GetOptions& options) {
  codec::Selection selection(std::nullopt, info.row_offset, info.num_rows);
  if (options.columns) {
    ARROW_ASSIGN_OR_RAISE(
        selection.columns,
        client::ColumnIndices(*open.descriptor().schema(), *options.columns));
  }
  ARROW_ASSIGN_OR_RAISE(auto table, open.ToTable(selection));
  if (options.validate == Validation::kFull) {
    ARROW_RETURN_NOT_OK(open.CheckData(selection));
    ARROW_RETURN_NOT_OK(table->ValidateFull());
  }
  return table;
}

// The node of the first buffer of an array or its children.
std::optional<uint32_t> NodeOf(const region::Region& region,
                               const arrow::ArrayData& array) {
  for (const auto& buffer : array.buffers) {
    if (buffer == nullptr) continue;
    const auto at = region.Locate(buffer->data(), static_cast<uint64_t>(buffer->size()));
    if (at) return at->segment.value;
  }
  for (const auto& child : array.child_data) {
    if (const auto node = NodeOf(region, *child)) return node;
  }
  return std::nullopt;
}

// Where other columns have row `row`.
std::optional<uint32_t> NodeOfRow(
    const arrow::Table& table,
    const std::vector<std::vector<std::optional<uint32_t>>>& nodes, int64_t row) {
  for (size_t i = 0; i < nodes.size(); ++i) {
    const arrow::ChunkedArray& column = *table.column(static_cast<int>(i));
    int64_t end = 0;
    for (size_t k = 0; k < nodes[i].size(); ++k) {
      end += column.chunk(static_cast<int>(k))->length();
      if (row >= end) continue;
      if (nodes[i][k]) return nodes[i][k];
      break;
    }
  }
  return std::nullopt;
}

}  // namespace

arrow::Result<PartReceipt> PutPart(const std::shared_ptr<Store>& store,
                                   const std::string& name, const arrow::Table& table,
                                   uint32_t part, uint32_t of,
                                   const PartOptions& options) {
  return client::PartPut(SessionOf(*store), name, part, of, options).Run(table);
}

arrow::Result<PutReceipt> AppendPart(const std::shared_ptr<Store>& store,
                                     const std::string& name, const arrow::Table& table,
                                     const PartOptions& options) {
  PartOptions append = options;
  append.append = true;
  ARROW_ASSIGN_OR_RAISE(auto receipt, PutPart(store, name, table, 0, 1, append));
  SHEAF_CHECK(receipt.table.has_value());
  PutReceipt whole = *std::move(receipt.table);
  whole.bytes_copied += receipt.part.bytes_copied;
  whole.bytes_shared -= receipt.part.bytes_copied;
  whole.bytes_flushed += receipt.part.bytes_flushed;
  return whole;
}

arrow::Status AbortParts(const std::shared_ptr<Store>& store, const std::string& name) {
  const std::shared_ptr<Session> session = SessionOf(*store);
  ARROW_RETURN_NOT_OK(session->CheckProcess());
  ARROW_RETURN_NOT_OK(client::CheckTableName(name));
  // What is left of a put that is over is no put any more.
  ARROW_RETURN_NOT_OK(client::MeetStaging(session, name).status());
  ARROW_ASSIGN_OR_RAISE(const auto aborted, client::AbortStaged(session, name));
  if (aborted == client::StagedAbort::kAborted) return arrow::Status::OK();
  return arrow::Status::KeyError("no parts of a table '", name, "' wait for others");
}

arrow::Result<std::vector<StagedParts>> ListStagedParts(
    const std::shared_ptr<Store>& store) {
  const std::shared_ptr<Session> session = SessionOf(*store);
  ARROW_RETURN_NOT_OK(session->CheckProcess());
  ARROW_RETURN_NOT_OK(session->AttachMissing());
  const std::string prefix = client::PartsName("");
  ARROW_ASSIGN_OR_RAISE(const auto listed, directory::List(session->region()));
  std::vector<StagedParts> all;
  for (const auto& [found, record] : listed) {
    if (!record.name.starts_with(prefix)) continue;
    const std::string name = record.name.substr(prefix.size());
    auto met = client::MeetStaging(session, name);
    // What nobody can do anything about now is listed as it is.
    if (!met.ok()) met = client::LoadStaging(session, record.name);
    const auto staged = met.ValueOr(std::nullopt);
    if (!staged || staged->staging.IsOnlyLeftovers()) continue;
    const client::Staging& staging = staged->staging;
    StagedParts& parts =
        all.emplace_back(StagedParts{name, staging.of, staging.append, {}, std::nullopt});
    for (const auto& entry : staging.entries) parts.present.push_back(entry.index);
    if (staging.deadline_unix_ns != 0) {
      parts.deadline_unix_ms = staging.deadline_unix_ns / 1'000'000;
    }
  }
  std::ranges::sort(all, {}, &StagedParts::name);
  return all;
}

arrow::Result<std::vector<PartInfo>> ListParts(const std::shared_ptr<Store>& store,
                                               const std::string& name) {
  ARROW_ASSIGN_OR_RAISE(const auto open, OpenParted(SessionOf(*store), name));
  return InfosOf(open);
}

arrow::Result<std::shared_ptr<arrow::Table>> GetPart(const std::shared_ptr<Store>& store,
                                                     const std::string& name,
                                                     uint32_t index,
                                                     const GetOptions& options) {
  ARROW_ASSIGN_OR_RAISE(const auto open, OpenParted(SessionOf(*store), name, options));
  PartInfo info;
  const std::vector<codec::Part> parts = client::PartsOf(open);
  if (index >= parts.size()) {
    return arrow::Status::KeyError("no part ", index, ": '", name, "' has ",
                                   parts.size());
  }
  for (uint32_t i = 0; i < index; ++i) info.row_offset += parts[i].num_rows;
  info.num_rows = parts[index].num_rows;
  return OpenPart(open, info, options);
}

arrow::Result<std::vector<LocalPart>> LocalParts(const std::shared_ptr<Store>& store,
                                                 const std::string& name,
                                                 const GetOptions& options) {
  ARROW_ASSIGN_OR_RAISE(const auto open, OpenParted(SessionOf(*store), name, options));
  std::vector<LocalPart> local;
  for (const PartInfo& info : InfosOf(open)) {
    if (info.node != store->node()) continue;
    ARROW_ASSIGN_OR_RAISE(auto table, OpenPart(open, info, options));
    local.push_back({info, std::move(table)});
  }
  return local;
}

std::vector<std::vector<std::optional<uint32_t>>> ChunkNodes(
    const std::shared_ptr<Store>& store, const arrow::Table& table) {
  const region::Region& region = SessionOf(*store)->region();
  std::vector<std::vector<std::optional<uint32_t>>> nodes;
  for (const auto& column : table.columns()) {
    auto& of_column = nodes.emplace_back();
    for (const auto& chunk : column->chunks()) {
      of_column.push_back(NodeOf(region, *chunk->data()));
    }
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    int64_t row = 0;
    for (size_t k = 0; k < nodes[i].size(); ++k) {
      if (!nodes[i][k]) nodes[i][k] = NodeOfRow(table, nodes, row);
      row += table.column(static_cast<int>(i))->chunk(static_cast<int>(k))->length();
    }
  }
  return nodes;
}

}  // namespace sheaf
