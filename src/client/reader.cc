#include "client/reader.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "base/fault_point.h"
#include "base/math.h"
#include "base/plant.h"
#include "client/data_check.h"
#include "client/keeper_watch.h"
#include "client/lease_table.h"
#include "client/node_notes.h"
#include "client/session.h"
#include "codec/codec.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "platform/cache.h"
#include "platform/process.h"
#include "region/control_line.h"
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
  LeasedBuffer(const uint8_t* data, int64_t size, std::shared_ptr<const TableLease> lease)
      : Buffer(data, size), lease_(std::move(lease)) {}

 private:
  std::shared_ptr<const TableLease> lease_;
};

std::string Numbers(const ObjectId& object) {
  return std::to_string(object.segment.value) + ":" + std::to_string(object.slot) + "@" +
         std::to_string(object.generation);
}

// `ranges` are sorted and disjoint.
bool Overlaps(const std::vector<GlobalRange>& ranges, const GlobalRange& extent) {
  const auto after = std::ranges::upper_bound(
      ranges, extent.begin, {}, [](const GlobalRange& r) { return r.begin; });
  if (after != ranges.end() && after->begin.segment == extent.begin.segment &&
      after->begin.offset - extent.begin.offset < extent.size_bytes) {
    return true;
  }
  if (after == ranges.begin()) return false;
  const GlobalRange& before = *std::prev(after);
  return before.begin.segment == extent.begin.segment &&
         before.end_offset() > extent.begin.offset;
}

}  // namespace

arrow::Result<std::vector<int>> ColumnIndices(const arrow::Schema& schema,
                                              const std::vector<std::string>& names) {
  std::vector<int> indices;
  for (const std::string& name : names) {
    const auto found = schema.GetAllFieldIndices(name);
    if (found.empty()) {
      std::string known;
      for (const auto& field : schema.fields())
        known += (known.empty() ? "" : ", ") + field->name();
      return arrow::Status::KeyError("no column is named '", name,
                                     "'; there are: ", known);
    }
    if (found.size() > 1) {
      return arrow::Status::Invalid(found.size(), " columns are named '", name, "'");
    }
    indices.push_back(found[0]);
  }
  return indices;
}

codec::SegmentSizeFn SegmentSizes(const region::Region& region) {
  return [&region](SegmentId id) -> std::optional<uint64_t> {
    const region::Segment* segment = region.segment(id);
    if (segment != nullptr) return segment->data().size_bytes();
    if (id.value >= region.num_segments()) return std::nullopt;
    return region.config().size_bytes_of(id);
  };
}

arrow::Result<OpenObject> OpenObject::Open(const std::shared_ptr<Session>& session,
                                           const ObjectId& object) {
  OpenObject open;
  ARROW_ASSIGN_OR_RAISE(open.lease_, session->leases().Take(session, object));
  const region::Segment& home = *session->region().segment(object.segment);
  ARROW_ASSIGN_OR_RAISE(open.record_, directory::ReadRecord(home, open.lease_->slot()));
  ARROW_ASSIGN_OR_RAISE(
      open.descriptor_,
      codec::Descriptor::Make(open.record_.descriptor, SegmentSizes(session->region())));
  session->leases().Register(open.lease_, open.descriptor_->Ranges());
  return open;
}

// For messages.
std::string OpenObject::Title() const {
  if (!record_.name.empty()) return "table '" + record_.name + "'";
  return "unnamed table " + Numbers(lease_->object());
}

// Of a table of other homes' bytes only what is asked for is leased: an object whose
// bytes lie all outside of that stays as it is.
arrow::Result<std::shared_ptr<const TableLease>> OpenObject::LeaseData(
    const codec::Selection& selection) const {
  const std::vector<GlobalRange> ranges = descriptor_->Ranges(selection);
  ARROW_RETURN_NOT_OK(CheckAttached(ranges));
  const std::shared_ptr<Session> session = lease_->session().shared_from_this();
  KeeperWatch keeper(session->region(), {lease_->object().segment.value});
  std::vector<std::shared_ptr<ObjectLease>> leases;
  for (size_t i = 0; i < record_.references.size(); ++i) {
    if (!record_.reference_extents.empty() &&
        !Overlaps(ranges, record_.reference_extents[i])) {
      continue;
    }
    keeper.Note(record_.references[i].segment);
    auto lease = session->leases().TakeReference(session, record_.references[i]);
    if (IsStaleGeneration(lease.status())) return SharedBytesLost(record_.references[i]);
    ARROW_RETURN_NOT_OK(lease.status());
    leases.push_back(*std::move(lease));
  }
  for (const auto& lease : leases) {
    ARROW_ASSIGN_OR_RAISE(const bool is_kept, keeper.IsKept(lease->object()));
    if (!is_kept) return SharedBytesLost(lease->object());
  }
  return std::make_shared<const TableLease>(lease_, std::move(leases));
}

