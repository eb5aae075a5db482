// Can what is to be put be read? Asked before code of Arrow looks at private memory that
// may be a file's: SIGBUS there can be neither unwound nor continued. Page by page: a
// page is there, or is not. All give IOError with reason damaged.

#pragma once

#include <arrow/status.h>
#include <arrow/type_fwd.h>

namespace sheaf::client {

arrow::Status CheckBuffer(const arrow::Buffer& buffer);

/// \brief Of the buffers that tell what `array`, which codec::Check passed, refers to:
/// offsets, sizes, run ends, type codes, indices.
arrow::Status CheckIndexes(const arrow::ArrayData& array);

/// \brief Of all bytes that `array` refers to, whose indexes were checked.
arrow::Status CheckReferenced(const arrow::ArrayData& array);

}  // namespace sheaf::client
