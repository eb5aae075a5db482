// Table <-> descriptor. Pure: no OS, no threads, no clock; reads and writes no data byte
// of a table, if its caller computes no checksums.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "sheaf/types.h"

namespace sheaf::codec {

/// Bounds that hold for every descriptor (docs/protocol.md L13).
constexpr int64_t kDescriptorSizeMax = int64_t{64} << 20;
constexpr int kNestingMax = 64;

/// \brief Tells where bytes of this process lie in the region. Called once per distinct
/// non-empty buffer with its first byte and size; an error ends the encoding.
using LocateFn = std::function<arrow::Result<GlobalAddress>(const uint8_t* address,
                                                            int64_t size_bytes)>;

/// \brief Gives the `Buffer` over `size_bytes` bytes at `address`, of exactly that size;
/// the codec keeps nothing else. Called once per distinct buffer of a table. For buffers
/// without bytes, `address` is the start of the segment of their part, or for a table
/// without parts of the one that its first other buffer lies in (of segment 0 when there
/// is none); the result must still have a non-null, 64-aligned address.
using BufferFn = std::function<arrow::Result<std::shared_ptr<arrow::Buffer>>(
    GlobalAddress address, int64_t size_bytes)>;

/// \brief Gives the XXH3 (64 bits, no seed) of what memory holds in `range`. Called once
/// per distinct non-empty buffer; an error ends the encoding.
using ChecksumFn = std::function<arrow::Result<uint64_t>(const GlobalRange& range)>;

/// \brief Called with a buffer that has bytes, and its checksum if one was stored.
using VisitBufferFn = std::function<arrow::Status(const GlobalRange& range,
                                                  std::optional<uint64_t> checksum)>;

/// \brief Size of the data part of a segment, or nothing when there is no such segment.
using SegmentSizeFn = std::function<std::optional<uint64_t>(SegmentId)>;

/// \brief Arrays that are not (yet) chunks of an `arrow::ChunkedArray`: by column.
using ColumnChunks = std::vector<std::vector<std::shared_ptr<arrow::ArrayData>>>;
ColumnChunks ChunksOf(const arrow::Table& table);

/// \brief What `Encode` would refuse in arrays that lie anywhere, null counts apart that
/// are not known: Invalid or NotImplemented name the column. `columns` are as many as the
/// schema has. Before Arrow is asked to do anything with arrays that came from outside:
/// it may abort the process or read out of bounds.
arrow::Status Check(const arrow::Schema& schema, const ColumnChunks& columns,
                    int64_t num_rows);

/// \brief Rows that came with one put of a table of many parts.
struct Part {
  int64_t num_rows = 0;
  uint64_t put = 0;   ///< Equal for all parts of that put.
  SegmentId segment;  ///< Where they were built.
  bool operator==(const Part&) const = default;
};

/// \brief Which rows and columns of a table are meant.
struct Selection {
  Selection() = default;  ///< All of it.
  // Implicit: a projection is the usual selection.
  Selection(std::vector<int> some) : columns(std::move(some)) {}                 // NOLINT
  Selection(std::optional<std::vector<int>> some) : columns(std::move(some)) {}  // NOLINT
  Selection(std::optional<std::vector<int>> some, int64_t offset, int64_t length)
      : columns(std::move(some)), row_offset(offset), num_rows(length) {}