// All of them, before any is read.
arrow::Status OpenObject::CheckAttached(const std::vector<GlobalRange>& ranges) const {
  Session& session = lease_->session();
  std::optional<SegmentId> last;
  for (const GlobalRange& range : ranges) {
    const SegmentId id = range.begin.segment;
    if (last == id) continue;
    last = id;
    if (session.region().segment(id) != nullptr) continue;
    const arrow::Status attached = session.AttachMissing();  // it may have come up since
    if (session.region().segment(id) != nullptr) continue;
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                      Title() + " has data on node " + std::to_string(id.value) +
                          ", whose memory is not there" +
                          (attached.ok() ? "" : ": " + attached.message()));
  }
  return arrow::Status::OK();
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

// Columns that this node has invalidated before are noted, each for itself and all
// together; some rows are not.
arrow::Status OpenObject::InvalidateData(const codec::Selection& selection) const {
  Session& session = lease_->session();
  NodeNotes& notes = session.notes();
  const ObjectId& object = lease_->object();
  if (session.region().own_segment().data().cache()->coherent() ||
      Planted("no-invalidate-data") || notes.IsSet(object)) {
    return arrow::Status::OK();
  }
  const bool all_rows =
      selection.row_offset == 0 &&
      (selection.num_rows < 0 || selection.num_rows == descriptor_->num_rows());
  codec::Selection missing = selection;
  if (selection.columns) {
    std::erase_if(*missing.columns,
                  [&](int column) { return notes.IsSet(object, column); });
    if (missing.columns->empty()) return arrow::Status::OK();
  }
  PassFaultPoint("client.read.before-invalidate");
  ARROW_RETURN_NOT_OK(Invalidate(descriptor_->Ranges(missing)));
  PassFaultPoint("client.read.after-invalidate");
  if (!all_rows) return arrow::Status::OK();
  if (!missing.columns) {
    notes.Set(object);
  } else {
    for (const int column : *missing.columns) notes.Set(object, column);
  }
  PassFaultPoint("client.read.after-note");
  return arrow::Status::OK();
}

arrow::Status OpenObject::Invalidate(const std::vector<GlobalRange>& ranges) const {
  const region::Region& region = lease_->session().region();
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
  return arrow::Status::OK();
}

arrow::Status OpenObject::CheckData(const codec::Selection& selection) const {
  ARROW_ASSIGN_OR_RAISE(const auto lease, LeaseData(selection));
  arrow::Status checked =
      client::CheckData(lease_->session().region(), *descriptor_, selection);
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
    const codec::Selection& selection, DataUse use) const {
  ARROW_ASSIGN_OR_RAISE(const auto lease, LeaseData(selection));
  if (use == DataUse::kRead) ARROW_RETURN_NOT_OK(InvalidateData(selection));
  const region::Region& region = lease_->session().region();
  const auto make_buffer =
      [&](GlobalAddress address,
          int64_t size_bytes) -> arrow::Result<std::shared_ptr<arrow::Buffer>> {
    const uint8_t* data = region.Resolve({address, CheckedCast<uint64_t>(size_bytes)});
    // Without bytes any valid address will do, if its own node is not there.
    if (data == nullptr && size_bytes == 0) data = region.own_segment().data().data();
    if (data == nullptr) {
      return arrow::Status::Invalid("buffer at ", address.segment.value, ":",
                                    address.offset, "+", size_bytes,
                                    " is outside the region");
    }
    return std::make_shared<LeasedBuffer>(data, size_bytes, lease);
  };
  return descriptor_->ToTable(make_buffer, selection);
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
  if (found.ok() && found->has_value()) return found;
  // What could not be attached may be why the look-up failed, and says more.
  if (!found.ok()) ARROW_RETURN_NOT_OK(attached);
  // A name may be absent, or its leader, only for who maps what was given up (L14).
  const region::ClusterConfig& config = session.region().config();
  if (!config.NamesHosts() && !config.UsesDevices()) return found;
  for (const region::Segment* segment : region::SegmentsOf(session.region())) {
    if (segment != nullptr) ARROW_RETURN_NOT_OK(session.CheckMapped(*segment));
  }
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
