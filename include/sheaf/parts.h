// Tables in parts: one logical table whose parts were put on many nodes, each where its
// rows are. And a barrier for the processes that do that.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type_fwd.h>

#include "sheaf/store.h"

namespace sheaf {

struct PartOptions {
  /// The parts become further rows of the table that has the name: its next version,
  /// which shares all bytes of this one.
  bool append = false;
  /// The put is aborted if it is not complete so long from now; of several parts the
  /// earliest counts. More than 0. None: it waits until `AbortParts` or `Store::Remove`.
  std::optional<std::chrono::milliseconds> deadline = std::nullopt;
  /// How long this call waits for the other parts; not at all when zero.
  std::chrono::milliseconds wait{0};
  bool checksum = false;  ///< As for `PutOptions`; of the table if all parts have some.
};

/// \brief What one part's put did.
struct PartReceipt {
  /// Of the bytes of this part. Its handle ends when the table is whole.
  PutReceipt part;
  /// Of the table, if this call made it whole: what it shares and copies (nothing).
  std::optional<PutReceipt> table;
  uint32_t version = 0;           ///< Of the whole table; 0 while parts are missing.
  std::vector<uint32_t> missing;  ///< Parts that are not there yet.
  /// If this call made it whole: the table has no checksums, though some of its parts (or
  /// it, before the append) have, since others have none.
  bool checksums_lost = false;
};

/// \brief Put part `part` (from 0) of the `of` that make table `name`; rows are in the
/// order of parts. Nobody sees the table before all parts are there: then all of it, at
/// once, sealed by the call that brings the last one. A part goes to the memory of the
/// node of `store`; what `Put` says of sharing and copying holds. Any thread, process and
/// node.
/// Invalid names part and field if the schema is not that of the parts that are there (or
/// of the table, with `append`), or if `of` or `append` differ from theirs. AlreadyExists
/// if there is a table of that name, without `append`, or this part of it. KeyError if
/// there is none, with `append`. Cancelled if it was aborted meanwhile, or its table
/// removed. Reason timeout names the missing parts: after `wait` this part stays, at the
/// deadline it is gone as well. After any other error this part is not there; reason
/// disconnected or node lost as for `Put`. A process that dies takes its part with it
/// until this has returned.
arrow::Result<PartReceipt> PutPart(const std::shared_ptr<Store>& store,
                                   const std::string& name, const arrow::Table& table,
                                   uint32_t part, uint32_t of,
                                   const PartOptions& options = {});

/// \brief Add rows to the table `name` as a part of its own: PutPart with `append`, one
/// of one. Others may do so at the same time: all get in. KeyError if there is no such
/// table.
arrow::Result<PutReceipt> AppendPart(const std::shared_ptr<Store>& store,
                                     const std::string& name, const arrow::Table& table,
                                     const PartOptions& options = {});

/// \brief Remove the parts of a table that is not whole; one that is stays. KeyError if
/// there are none.
arrow::Status AbortParts(const std::shared_ptr<Store>& store, const std::string& name);

/// \brief A put whose parts are not all there.
struct StagedParts {
  std::string name;
  uint32_t of = 0;
  bool append = false;
  std::vector<uint32_t> present;  ///< In their order; all others below `of` are missing.
  std::optional<int64_t> deadline_unix_ms;
};

/// \brief All puts that miss parts, by table. `Store::List` does not tell of them.
arrow::Result<std::vector<StagedParts>> ListStagedParts(
    const std::shared_ptr<Store>& store);

struct PartInfo {
  uint32_t index = 0;  ///< In row order, over all that was appended.
  /// Whose memory it was put in. If it was spilled, or shares bytes of other nodes, some
  /// lie elsewhere: ask `ChunkNodes`, or `Store::Stat` for `bytes_on`. Of a table that
  /// was not put in parts: the first node that has bytes of it.
  uint32_t node = 0;
  int64_t row_offset = 0;
  int64_t num_rows = 0;
  int64_t bytes = 0;  ///< Distinct data bytes.
};

/// \brief The parts of a table, which is not opened; one that was not put in parts is one
/// part. KeyError if there is no such name.
arrow::Result<std::vector<PartInfo>> ListParts(const std::shared_ptr<Store>& store,
                                               const std::string& name);

/// \brief One part, as `Store::Get` gives the table: nothing of other parts is leased,
/// invalidated or mapped. KeyError if there is no such part.
arrow::Result<std::shared_ptr<arrow::Table>> GetPart(const std::shared_ptr<Store>& store,
                                                     const std::string& name,
                                                     uint32_t index,
                                                     const GetOptions& options = {});

struct LocalPart {
  PartInfo info;
  std::shared_ptr<arrow::Table> table;
};

/// \brief The parts whose `node` is the store's own, all of one version: to compute where
/// the data is.
arrow::Result<std::vector<LocalPart>> LocalParts(const std::shared_ptr<Store>& store,
                                                 const std::string& name,
                                                 const GetOptions& options = {});

/// \brief [num_columns][num_chunks]: on which node each chunk of a table that was opened
/// from `store` lies: that of its first buffer; a chunk without buffers (of the null
/// type) is where the same row of another column is. Nothing for private memory.
std::vector<std::vector<std::optional<uint32_t>>> ChunkNodes(
    const std::shared_ptr<Store>& store, const arrow::Table& table);

/// \brief Return when `n` callers, in any processes on any nodes, have arrived at the
/// barrier of that name; it can then be used again. Reason timeout if they have not
/// within `timeout`: this arrival is then withdrawn, and a barrier that opens at that
/// moment is OK, not a timeout. One whose process dies before the barrier opens has not
/// arrived. Invalid if others are there who wait for another `n`.
arrow::Status Barrier(const std::shared_ptr<Store>& store, const std::string& name,
                      uint32_t n, std::chrono::milliseconds timeout);

}  // namespace sheaf
