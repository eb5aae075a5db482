// A region that is only memory: two segments of one mapping, for tests of what needs
// addresses but no daemon.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "sheaf/types.h"

namespace sheaf::testing {

class Arena {
 public:
  /// The segments of the arena; there are no others.
  static constexpr SegmentId kSegments[] = {{3}, {7}};

  explicit Arena(int64_t segment_size = int64_t{16} << 20);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// \brief The same table with every buffer copied into the arena, each distinct one
  /// once, one after the other in both segments. Aborts when the arena is full.
  std::shared_ptr<arrow::Table> CopyIn(const arrow::Table& table);

  /// \brief Forget what was copied in.
  void Clear();

  /// \brief Let no access through, or let all through again.
  void Protect(bool protect);

  /// For `codec::Encode`.
  arrow::Result<GlobalAddress> Locate(const uint8_t* address, int64_t size_bytes) const;
  /// For `codec::Descriptor`: size of a segment, and buffers in it.
  std::optional<uint64_t> SegmentSize(SegmentId segment) const;
  arrow::Result<std::shared_ptr<arrow::Buffer>> BufferAt(GlobalAddress address,
                                                         int64_t size_bytes) const;

  /// \brief Whether every buffer of the table lies in the arena; those without bytes too.
  bool Holds(const arrow::Table& table) const;
  bool Holds(const arrow::ArrayData& array) const;

 private:
  std::shared_ptr<arrow::Buffer> CopyIn(const std::shared_ptr<arrow::Buffer>& buffer);
  std::shared_ptr<arrow::ArrayData> CopyIn(const arrow::ArrayData& array);

  const int64_t segment_size_;
  uint8_t* base_;
  std::vector<int64_t> used_;  // By segment.
  size_t next_ = 0;            // Segment of the next buffer.
  std::map<std::pair<const uint8_t*, int64_t>, std::shared_ptr<arrow::Buffer>> copied_;
  std::vector<std::shared_ptr<arrow::Buffer>>
      originals_;  // So that no address is reused.
};

}  // namespace sheaf::testing
