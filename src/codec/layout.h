// What buffers and children an array of a type has. The one place that knows Arrow's
// types by id.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

namespace sheaf::codec {

/// \brief How the size of a buffer follows from the elements that it must cover.
enum class BufferKind : uint8_t {
  kValidity,  ///< One bit an element; may be absent.
  kBits,      ///< One bit an element.
  kFixed,     ///< `width` bytes an element.
  kOffsets,   ///< `width` bytes an element and once more.
  kBytes,     ///< Only data could tell.
  kAbsent,    ///< Never there: Arrow only keeps its place.
};

struct BufferSpec {
  BufferKind kind = BufferKind::kAbsent;
  int64_t width = 0;  ///< Bytes an element, for `kFixed` and `kOffsets`.
};

/// \brief What the type demands of the children's lengths, before any data is read.
enum class ChildRule : uint8_t {
  kFree,         ///< Nothing (or there are no children).
  kCovers,       ///< At least offset + length elements.
  kCoversLists,  ///< At least (offset + length) × `list_size` elements.
  kRunEnds,      ///< Run ends, and at least as many values.
  kMapEntries,   ///< Entries, and keys in them, without nulls.
};

/// \brief Layout of a type that is not an extension (of its storage otherwise).
struct Layout {
  int buffer_count = 0;   ///< At least so many, if `variadic`.
  bool variadic = false;  ///< More buffers follow, of kind `kBytes`.
  std::array<BufferSpec, 3> buffers;
  int child_count = 0;  ///< Children, and the dictionary as the last one.
  ChildRule child_rule = ChildRule::kFree;
  int64_t list_size = 0;

  BufferSpec buffer(size_t index) const {
    return index < static_cast<size_t>(buffer_count) ? buffers[index]
                                                     : BufferSpec{BufferKind::kBytes, 0};
  }
};

/// \brief Validity bitmaps may be absent; all else is there, if only without bytes:
/// Arrow's kernels, and for views its validation, follow the null of an absent one, also
/// in arrays without elements.
inline bool MayBeAbsent(const BufferSpec& spec) {
  return spec.kind == BufferKind::kValidity || spec.kind == BufferKind::kAbsent;
}

/// \brief `type`, or what an extension type is stored as.
const arrow::DataType& StorageOf(const arrow::DataType& type);

/// \brief NotImplemented if the type is none that this code knows.
arrow::Result<Layout> LayoutOf(const arrow::DataType& storage);

/// \brief Type of child `index` < `child_count`.
const arrow::DataType& ChildTypeOf(const arrow::DataType& storage, int index);

/// \brief Bytes of a buffer that `elements` elements from its start take; nothing on
/// overflow.
std::optional<int64_t> BytesFor(const BufferSpec& spec, int64_t elements);

}  // namespace sheaf::codec
