// Home: sessions of other nodes that have memory here.

#include <cstdint>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "daemon/grant_table.h"
#include "daemon/guest_table.h"
#include "daemon/home.h"
#include "daemon/space.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

// One of a former life of the node's memory may have had its number: that one first ends.
arrow::Result<uint64_t> Home::OpenGuest(const GuestName& name, uint32_t user_id) {
  if (const auto known = guests_.Find(name)) {
    AdoptUser(*known, user_id);
    return *known;
  }
  for (const uint64_t other : guests_.Of(name.node)) {
    const auto former = guests_.NameOf(other);
    if (!former || former->session != name.session) continue;
    return arrow::Status::IOError("session ", name.session, " of a former life of node ",
                                  name.node.value, " has not ended: try again");
  }
  const uint64_t id = NewId();
  PassFaultPoint("daemon.guest.before-page");
  ARROW_RETURN_NOT_OK(pages_.Activate(id, name).status());
  PassFaultPoint("daemon.guest.after-page");
  guests_.Add(id, name);
  AdoptUser(id, user_id);
  return id;
}

std::vector<Granted> Home::ExtentsOf(uint64_t guest) const {
  std::vector<Granted> extents;
  for (const GrantId& id : space_.GrantsOf(guest)) {
    const auto extent = space_.ExtentOf(id);
    if (extent.ok()) extents.push_back({id, *extent});
  }
  return extents;
}

uint64_t Home::LastPutRequestOf(uint64_t session) const {
  return pages_.LastPutOf(session).request;
}

}  // namespace sheaf::daemon
