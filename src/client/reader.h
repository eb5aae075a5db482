// From an object's identity to an arrow::Table over its bytes (docs/architecture.md
// section 5).

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "client/lease_table.h"
#include "client/session.h"
#include "codec/codec.h"
#include "directory/catalog.h"
#include "sheaf/store.h"

namespace sheaf::client {

/// \brief A leased object with its checked descriptor; no data byte has been touched yet.
class OpenObject {
 public:
  /// \brief Lease `object` and everything it refers to, then copy and check its record.
  /// Reason stale generation if it is gone; IOError with reason damaged if it is there
  /// and bytes that it shares are gone (F8). No message is sent, unless the session may
  /// only read (client/lease_cells.h) or its lease pages are full.
  static arrow::Result<OpenObject> Open(const std::shared_ptr<Session>& session,
                                        const ObjectId& object);

  const directory::Record& record() const { return record_; }
  const codec::Descriptor& descriptor() const { return *descriptor_; }
  uint32_t version() const { return lease_->slot().version_sequence; }

  /// \brief Invalidate what the columns need (O3), and build the table over it. Its
  /// buffers hold the lease. IOError with reason damaged if that found memory that fails.
  arrow::Result<std::shared_ptr<arrow::Table>> ToTable(
      const std::optional<std::vector<int>>& columns) const;

  /// \brief client::CheckData of the columns (all when absent).
  arrow::Status CheckData(
      const std::optional<std::vector<int>>& columns = std::nullopt) const;
  /// \brief Invalid, saying how to have some, if the object has no checksums.
  arrow::Status RequireChecksums() const;

 private:
  OpenObject() = default;
  arrow::Status SharedBytesLost(const ObjectId& reference) const;
  arrow::Status InvalidateData(const std::optional<std::vector<int>>& columns) const;
  std::string Title() const;

  std::shared_ptr<ObjectLease> lease_;
  directory::Record record_;
  std::shared_ptr<const codec::Descriptor> descriptor_;
};

/// \brief Where `name` leads now, on any node that is up; nothing if there is no such
/// name. IOError with reason node lost while the catalog cannot be read.
arrow::Result<std::optional<directory::Found>> FindName(Session& session,
                                                        const std::string& name);

/// \brief What `name` leads to now, leased and checked. KeyError if there is no such
/// name. Follows a name that is being replaced.
arrow::Result<OpenObject> OpenName(const std::shared_ptr<Session>& session,
                                   const std::string& name);

/// \brief Sizes of the data parts that this process maps, for codec::Descriptor::Make.
codec::SegmentSizeFn SegmentSizes(const region::Region& region);

}  // namespace sheaf::client
