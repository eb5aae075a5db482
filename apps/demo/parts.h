// One table over many nodes: each node's process reads its share of the file into its own
// node's memory and puts it as a part; any node then queries all rows where they lie, and
// each node its own. Every function is the work of one process on one node, so that nodes
// may be of one host (ShowParts) or of many (tests/kernels).

#pragma once

#include <cstdint>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "apps/demo/source.h"
#include "apps/sheaf/output.h"
#include "apps/sheaf/table_files.h"
#include "sheaf/store.h"

namespace sheaf::demo {

/// \brief Puts a share of the file as that part of the table. JSON: node, rows, bytes,
/// bytes_copied, load_seconds, put_seconds.
arrow::Result<cli::Json> PutOwnPart(const ConnectOptions& where, const Source& source,
                                    const cli::FileShare& share);

/// \brief Runs the query over the parts that lie on this node, and puts its answer as
/// part `share` of the table "<table>-sums". JSON: parts, rows, bytes_copied, seconds.
arrow::Result<cli::Json> SumOwnParts(const ConnectOptions& where,
                                     const std::string& table,
                                     const cli::FileShare& share);

/// \brief Opens all parts and runs the query. JSON: rows, chunks_on (their number, by
/// node), open_seconds, bytes_copied, query_seconds, answer (its rows).
arrow::Result<cli::Json> QueryAll(const ConnectOptions& where, const std::string& table);

/// \brief Makes one answer of what SumOwnParts put. JSON: answer.
arrow::Result<cli::Json> MergeSums(const ConnectOptions& where, const std::string& table);

/// \brief The same query over the file, without Sheaf. JSON: rows, answer.
arrow::Result<cli::Json> QueryFile(const Source& source);

/// \brief All of it on nodes 0 to `nodes` - 1 of a cluster that runs on this host, each
/// step in processes of its own; prints a table of times. Not OK if a byte was copied or
/// an answer differs from the file's.
arrow::Status ShowParts(const std::string& cluster, const Source& source, uint32_t nodes);

}  // namespace sheaf::demo
