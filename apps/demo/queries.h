// One query per demo table: the same plan runs over shared memory and over the source
// file.

#pragma once

#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

namespace sheaf::demo {

/// \brief Run the query that belongs to `table_name` ("flights" or "lineitem") over
/// `table` with Arrow's Acero. The result is sorted by its keys and exact (integers and
/// decimals), so equal inputs give equal tables.
arrow::Result<std::shared_ptr<arrow::Table>> RunQuery(
    const std::string& table_name, std::shared_ptr<arrow::Table> table);

/// \brief One answer of `answers`: those of RunQuery over parts of the table, one below
/// the other. Equal to the answer over all of the table's rows.
arrow::Result<std::shared_ptr<arrow::Table>> MergeAnswers(
    const std::string& table_name, std::shared_ptr<arrow::Table> answers);

/// \brief What the query asks, for a person.
const char* QueryText(const std::string& table_name);

}  // namespace sheaf::demo
