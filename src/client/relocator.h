// Brings what a table refers to into the region: shares what is there, copies the rest,
// once.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "client/lease_table.h"
#include "client/session.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief Collects the arrays of one object to be. Each distinct byte range is copied at
/// most once: within one call of `Relocate`, and over all calls while the `Buffer` that
/// owns it lives, which is then taken to hold the same bytes as before. Private buffers
/// are not kept alive. One thread; keeps the session.
class Relocator {
 public:
  /// `home` is to be the object's; copies go to `pool`, one of the session's.
  Relocator(std::shared_ptr<Session> session, SegmentId home, arrow::MemoryPool* pool)
      : session_(std::move(session)), home_(home), pool_(pool) {}

  /// \brief The same arrays (their `field_names` are for messages) with every non-empty
  /// buffer in the region. Slices are cut to what they refer to, first without reading
  /// data (codec::Trim), and where private memory must be copied by a compacting copy
  /// when most of it is not referred to. OutOfMemory if the region cannot hold the
  /// copies. After an error nothing of this call stays there, and nothing has changed but
  /// `bytes_needed`.
  arrow::Result<std::vector<std::shared_ptr<arrow::ArrayData>>> Relocate(
      const std::vector<std::shared_ptr<arrow::ArrayData>>& arrays,
      const std::vector<std::string>& field_names);

  /// \brief From now on bytes of other homes are copied too; those that were shared are
  /// not any more once their arrays are relocated again.
  void CopyForeign() {
    copies_foreign_ = true;
    shares_foreign_ = false;
    parents_.clear();
    known_parents_.clear();
  }
  /// True if relocated arrays share bytes of another home's objects.
  bool shares_foreign() const { return shares_foreign_; }

  /// Bytes copied into the region so far.
  int64_t bytes_copied() const { return bytes_copied_; }

  /// After OutOfMemory: these and what the failed call would have copied, at least. Else
  /// 0.
  int64_t bytes_needed() const {
    return bytes_missing_ == 0 ? 0 : bytes_copied_ + bytes_missing_;
  }

  /// Leases of the published objects that relocated arrays share bytes with.
  const std::vector<std::shared_ptr<ObjectLease>>& parents() const { return parents_; }

 private:
  class Pass;

  /// A copy of bytes up to `end`, by where they begin.
  struct Copy {
    const uint8_t* end = nullptr;
    std::shared_ptr<arrow::Buffer> bytes;
  };
  using CopiesByBegin = std::map<const uint8_t*, Copy>;  ///< None inside another.
  /// What was copied of one private buffer: it, not a slice of it.
  struct Source {
    std::weak_ptr<arrow::Buffer> buffer;
    CopiesByBegin copies;
  };

  std::shared_ptr<arrow::Buffer> FindCopy(
      const std::shared_ptr<arrow::Buffer>& buffer) const;
  void Remember(const std::shared_ptr<arrow::Buffer>& buffer,
                std::shared_ptr<arrow::Buffer> copy);

  std::shared_ptr<Session> session_;
  SegmentId home_;
  arrow::MemoryPool* pool_;
  std::unordered_map<const arrow::Buffer*, Source> sources_;
  size_t sources_until_sweep_ = kSourcesUntilSweepMin;
  std::vector<std::shared_ptr<ObjectLease>> parents_;
  std::set<const ObjectLease*> known_parents_;
  bool copies_foreign_ = false;
  bool shares_foreign_ = false;
  int64_t bytes_copied_ = 0;
  int64_t bytes_missing_ = 0;

  static constexpr size_t kSourcesUntilSweepMin = 1024;
};

}  // namespace sheaf::client
