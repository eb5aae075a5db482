// Brings what a table refers to into the region: shares what is there, copies the rest,
// once.

#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "client/lease_table.h"
#include "client/session.h"

namespace sheaf::client {

/// \brief Collects the arrays of one object to be. Each call of `Relocate` copies each
/// distinct byte range of its arrays at most once. One thread; keeps the session.
class Relocator {
 public:
  explicit Relocator(std::shared_ptr<Session> session) : session_(std::move(session)) {}

  /// \brief The same arrays (their `field_names` are for messages) with every non-empty
  /// buffer in the region. Slices are cut to what they refer to, first without reading
  /// data (codec::Trim), and where private memory must be copied by a compacting copy
  /// when most of it is not referred to. OutOfMemory if the region cannot hold the
  /// copies: nothing stays there then.
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

  /// Leases of the published objects that relocated arrays share bytes with.
  const std::vector<std::shared_ptr<ObjectLease>>& parents() const { return parents_; }

 private:
  class Pass;
  std::shared_ptr<Session> session_;
  std::vector<std::shared_ptr<ObjectLease>> parents_;
  std::set<const ObjectLease*> known_parents_;
  bool copies_foreign_ = false;
  bool shares_foreign_ = false;
  int64_t bytes_copied_ = 0;
};

}  // namespace sheaf::client
