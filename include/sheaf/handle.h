// A handle names an object, or a part of one, in a few dozen bytes that any channel
// carries.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/result.h>

#include "sheaf/types.h"

namespace sheaf {

/// \brief What one program sends to another instead of a table (the descriptor exchange
/// of Groet et al., section 3): cluster, object, and which rows and columns. A value:
/// copy it freely. It does not keep the object alive; an open table does. A handle to an
/// object that is gone gives a "stale generation" error, never another table.
struct Handle {
  uint64_t cluster_id = 0;
  ObjectId object;
  int64_t row_offset = 0;
  /// -1: all rows of the object from `row_offset` on.
  int64_t num_rows = -1;
  /// Of the object, in this order; all when absent.
  std::optional<std::vector<uint32_t>> columns = std::nullopt;

  bool operator==(const Handle&) const = default;

  /// \brief Rows `[offset, offset + length)` of what this handle names; a length of -1
  /// is to its end. No message is sent, so it is Open that says Invalid if some of these
  /// rows lie outside of what this handle names. A slice of such a slice is no better.
  Handle Slice(int64_t offset, int64_t length = -1) const;

  /// \brief Some columns of what this handle names, by position. No message is sent.
  /// Invalid if this handle already selects columns and an index is out of their range.
  arrow::Result<Handle> Select(const std::vector<uint32_t>& positions) const;

  /// \brief Portable bytes: 56 plus 4 for each selected column.
  std::string Serialize() const;
  /// \brief Back from `Serialize`. Invalid if the bytes are malformed (checksummed).
  static arrow::Result<Handle> Deserialize(std::string_view bytes);
};

}  // namespace sheaf
