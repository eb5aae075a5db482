#include "daemon/space.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "base/fault_point.h"
#include "daemon/grant_table.h"
#include "daemon/guest_table.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "region/region.h"

namespace sheaf::daemon {

Space::Space(region::Segment* own_segment, const GrantOwner& node)
    : segment_(own_segment),
      node_(node),
      ranges_(own_segment->data().size_bytes()),
      grants_(own_segment),
      warm_(&own_segment->data()) {
  for (const uint32_t grant : grants_.Owned()) {
    const GrantTable::Entry entry = grants_.Get(grant);
    const arrow::Status status = ranges_.Adopt(entry.extent, grant);
    if (!status.ok()) problems_.push_back(status.message());
    if (entry.owner.node == node.node) of_session_[entry.owner.session].insert(grant);
  }
}

void Space::AdoptGuests(GuestTable* guests) {
  for (const uint32_t grant : grants_.Owned()) {
    const GrantOwner owner = grants_.Get(grant).owner;
    if (owner.node != node_.node) of_session_[guests->AdoptOwner(owner)].insert(grant);
  }
}

void Space::AdoptObject(const std::vector<alloc::Range>& ranges) {
  const arrow::Status status = ranges_.AdoptSealed(ranges);
  if (!status.ok()) problems_.push_back(status.message());
}

std::vector<std::string> Space::problems() const {
  std::vector<std::string> all = grants_.problems();
  all.insert(all.end(), problems_.begin(), problems_.end());
  return all;
}

arrow::Result<Granted> Space::Grant(uint64_t session, uint64_t size_bytes,
                                    uint64_t wish_bytes) {
  GrantOwner owner = node_;
  owner.session = session;
  return GrantGuest(owner, session, size_bytes, wish_bytes);
}

arrow::Result<Granted> Space::GrantGuest(const GrantOwner& owner, uint64_t session,
                                         uint64_t size_bytes, uint64_t wish_bytes) {
  if (size_bytes == 0) return arrow::Status::Invalid("grant of 0 bytes");
  ARROW_ASSIGN_OR_RAISE(const uint32_t grant, grants_.NextFree());
  ARROW_ASSIGN_OR_RAISE(const alloc::Range extent,
                        ranges_.Grant(size_bytes, grant, wish_bytes));
  auto id = Record(grant, owner, extent);
  if (!id.ok()) {
    ranges_.Return(grant);
    return id.status();
  }
  PassFaultPoint("daemon.grant.after-line");
  of_session_[session].insert(grant);
  return Granted{*id, extent};
}

arrow::Result<GrantId> Space::Record(uint32_t grant, const GrantOwner& owner,
                                     const alloc::Range& extent) {
  ARROW_RETURN_NOT_OK(warm_.Warm(extent));
  PassFaultPoint("daemon.grant.before-line");
  return grants_.Own(grant, owner, extent);
}

bool Space::Holds(uint64_t session, uint32_t grant) const {
  const auto held = of_session_.find(session);
  return held != of_session_.end() && held->second.contains(grant);
}

std::vector<uint64_t> Space::Sessions() const {
  std::vector<uint64_t> sessions;
  sessions.reserve(of_session_.size());
  for (const auto& [session, grants] : of_session_) sessions.push_back(session);
  return sessions;
}

std::vector<GrantId> Space::GrantsOf(uint64_t session) const {
  std::vector<GrantId> ids;
  const auto held = of_session_.find(session);
  if (held == of_session_.end()) return ids;
  for (const uint32_t grant : held->second) {
    ids.push_back({grant, grants_.Get(grant).generation});
  }
  return ids;
}

arrow::Status Space::Return(uint64_t session, const GrantId& id) {
  ARROW_ASSIGN_OR_RAISE(const GrantTable::Entry entry, grants_.Find(id));
  if (!Holds(session, id.grant)) {
    return arrow::Status::Invalid("grant ", id.grant, " belongs to session ",
                                  entry.owner.session, ", not to ", session);
  }
  PassFaultPoint("daemon.return.before-line");
  ARROW_RETURN_NOT_OK(
      grants_.Free(id));  // in memory before the extent can be granted again
  PassFaultPoint("daemon.return.after-line");
  ranges_.Return(id.grant);
  PassFaultPoint("daemon.return.after-extent");
  const auto held = of_session_.find(session);
  held->second.erase(id.grant);
  if (held->second.empty()) of_session_.erase(held);
  return arrow::Status::OK();
}

arrow::Result<alloc::Range> Space::ExtentOf(const GrantId& id) const {
  ARROW_ASSIGN_OR_RAISE(const GrantTable::Entry entry, grants_.Find(id));
  return entry.extent;
}

arrow::Result<GrantOwner> Space::OwnerOf(const GrantId& id) const {
  ARROW_ASSIGN_OR_RAISE(const GrantTable::Entry entry, grants_.Find(id));
  return entry.owner;
}

arrow::Status Space::ReturnOfDead(uint64_t session, const GrantId& id) {
  SettleOpenRanges(id.grant);
  PassFaultPoint("daemon.session-end.after-settle");
  return Return(session, id);
}

// One settle for all between the first and the last open byte: in class C each costs D.
void Space::SettleOpenRanges(uint32_t grant) {
  const std::vector<alloc::Range> open = ranges_.OpenRanges(grant);
  if (open.empty()) return;
  const region::Part& data = segment_->data();
  data.cache()->Settle(data.data() + open.front().offset,
                       open.back().end() - open.front().offset);
}

arrow::Status Space::WarmAll() { return warm_.Warm({0, segment_->data().size_bytes()}); }
arrow::Status Space::WarmFirst() { return warm_.Warm({0, format::kExtentBytes}); }

}  // namespace sheaf::daemon
