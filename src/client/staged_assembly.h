// The table that the parts of a put are together (docs/tables.md): no byte is copied.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type_fwd.h>

#include "client/publisher.h"
#include "client/reader.h"
#include "client/session.h"
#include "client/staging.h"
#include "codec/codec.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief Of an object that was not put in parts: one, where its first byte is.
std::vector<codec::Part> PartsOf(const OpenObject& open);

/// \brief What two schemas differ in; empty if nothing.
std::string SchemaDifference(const arrow::Schema& mine, const arrow::Schema& other);

/// \brief A table of all that a list names, over the bytes as they are.
struct StagedTable {
  std::shared_ptr<arrow::Table> table;
  PublishOptions publish;     ///< Under its name: replaces `base_version` with `append`.
  uint32_t base_version = 0;  ///< 0: it is a new one.
  /// It has no checksums, as some of it has none; the others' are of no use any more.
  bool loses_checksums = false;
};
/// \brief Reason stale generation if a part is gone; KeyError if the table that it is
/// appended to is; Invalid names the part whose schema differs.
arrow::Result<StagedTable> AssembleStaged(const std::shared_ptr<Session>& session,
                                          const std::string& name,
                                          const Staging& staging);

struct PreparedTable {
  PutReceipt receipt;
  bool loses_checksums = false;  ///< As of StagedTable.
};
/// \brief Prepare the table of `staging`, which has all its parts: an object that goes
/// with this process until it is kept.
arrow::Result<PreparedTable> PrepareStaged(const std::shared_ptr<Session>& session,
                                           const std::string& name, Staging* staging);

}  // namespace sheaf::client
