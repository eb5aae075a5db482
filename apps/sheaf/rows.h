// Rows of a table as JSON and as text: what `sheaf head` prints.

#pragma once

#include <string>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "apps/sheaf/output.h"

namespace sheaf::cli {

/// \brief An array with an object for each row of `table`. Keys are the columns' names;
/// when a name comes again its later columns are called `name#2`, `name#3` and so on, so
/// that nothing is lost. The same holds for fields of structs.
///
/// Values: null, booleans and numbers as such (NaN and infinities, for which JSON has no
/// number, as the strings "NaN", "Infinity", "-Infinity"); lists as arrays, structs as
/// objects, maps as arrays of {"key":, "value":}; dictionaries, run-end encoding, unions
/// and extensions as the value they stand for; binary as a string of hexadecimal digits;
/// decimals, dates, times, durations and intervals as the strings that Arrow makes of
/// them, durations with their unit.
arrow::Result<Json> RowsToJson(const arrow::Table& table);

/// \brief Lines under headings. Text stands as it is, null as `null`, nested values as
/// compact JSON. Each cell is one line; long ones are cut.
arrow::Result<std::string> RowsToText(const arrow::Table& table);

}  // namespace sheaf::cli
