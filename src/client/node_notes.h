// Which objects this node has invalidated since they were sealed (docs/protocol.md L9,
// O3).

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <arrow/result.h>

#include "platform/file.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief Notes shared by the sessions of one node, in ordinary local memory. A lossy
/// cache: a missing note costs one more invalidation, a present one names object and
/// generation, and maybe a top-level column, by 64 bits of hash. Thread-safe.
class NodeNotes {
 public:
  /// \brief Open or create the notes file at `path`.
  static arrow::Result<std::unique_ptr<NodeNotes>> Open(const std::string& path);

  /// \brief Notes of this process alone: of one whose user may not write those of the
  /// node (docs/protocol.md L9).
  static arrow::Result<std::unique_ptr<NodeNotes>> MakePrivate();

  static constexpr int kAllColumns = -1;

  /// \brief Set for this very column; a note of all is another one.
  bool IsSet(const ObjectId& object, int column = kAllColumns) const;
  /// \brief Only after the fence that ends the invalidation of *all* lines of that
  /// column of the object.
  void Set(const ObjectId& object, int column = kAllColumns);

 private:
  explicit NodeNotes(platform::Mapping mapping) : mapping_(std::move(mapping)) {}
  uint64_t* Word(uint64_t hash) const;

  platform::Mapping mapping_;
};

}  // namespace sheaf::client
