#include "client/publisher.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/util.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "alloc/range.h"
#include "base/fault_point.h"
#include "base/math.h"
#include "base/plant.h"
#include "client/data_check.h"
#include "client/home_pools.h"
#include "client/lease_table.h"
#include "client/reader.h"
#include "client/seal_call.h"
#include "client/session.h"
#include "codec/codec.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "platform/process.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

using RangesBySegment = std::map<SegmentId, std::vector<GlobalRange>>;

RangesBySegment BySegment(const std::vector<GlobalRange>& ranges) {
  RangesBySegment split;
  for (const GlobalRange& range : ranges) split[range.begin.segment].push_back(range);
  return split;
}

// Rounded out to granules, merged: what sealing takes out of a pool.
std::vector<alloc::Range> Granules(const std::vector<GlobalRange>& of_one_segment) {
  std::vector<alloc::Range> granules;
  for (const GlobalRange& range : of_one_segment) {
    const uint64_t begin = RoundDown(range.begin.offset, format::kGranuleBytes);
    const uint64_t end = RoundUp(range.end_offset(), format::kGranuleBytes);
    if (!granules.empty() && begin <= granules.back().end()) {
      granules.back().size_bytes =
          std::max(granules.back().end(), end) - granules.back().offset;
    } else {
      granules.push_back({begin, end - begin});
    }
  }
  return granules;
}

// P3: everything that this session wrote is in memory before anyone is told. Returns
// bytes flushed. What no pool of this session has is sealed, and was never written by it.
int64_t SettleData(Session& session, SegmentId segment,
                   const std::vector<GlobalRange>& ranges) {
  const region::Region& region = session.region();
  platform::CacheControl& cache = *region.segment(segment)->data().cache();
  if (cache.coherent()) {
    cache.Fence();
    return 0;
  }
  const bool is_own = segment == region.own_segment().id();
  const bool settle_each =
      region.config().settle_class == platform::SettleClass::kOrdered;
  int64_t flushed = 0;
  const uint8_t* last = nullptr;
  uint64_t last_size = 0;
  for (const GlobalRange& range : ranges) {
    const uint8_t* data = region.Resolve(range);
    // A range may join several: some of it may be open, in some extent.
    const bool is_sealed =
        !session.pools().Has(segment) || session.leases().FindCovering(range) != nullptr;
    if (is_sealed && !session.pools().IsOpen(data, range.size_bytes)) {
      continue;  // Sealed before: in memory already.
    }
    if (Planted("no-flush-data") || (!is_own && Planted("no-flush-remote"))) continue;
    // Whole granules are sealed: what of them nobody refers to may be dirty as well, and
    // is nobody's to flush from then on (L10).
    const uint64_t skew = range.begin.offset % format::kGranuleBytes;
    data -= skew;
    const uint64_t size_bytes = RoundUp(skew + range.size_bytes, format::kGranuleBytes);
    if (settle_each && !Planted("no-settle-data")) {
      cache.Settle(data, size_bytes);
    } else {
      cache.Flush(data, size_bytes);
    }
    last = data;
    last_size = size_bytes;
    flushed += CheckedCast<int64_t>(range.size_bytes);
  }
  cache.Fence();
  PassFaultPoint("client.seal.after-flush");
  // The fence was enough in class A. In class C one wait of D covers every flush that was
  // fenced before it.
  if (last != nullptr && !settle_each && !Planted("no-settle-data"))
    cache.Settle(last, last_size);
  return flushed;
}

}  // namespace

Publisher::Publisher(std::shared_ptr<Session> session,
                     std::shared_ptr<arrow::Schema> schema, PublishOptions options,
                     arrow::MemoryPool* pool)
    : session_(std::move(session)),
      schema_(std::move(schema)),
      options_(std::move(options)),
      home_{options_.put.on.value_or(session_->region().node().value)},
      relocator_(session_, home_, pool),
      columns_(static_cast<size_t>(schema_->num_fields())),
      start_(platform::BootTime()) {}

arrow::Status Publisher::Append(const arrow::RecordBatch& batch) {
  if (!batch.schema()->Equals(*schema_, /*check_metadata=*/false)) {
    return arrow::Status::Invalid("batch with schema {", batch.schema()->ToString(),
                                  "} appended to a table with schema {",
                                  schema_->ToString(), "}");
  }
  codec::ColumnChunks chunks(columns_.size());
  for (size_t i = 0; i < chunks.size(); ++i) {
    chunks[i].push_back(batch.column_data(static_cast<int>(i)));
  }
  return AddChunks(std::move(chunks), batch.num_rows());
}

arrow::Status Publisher::SetTable(const arrow::Table& table) {
  return AddChunks(codec::ChunksOf(table), table.num_rows());
}

// Checked before anything is made of them: they may come from a file that lies.
arrow::Status Publisher::AddChunks(codec::ColumnChunks chunks, int64_t num_rows) {
  for (auto& column : chunks) {
    for (auto& chunk : column) chunk = codec::AddOffsets(chunk);
  }
  ARROW_RETURN_NOT_OK(codec::Check(*schema_, chunks, num_rows));
  std::vector<std::shared_ptr<arrow::ArrayData>> arrays;
  std::vector<std::string> names;
  for (size_t i = 0; i < chunks.size(); ++i) {
    arrays.insert(arrays.end(), chunks[i].begin(), chunks[i].end());
    names.resize(arrays.size(), schema_->field(static_cast<int>(i))->name());
  }
  ARROW_ASSIGN_OR_RAISE(arrays, relocator_.Relocate(arrays, names));
  auto next = arrays.begin();
  for (size_t i = 0; i < chunks.size(); ++i) {
    for (size_t k = 0; k < chunks[i].size(); ++k) {
      columns_[i].push_back(arrow::MakeArray(*next++));
    }
  }
  num_rows_ += num_rows;
  return arrow::Status::OK();
}

