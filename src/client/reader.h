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

/// \brief What is done with the data of a table that is opened.
enum class DataUse : uint8_t {
  kRead,
  kShare,  ///< Another table is made of it; no byte is looked at, or need be right here.
};

/// \brief A leased object with its checked descriptor; no data byte has been touched yet.
class OpenObject {
 public:
  /// \brief Lease `object`, then copy and check its record. Reason stale generation if it
  /// is gone. No message is sent, unless the session may only read (client/lease_cells.h)
  /// or its lease pages are full.
  static arrow::Result<OpenObject> Open(const std::shared_ptr<Session>& session,
                                        const ObjectId& object);

  const directory::Record& record() const { return record_; }
  const codec::Descriptor& descriptor() const { return *descriptor_; }
  uint32_t version() const { return lease_->slot().version_sequence; }

  const ObjectId& object() const { return lease_->object(); }

  /// \brief Lease the objects that what is selected (rows and columns in range) lies in,
  /// invalidate it (O3), and build the table over it: its buffers hold the leases.
  /// IOError with reason damaged if bytes that it shares are gone (F8), or if memory
  /// fails; with reason node lost, naming the node, if memory is not there.
  arrow::Result<std::shared_ptr<arrow::Table>> ToTable(
      const codec::Selection& selection, DataUse use = DataUse::kRead) const;

  /// \brief OK if all that it refers to is there: the errors of ToTable but for its data.
  arrow::Status CheckReferences() const { return LeaseData({}).status(); }

  /// \brief client::CheckData of what is selected, leased meanwhile.
  arrow::Status CheckData(const codec::Selection& selection = {}) const;
  /// \brief Invalid, saying how to have some, if the object has no checksums.
  arrow::Status RequireChecksums() const;

 private:
  OpenObject() = default;
  arrow::Result<std::shared_ptr<const TableLease>> LeaseData(
      const codec::Selection& selection) const;
  arrow::Status CheckAttached(const std::vector<GlobalRange>& ranges) const;
  arrow::Status SharedBytesLost(const ObjectId& reference) const;
  arrow::Status InvalidateData(const codec::Selection& selection) const;
  arrow::Status Invalidate(const std::vector<GlobalRange>& ranges) const;
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

/// \brief Positions of the columns of these names. KeyError if there is none, Invalid if
/// there are several.
arrow::Result<std::vector<int>> ColumnIndices(const arrow::Schema& schema,
                                              const std::vector<std::string>& names);

/// \brief Sizes of the data parts, for codec::Descriptor::Make. Of a node whose memory
/// this process has not mapped it is what the cluster file says.
codec::SegmentSizeFn SegmentSizes(const region::Region& region);

}  // namespace sheaf::client
