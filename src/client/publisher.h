// From a table to a sealed object (docs/architecture.md section 4).

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "client/relocator.h"
#include "client/session.h"
#include "codec/codec.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief What the object is to be: a named table, or an unnamed one.
struct PublishOptions {
  std::string name;  ///< Empty: unnamed.
  PutOptions put;
  bool keep = false;
  std::vector<codec::Part> parts = {};  ///< Of the table; none: it is one part.
  /// With `put.checksum`: what the checksum of these bytes is, if that is known.
  std::function<std::optional<uint64_t>(const GlobalRange&)> known_checksum = nullptr;
  /// Bytes of other homes that cannot be shared (any more) are copied; else the put fails
  /// with reason stale generation.
  bool may_copy_foreign = true;
  /// Of a named one: nobody sees it before PublishPrepared.
  bool is_prepared = false;
};

/// \brief Builds one object: batches or whole tables in, a receipt out. One thread.
/// Dropped before `Finish` it leaves nothing in the region.
class Publisher {
 public:
  /// `pool` is where copies go: of the object's home to be, as the options say.
  Publisher(std::shared_ptr<Session> session, std::shared_ptr<arrow::Schema> schema,
            PublishOptions options, arrow::MemoryPool* pool);

  /// \brief Invalid if the batch has another schema or malformed arrays.
  arrow::Status Append(const arrow::RecordBatch& batch);
  /// \brief Keeps the chunk layout of each column. Only as the one thing that is
  /// published.
  arrow::Status SetTable(const arrow::Table& table);
  arrow::Result<PutReceipt> Finish();

  /// After OutOfMemory of `Append` or `SetTable`: what is to be copied into the region,
  /// at least, with all appended before. Else 0.
  int64_t bytes_needed() const { return relocator_.bytes_needed(); }
  /// Of the object to be.
  SegmentId home() const { return home_; }

 private:
  arrow::Status AddChunks(codec::ColumnChunks chunks, int64_t num_rows);
  arrow::Result<std::shared_ptr<arrow::Table>> AssembleTable() const;
  arrow::Result<std::shared_ptr<const codec::Descriptor>> Describe(
      const arrow::Table& table, const codec::ChecksumFn& checksum) const;
  arrow::Result<PutReceipt> Seal();
  arrow::Status CopyForeign();

  std::shared_ptr<Session> session_;
  std::shared_ptr<arrow::Schema> schema_;
  PublishOptions options_;
  SegmentId home_;
  Relocator relocator_;
  std::vector<std::vector<std::shared_ptr<arrow::Array>>> columns_;  ///< [column][chunk]
  int64_t num_rows_ = 0;
  std::chrono::nanoseconds start_;
};

}  // namespace sheaf::client