arrow::Result<std::shared_ptr<arrow::Table>> Publisher::AssembleTable() const {
  std::vector<std::shared_ptr<arrow::ChunkedArray>> columns;
  columns.reserve(columns_.size());
  for (size_t i = 0; i < columns_.size(); ++i) {
    columns.push_back(std::make_shared<arrow::ChunkedArray>(
        columns_[i], schema_->field(static_cast<int>(i))->type()));
  }
  return arrow::Table::Make(schema_, std::move(columns), num_rows_);
}

arrow::Result<PutReceipt> Publisher::Finish() {
  auto receipt = Seal();
  if (!IsStaleGeneration(receipt.status()) || !relocator_.shares_foreign() ||
      !options_.may_copy_foreign) {
    return receipt;
  }
  // An object of another home may have been removed since its bytes were opened here, and
  // then cannot be shared any more (O4). They can be read, so they are copied.
  ARROW_RETURN_NOT_OK(CopyForeign());
  return Seal();
}

arrow::Status Publisher::CopyForeign() {
  std::vector<std::shared_ptr<arrow::ArrayData>> arrays;
  std::vector<std::string> names;
  for (size_t i = 0; i < columns_.size(); ++i) {
    for (const auto& chunk : columns_[i]) {
      arrays.push_back(chunk->data());
      names.push_back(schema_->field(static_cast<int>(i))->name());
    }
  }
  relocator_.CopyForeign();
  ARROW_ASSIGN_OR_RAISE(arrays, relocator_.Relocate(arrays, names));
  auto next = arrays.begin();
  for (auto& column : columns_) {
    for (auto& chunk : column) chunk = arrow::MakeArray(*next++);
  }
  return arrow::Status::OK();
}

arrow::Result<std::shared_ptr<const codec::Descriptor>> Publisher::Describe(
    const arrow::Table& table, const codec::ChecksumFn& checksum) const {
  const region::Region& region = session_->region();
  const auto locate = [&](const uint8_t* address,
                          int64_t size) -> arrow::Result<GlobalAddress> {
    const auto found = region.Locate(address, CheckedCast<uint64_t>(size));
    if (!found) return arrow::Status::Invalid("a buffer is outside the region");
    return *found;
  };
  ARROW_ASSIGN_OR_RAISE(auto bytes,
                        codec::Encode(table, locate, checksum, options_.parts));
  // Our own descriptor goes through the check that every reader will apply.
  return codec::Descriptor::Make(std::move(bytes), SegmentSizes(region));
}

arrow::Result<PutReceipt> Publisher::Seal() {
  ARROW_ASSIGN_OR_RAISE(auto table, AssembleTable());
  const region::Region& region = session_->region();
  ARROW_ASSIGN_OR_RAISE(auto descriptor, Describe(*table, nullptr));
  const RangesBySegment ranges = BySegment(descriptor->Ranges());

  PutReceipt receipt;
  PassFaultPoint("client.seal.before-flush");
  for (const auto& [segment, of_segment] : ranges) {
    receipt.bytes_flushed += SettleData(*session_, segment, of_segment);
  }
  PassFaultPoint("client.seal.after-settle");
  if (options_.put.checksum) {
    // Of what memory holds now, which is what others will read.
    const auto checksum_of = [&](const GlobalRange& range) -> arrow::Result<uint64_t> {
      const auto known = options_.known_checksum ? options_.known_checksum(range)
                                                 : std::optional<uint64_t>();
      if (known) return *known;
      return ChecksumInMemory(region, range);
    };
    ARROW_ASSIGN_OR_RAISE(descriptor, Describe(*table, checksum_of));
  }
  std::vector<ObjectId> parents;
  for (const auto& parent : relocator_.parents()) parents.push_back(parent->object());
  Holders holders(session_.get());
  for (const auto& [segment, of_segment] : ranges) {
    if (segment == home_) continue;
    ARROW_RETURN_NOT_OK(holders.Make(segment, of_segment, parents));
  }
  for (const ObjectId& holder : holders.objects()) parents.push_back(holder);
  auto sealed = RequestSeal(*session_, {.home = home_,
                                        .descriptor = descriptor->bytes(),
                                        .name = options_.name,
                                        .replace = options_.put.replace,
                                        .expected_version = options_.put.expected_version,
                                        .keep = options_.keep,
                                        .is_prepared = options_.is_prepared,
                                        .parents = std::move(parents)});
  // Also after an error: the object may have been visible for a while, and read, before
  // it failed. Its bytes are not written again.
  for (const auto& [segment, of_segment] : ranges) {
    session_->pools().MarkSealed(segment, Granules(of_segment));
    for (const GlobalRange& range : of_segment) {
      receipt.bytes_on[segment.value] += CheckedCast<int64_t>(range.size_bytes);
    }
  }
  ARROW_RETURN_NOT_OK(sealed.status());

  receipt.name = options_.name;
  receipt.handle = Handle{region.config().cluster_id, sealed->object};
  receipt.version = sealed->version;
  receipt.num_rows = num_rows_;
  receipt.bytes = descriptor->data_bytes();
  receipt.bytes_copied = std::min(relocator_.bytes_copied(), receipt.bytes);
  receipt.bytes_shared = receipt.bytes - receipt.bytes_copied;
  receipt.duration = platform::BootTime() - start_;
  return receipt;
}

}  // namespace sheaf::client
