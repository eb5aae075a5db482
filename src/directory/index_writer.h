// The leader's side of the index: an open-addressed table of entry lines in its own
// record area (docs/protocol.md L6).

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/directory.h"
#include "format/layout.h"
#include "region/control_line.h"

namespace sheaf::directory {

/// Longest run of entries that a look-up probes. At a load of 1/2 runs stay below some
/// dozen; only names with equal hashes make longer ones.
constexpr uint64_t kProbeMax = 4096;

enum class EntryState : uint8_t { kNeverUsed = 0, kBound = 1, kRemoved = 2 };

/// \brief Tables of one epoch. A new one is filled aside, then the header line leads to
/// it; the one before stays untouched until there is a third, since readers may still be
/// in it.
class IndexWriter {
 public:
  /// Takes over the table that `home`'s header line names, to free it in its turn.
  IndexWriter(HomeDirectory* home, uint32_t epoch);
  ~IndexWriter();

  /// \brief `progress` is called now and then while a large table is made.
  void OnProgress(std::function<void()> progress) { progress_ = std::move(progress); }

  bool is_active() const { return is_active_; }  ///< The header line leads to a table.
  /// \brief Own header line := inactive, settled (C1).
  void Deactivate();

  /// \brief Start a new table with room for `names`, aside. CapacityError or OutOfMemory
  /// if there is no space for it; nothing changes then.
  arrow::Status Begin(uint64_t names);
  /// \brief Put an entry in the new table; its position. CapacityError if its run is too
  /// long.
  arrow::Result<uint64_t> Place(const format::IndexEntry& entry);
  void Abandon();  ///< Give the new table up.
  void Publish();  ///< Settle the new table, then the header line that leads to it.

  bool is_full() const;  ///< One more entry would exceed the load of 1/2.
  /// \brief Put an entry in the current table, flushed.
  arrow::Result<uint64_t> Add(const format::IndexEntry& entry, region::Arrival arrival);
  void Update(uint64_t position, const format::IndexEntry& entry,
              region::Arrival arrival);

 private:
  struct Table {
    uint64_t offset = 0;
    uint64_t capacity_entries = 0;  ///< 0: none.
    uint64_t num_used = 0;
    std::vector<bool> is_used;  ///< [capacity_entries]
    uint64_t size_bytes() const { return capacity_entries * format::kLineBytes; }
  };
  uint64_t* LineAt(const Table& table, uint64_t position) const;
  static arrow::Result<uint64_t> Take(Table* table, uint64_t hash);
  arrow::Status Allocate(uint64_t capacity);  ///< The place of a new table.
  void Free(Table* table);

  HomeDirectory* home_;
  uint32_t epoch_;
  uint64_t build_ = 0;
  bool is_active_ = false;  ///< The header line leads to `current_`.
  Table current_;
  Table previous_;
  Table next_;
  std::function<void()> progress_ = [] {};
};

}  // namespace sheaf::directory