  /// Indices, in the order given, also more than once; all when nothing is given.
  std::optional<std::vector<int>> columns;
  int64_t row_offset = 0;  ///< These rows lie inside of the table.
  int64_t num_rows = -1;   ///< -1: to its end.
};

/// \brief Describe `table`, all of whose non-empty buffers `locate` must know.
/// Keeps types, offsets, null counts (-1 stays unknown), absent validity bitmaps, chunk
/// layout per column, schema and field metadata in their order; a buffer that several
/// arrays share is stored once. Other absent buffers become empty ones (see AddOffsets).
/// `ArrayData::statistics` are not carried. With `checksum` its results are stored too.
/// NotImplemented names the column whose type is not known; Invalid the one whose nesting
/// exceeds `kNestingMax` or whose arrays are malformed (too short for their length, say);
/// CapacityError if the descriptor would exceed `kDescriptorSizeMax`. `parts` have the
/// table's rows together; none: it is one part.
arrow::Result<std::shared_ptr<arrow::Buffer>> Encode(const arrow::Table& table,
                                                     const LocateFn& locate,
                                                     const ChecksumFn& checksum = nullptr,
                                                     const std::vector<Part>& parts = {});

/// \brief The same array, where arrays without elements that have no offsets, as Arrow
/// allows, get one, which is zero and lies in private memory: kernels read the first one.
std::shared_ptr<arrow::ArrayData> AddOffsets(
    const std::shared_ptr<arrow::ArrayData>& array);

/// \brief The same array with buffers cut down to what its offset and length need,
/// without reading them: fixed-width values, bitmaps, offsets, and children of structs,
/// sparse unions and fixed-size lists. What is left of the offset is below 512 elements,
/// so that cut bitmaps stay 64-byte aligned. What only data could tell (string bytes,
/// list children) stays whole.
std::shared_ptr<arrow::ArrayData> Trim(const std::shared_ptr<arrow::ArrayData>& array);

/// \brief `Trim` of every chunk of every column.
std::shared_ptr<arrow::Table> Trim(const arrow::Table& table);

/// \brief Whether extension types that are registered here are made, or only stored types
/// are looked at: that runs no code of an extension over data that others wrote.
enum class Extensions : uint8_t { kMake, kStorageOnly };

/// \brief A descriptor that was copied out of shared memory or a message and checked as a
/// whole: structure, counts, nesting, every buffer inside its segment and large enough
/// for its type, so that decoding cannot read out of bounds. Contents of buffers (string
/// offsets, indices) are not checked: they are data. Immutable; any thread.
class Descriptor {
 public:
  /// \brief Take `bytes` over and check them; they are copied only if they do not start
  /// at a multiple of 8. Invalid says which column and field is wrong and why;
  /// NotImplemented if its type is one that this program or its Arrow does not know.
  /// An extension type that is not registered here becomes its storage, with name and
  /// data in the field's metadata, as in Arrow's own transports.
  static arrow::Result<std::shared_ptr<const Descriptor>> Make(
      std::shared_ptr<arrow::Buffer> bytes, const SegmentSizeFn& segment_size,
      Extensions extensions = Extensions::kMake);
  ~Descriptor();

  int64_t num_rows() const;
  int num_columns() const;
  int64_t num_chunks() const;  ///< Summed over columns.
  const std::shared_ptr<arrow::Schema>& schema() const;
  const std::shared_ptr<arrow::Buffer>& bytes() const;

  std::vector<Part> parts() const;  ///< In row order; none: the table is one part.

  /// \brief Distinct bytes that the chunks of `selection` (columns and rows in range)
  /// refer to: sorted, merged, non-empty.
  std::vector<GlobalRange> Ranges(const Selection& selection = {}) const;

  /// \brief Sum over `Ranges()`: bytes of data that the table refers to, each counted
  /// once.
  int64_t data_bytes() const;

  bool has_checksums() const;  ///< They were stored, if of no buffer.

  /// \brief Call `visit` once with each distinct non-empty buffer that the chunks of
  /// `selection` (columns and rows in range) refer to. Its first error ends this, with
  /// the first column, chunk, field and buffer of an array that refer to the bytes put
  /// before its message.
  arrow::Status VisitBuffers(const VisitBufferFn& visit,
                             const Selection& selection = {}) const;

  /// \brief Rebuild the selected rows and columns of the table with buffers from
  /// `make_buffer`; a buffer that several arrays share is made once, as is a column, and
  /// none of a chunk without such rows. Fails only if `make_buffer` does, or if columns
  /// or rows are out of range.
  arrow::Result<std::shared_ptr<arrow::Table>> ToTable(
      const BufferFn& make_buffer, const Selection& selection = {}) const;

 private:
  class Impl;
  explicit Descriptor(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf::codec
