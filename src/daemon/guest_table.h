// Which of a home's sessions stand for sessions of other nodes.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "daemon/grant_table.h"
#include "lease/lease.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

using lease::GuestName;

/// \brief What a guest asks for.
struct GuestGrant {
  uint64_t incarnation = 0;  ///< Of the guest's node.
  uint64_t request = 0;      ///< Of the session: rises.
  std::set<GrantId> known;   ///< What it had been told of when it asked.
  uint64_t size_bytes = 0;
  uint64_t wish_bytes = 0;
};

/// \brief A session that has memory at the home of another node is there a *guest
/// session*: one of that home's sessions, with a number of that home's. Which it is, the
/// first lease page says, also to the next daemon. Single-threaded.
class GuestTable {
 public:
  /// \brief A number that no session of this home has or had.
  using NewIdFn = std::function<uint64_t()>;

  /// \brief Adopt those that `pages` tell of.
  GuestTable(const lease::PageTable& pages, NewIdFn new_id);

  void Add(uint64_t id, const GuestName& name);
  void Remove(uint64_t id) { names_.erase(id); }

  std::optional<uint64_t> Find(const GuestName& name) const;
  std::optional<GuestName> NameOf(uint64_t id) const;
  bool Has(uint64_t id) const { return names_.contains(id); }
  std::vector<uint64_t> Of(NodeId node) const;
  size_t size() const { return names_.size(); }

  /// \brief The session of this home that an adopted grant line of another node means.
  /// One that has no page was about to end: it is one that ends at the next word of its
  /// node.
  uint64_t AdoptOwner(const GrantOwner& owner);

 private:
  NewIdFn new_id_;
  std::map<uint64_t, GuestName> names_;
};

}  // namespace sheaf::daemon
