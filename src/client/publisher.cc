#include "client/publisher.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "alloc/range.h"
#include "base/fault_point.h"
#include "base/math.h"
#include "base/plant.h"
#include "client/daemon_channel.h"
#include "client/data_check.h"
#include "client/lease_table.h"
#include "client/reader.h"
#include "client/session.h"
#include "codec/codec.h"
#include "format/layout.h"
#include "format/message.h"
#include "platform/cache.h"
#include "platform/process.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

// Ranges in the own segment, rounded out to granules, merged: what sealing takes out of
// the pool.
std::vector<alloc::Range> OwnGranules(const std::vector<GlobalRange>& ranges,
                                      SegmentId own) {
  std::vector<alloc::Range> granules;
  for (const GlobalRange& range : ranges) {
    if (range.begin.segment != own) continue;
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
// bytes flushed.
int64_t SettleData(Session& session, const std::vector<GlobalRange>& ranges) {
  const region::Region& region = session.region();
  platform::CacheControl& cache = *region.own_segment().data().cache();
  if (cache.coherent()) {
    cache.Fence();
    return 0;
  }
  const bool settle_each =
      region.config().settle_class == platform::SettleClass::kOrdered;
  int64_t flushed = 0;
  const uint8_t* last = nullptr;
  uint64_t last_size = 0;
  for (const GlobalRange& range : ranges) {
    // Bytes of other homes are their objects': sealed, and never written by this node.
    if (range.begin.segment != region.own_segment().id()) continue;
    const uint8_t* data = region.Resolve(range);
    if (session.pool().FindOpen(data, range.size_bytes) == std::nullopt &&
        session.leases().FindCovering(range) != nullptr) {
      continue;  // Sealed before: in memory already.
    }
    if (Planted("no-flush-data")) continue;
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

struct Sealed {
  ObjectId object;
  uint32_t version = 0;
};

arrow::Result<Sealed> RequestSeal(
    Session& session, const arrow::Buffer& descriptor, const PublishOptions& options,
    const std::vector<std::shared_ptr<ObjectLease>>& parents) {
  std::vector<format::ObjectKey> keys;
  keys.reserve(parents.size());
  for (const auto& parent : parents) keys.push_back(format::ToKey(parent->object()));
  ARROW_ASSIGN_OR_RAISE(
      Reply reply, session.daemon().Call(format::Body::SealRequest, [&](auto* builder) {
        const auto bytes = builder->CreateVector(descriptor.data(),
                                                 static_cast<size_t>(descriptor.size()));
        const auto name = options.name.empty() ? 0 : builder->CreateString(options.name);
        const auto parent_keys = builder->CreateVectorOfStructs(keys);
        return format::CreateSealRequest(*builder, bytes, name, options.put.replace,
                                         options.put.expected_version.value_or(0),
                                         options.keep, parent_keys)
            .Union();
      }));
  ARROW_ASSIGN_OR_RAISE(const auto* body,
                        format::BodyAs<format::SealReply>(reply.message()));
  if (body->object() == nullptr)
    return arrow::Status::Invalid("seal reply without an object");
  return Sealed{format::FromKey(*body->object()), body->version()};
}

}  // namespace

Publisher::Publisher(std::shared_ptr<Session> session,
                     std::shared_ptr<arrow::Schema> schema)
    : session_(std::move(session)),
      schema_(std::move(schema)),
      relocator_(session_),
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

arrow::Result<PutReceipt> Publisher::Finish(const PublishOptions& options) {
  auto receipt = Seal(options);
  if (!IsStaleGeneration(receipt.status()) || !relocator_.shares_foreign() ||
      !options.may_copy_foreign) {
    return receipt;
  }
  // An object of another home may have been removed since its bytes were opened here, and
  // then cannot be shared any more (O4). They can be read, so they are copied.
  ARROW_RETURN_NOT_OK(CopyForeign());
  return Seal(options);
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
    const arrow::Table& table, const codec::ChecksumFn& checksum,
    const std::vector<codec::Part>& parts) const {
  const region::Region& region = session_->region();
  const auto locate = [&](const uint8_t* address,
                          int64_t size) -> arrow::Result<GlobalAddress> {
    const auto found = region.Locate(address, CheckedCast<uint64_t>(size));
    if (!found) return arrow::Status::Invalid("a buffer is outside the region");
    return *found;
  };
  ARROW_ASSIGN_OR_RAISE(auto bytes, codec::Encode(table, locate, checksum, parts));
  // Our own descriptor goes through the check that every reader will apply.
  return codec::Descriptor::Make(std::move(bytes), SegmentSizes(region));
}

arrow::Result<PutReceipt> Publisher::Seal(const PublishOptions& options) {
  ARROW_ASSIGN_OR_RAISE(auto table, AssembleTable());
  const region::Region& region = session_->region();
  ARROW_ASSIGN_OR_RAISE(auto descriptor, Describe(*table, nullptr, options.parts));
  const auto ranges = descriptor->Ranges();

  PutReceipt receipt;
  PassFaultPoint("client.seal.before-flush");
  receipt.bytes_flushed = SettleData(*session_, ranges);
  PassFaultPoint("client.seal.after-settle");
  if (options.put.checksum) {
    // Of what memory holds now, which is what others will read.
    const auto checksum_of = [&](const GlobalRange& range) -> arrow::Result<uint64_t> {
      const auto known = options.known_checksum ? options.known_checksum(range)
                                                : std::optional<uint64_t>();
      if (known) return *known;
      return ChecksumInMemory(region, range);
    };
    ARROW_ASSIGN_OR_RAISE(descriptor, Describe(*table, checksum_of, options.parts));
  }
  auto sealed =
      RequestSeal(*session_, *descriptor->bytes(), options, relocator_.parents());
  // Also after an error: the object may have been visible for a while, and read, before
  // it failed. Its bytes are not written again.
  session_->pool().MarkSealed(OwnGranules(ranges, region.own_segment().id()));
  ARROW_RETURN_NOT_OK(sealed.status());

  receipt.name = options.name;
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
