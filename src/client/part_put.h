// One part of a table, from its bytes to a place in the list of parts, or in the table.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type_fwd.h>

#include "client/reader.h"
#include "client/session.h"
#include "client/staging.h"
#include "codec/codec.h"
#include "sheaf/parts.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief One call of sheaf::PutPart (docs/tables.md). The bytes go into an unnamed
/// object, then that object into the list of parts by compare and swap; whoever makes the
/// list whole prepares the table with it (staged_table.h). One thread.
class PartPut {
 public:
  PartPut(std::shared_ptr<Session> session, std::string name, uint32_t part, uint32_t of,
          const PartOptions& options);

  arrow::Result<PartReceipt> Run(const arrow::Table& table);

 private:
  enum class Step : uint8_t { kStaged, kSealed, kAgain };

  arrow::Status CheckArguments() const;
  arrow::Status CheckBefore(const arrow::Table& table);
  arrow::Status CheckJoins(const Staging& staging) const;
  arrow::Status IsThereAlready(const StagedEntry& entry) const;
  arrow::Status CheckSchema(const arrow::Schema& schema, const arrow::Schema& other,
                            const std::string& of_what) const;
  arrow::Status CheckSchemaOf(const Staging& staging, const arrow::Schema& schema) const;
  arrow::Result<std::optional<FoundStaging>> Meet();
  arrow::Result<PartReceipt> Place(PartReceipt receipt);
  arrow::Result<Step> PlaceOnce(PartReceipt* receipt);
  arrow::Result<Step> PutAlone(const Staging& staging, PartReceipt* receipt);
  arrow::Result<Step> Complete(FoundStaging stored, PartReceipt* receipt);
  arrow::Result<Step> AfterRefusal(const arrow::Status& status);
  arrow::Status CheckNoOther(const Staging& staging);
  arrow::Result<Step> AfterStore(const Staging& staging, PartReceipt* receipt);
  arrow::Status Await(PartReceipt* receipt);
  arrow::Status Aborted() const;
  void Withdraw();
  Staging Begin() const;

  std::shared_ptr<Session> session_;
  std::string name_;
  std::string list_name_;
  uint32_t part_;
  uint32_t of_;
  PartOptions options_;
  int64_t deadline_unix_ns_ = 0;
  int64_t num_rows_ = 0;
  ObjectId object_;  ///< Of this part.
  std::shared_ptr<arrow::Schema> schema_;
  /// What is left of other puts, which the next list takes over.
  std::optional<FoundStaging> before_;
  uint64_t staging_id_ = 0;  ///< Of the list that this part is in.
  int stale_seals_ = 0;
  uint32_t seen_version_ = 0;  ///< Of what was to be changed: the list, or the table.
};

}  // namespace sheaf::client
