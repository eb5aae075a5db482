#include "client/reader.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>

#include "base/fault_point.h"
#include "base/math.h"
#include "base/plant.h"
#include "client/data_check.h"
#include "client/lease_table.h"
#include "client/session.h"
#include "codec/codec.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "platform/cache.h"
#include "platform/process.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

// How often a look-up is repeated because the object it found was replaced before it was
// leased.
constexpr int kLookupsMax = 64;

// Who begins to lead makes the index anew: while it scans the slots, names are not found.
// A million of them take seconds.
constexpr std::chrono::seconds kIndexPatience{10};
constexpr std::chrono::milliseconds kIndexPollPeriod{1};

// Bytes of a leased object, in place. Reading is all that anyone may do.
class LeasedBuffer : public arrow::Buffer {
 public:
  LeasedBuffer(const uint8_t* data, int64_t size, std::shared_ptr<ObjectLease> lease)
      : Buffer(data, size), lease_(std::move(lease)) {}

 private:
  std::shared_ptr<ObjectLease> lease_;
};

std::string Numbers(const ObjectId& object) {
  return std::to_string(object.segment.value) + ":" + std::to_string(object.slot) + "@" +
         std::to_string(object.generation);
}

}  // namespace

codec::SegmentSizeFn SegmentSizes(const region::Region& region) {
  return [&region](SegmentId id) -> std::optional<uint64_t> {
    const region::Segment* segment = region.segment(id);
    if (segment == nullptr) return std::nullopt;
    return segment->data().size_bytes();
  };
}

arrow::Result<OpenObject> OpenObject::Open(const std::shared_ptr<Session>& session,
                                           const ObjectId& object) {
  OpenObject open;
  ARROW_ASSIGN_OR_RAISE(open.lease_, session->leases().Take(session, object));
  const region::Segment& home = *session->region().segment(object.segment);
  ARROW_ASSIGN_OR_RAISE(open.record_, directory::ReadRecord(home, open.lease_->slot()));
  std::vector<std::shared_ptr<ObjectLease>> references;
  for (const ObjectId& reference : open.record_.references) {
    auto lease = session->leases().TakeReference(session, reference);
    if (IsStaleGeneration(lease.status())) return open.SharedBytesLost(reference);
    ARROW_RETURN_NOT_OK(lease.status());
    references.push_back(*std::move(lease));
  }
  ARROW_ASSIGN_OR_RAISE(
      open.descriptor_,
      codec::Descriptor::Make(open.record_.descriptor, SegmentSizes(session->region())));
  session->leases().Register(open.lease_, open.descriptor_->Ranges(),
                             std::move(references));
  return open;
}

// For messages.
std::string OpenObject::Title() const {
  if (!record_.name.empty()) return "table '" + record_.name + "'";
  return "unnamed table " + Numbers(lease_->object());
}

// The home of an object leases what the object refers to (O4), and our own lease holds:
// only a certificate that this home was off ends such a lease before its time (F8).
arrow::Status OpenObject::SharedBytesLost(const ObjectId& reference) const {
  const uint32_t home = lease_->object().segment.value;
  const uint32_t other = reference.segment.value;
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDamaged,
                    Title() + ": bytes that it shares with object " + Numbers(reference) +
                        " are gone: node " + std::to_string(other) +
                        " freed them when node " + std::to_string(home) +
                        " was forgotten; remove this table and put it again");
}

arrow::Status OpenObject::InvalidateData(
    const std::optional<std::vector<int>>& columns) const {
  Session& session = lease_->session();
  const region::Region& region = session.region();
  if (region.own_segment().data().cache()->coherent() || Planted("no-invalidate-data") ||
      session.notes().IsSet(lease_->object())) {
    return arrow::Status::OK();
  }
  PassFaultPoint("client.read.before-invalidate");
  const auto ranges = columns ? descriptor_->Ranges(*columns) : descriptor_->Ranges();
  for (const GlobalRange& range : ranges) {
    platform::CacheControl& cache = *region.segment(range.begin.segment)->data().cache();
    const arrow::Status invalidated =
        cache.InvalidateGuarded(region.Resolve(range), range.size_bytes);
    if (!invalidated.ok()) {
      return invalidated.WithMessage(Title(), ": at ", range.begin.segment.value, ":",
                                     range.begin.offset, "+", range.size_bytes,
                                     " of the region: ", invalidated.message());
    }
  }
  PassFaultPoint("client.read.after-invalidate");
  if (columns) return arrow::Status::OK();
  session.notes().Set(lease_->object());
  PassFaultPoint("client.read.after-note");
  return arrow::Status::OK();
}

arrow::Status OpenObject::CheckData(
    const std::optional<std::vector<int>>& columns) const {
  arrow::Status checked =
      client::CheckData(lease_->session().region(), *descriptor_, columns);
  if (checked.ok()) return checked;
  return checked.WithMessage(Title(), ": ", checked.message());
}

arrow::Status OpenObject::RequireChecksums() const {
  if (descriptor_->has_checksums()) return arrow::Status::OK();
  return arrow::Status::Invalid(Title(),
                                " has no checksums: put with --checksum "
                                "(PutOptions::checksum) to have some");
}

arrow::Result<std::shared_ptr<arrow::Table>> OpenObject::ToTable(
    const std::optional<std::vector<int>>& columns) const {
  ARROW_RETURN_NOT_OK(InvalidateData(columns));
  const region::Region& region = lease_->session().region();
  const auto make_buffer =
      [&](GlobalAddress address,
          int64_t size_bytes) -> arrow::Result<std::shared_ptr<arrow::Buffer>> {
    const uint8_t* data = region.Resolve({address, CheckedCast<uint64_t>(size_bytes)});
    if (data == nullptr) {
      return arrow::Status::Invalid("buffer at ", address.segment.value, ":",
                                    address.offset, "+", size_bytes,
                                    " is outside the region");
    }
    return std::make_shared<LeasedBuffer>(data, size_bytes, lease_);
  };
  return descriptor_->ToTable(make_buffer, columns);
}

arrow::Result<std::optional<directory::Found>> FindName(Session& session,
                                                        const std::string& name) {
  arrow::Status attached = session.AttachMissing();
  auto found = directory::Lookup(session.region(), name);
  const auto deadline = platform::BootTime() + kIndexPatience;
  while (IsNodeLost(found.status()) && platform::BootTime() < deadline) {
    platform::SleepFor(kIndexPollPeriod);
    attached = session.AttachMissing();
    found = directory::Lookup(session.region(), name);
  }
  // What could not be attached may be why the look-up failed, and says more.
  if (!found.ok()) ARROW_RETURN_NOT_OK(attached);
  return found;
}

arrow::Result<OpenObject> OpenName(const std::shared_ptr<Session>& session,
                                   const std::string& name) {
  ARROW_RETURN_NOT_OK(directory::ValidateName(name));
  for (int i = 0; i < kLookupsMax; ++i) {
    ARROW_ASSIGN_OR_RAISE(auto found, FindName(*session, name));
    if (!found) return arrow::Status::KeyError("no table is named '", name, "'");
    auto open = OpenObject::Open(session, found->object);
    if (open.ok() && open->record().name == name) return open;
    if (!open.ok() && !IsStaleGeneration(open.status())) return open;
  }
  return arrow::Status::IOError("'", name, "' was replaced ", kLookupsMax,
                                " times while it was being opened");
}

}  // namespace sheaf::client
