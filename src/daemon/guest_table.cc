#include "daemon/guest_table.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/grant_table.h"
#include "lease/lease.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

GuestTable::GuestTable(const lease::PageTable& pages, NewIdFn new_id)
    : new_id_(std::move(new_id)) {
  for (const uint64_t id : pages.Sessions()) {
    if (const auto name = pages.GuestOf(id)) names_.emplace(id, *name);
  }
}

void GuestTable::Add(uint64_t id, const GuestName& name) { names_.emplace(id, name); }

std::optional<uint64_t> GuestTable::Find(const GuestName& name) const {
  const auto found =
      std::ranges::find(names_, name, [](const auto& guest) { return guest.second; });
  if (found == names_.end()) return std::nullopt;
  return found->first;
}

std::optional<GuestName> GuestTable::NameOf(uint64_t id) const {
  const auto found = names_.find(id);
  if (found == names_.end()) return std::nullopt;
  return found->second;
}

std::vector<uint64_t> GuestTable::Of(NodeId node) const {
  std::vector<uint64_t> ids;
  for (const auto& [id, name] : names_) {
    if (name.node == node) ids.push_back(id);
  }
  return ids;
}

uint64_t GuestTable::AdoptOwner(const GrantOwner& owner) {
  for (const auto& [id, name] : names_) {
    if (name.node == owner.node && name.session == owner.session) return id;
  }
  const uint64_t id = new_id_();
  Add(id, {owner.node, 0, owner.session});
  return id;
}

}  // namespace sheaf::daemon
