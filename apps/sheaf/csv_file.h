// CSV, as Arrow's reader reads it, but for where the memory is.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <arrow/io/type_fwd.h>
#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "apps/sheaf/decode_pool.h"

namespace sheaf::cli {

/// \brief All of `input`, whose first row names the columns, with Arrow's default
/// options: types are inferred from every row. The columns are made in `pool`. What it
/// takes to make them, much more than they are and freed only at the end, is private: it
/// would leave holes between them. `did_read` is called from this thread with how many
/// bytes are done, now and then. OutOfMemory as soon as the pool says so; Invalid says
/// what is wrong with the file.
arrow::Result<std::shared_ptr<arrow::Table>> ReadCsv(
    arrow::io::InputStream* input, const std::shared_ptr<DecodePool>& pool,
    const std::function<void(int64_t bytes_done)>& did_read);

}  // namespace sheaf::cli
