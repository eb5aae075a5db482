// What must hold, whatever dies: a plain model of names and handles. It knows nothing of
// slots, leases or messages.

#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sheaf/handle.h"
#include "simulation/content.h"

namespace sheaf::simulation {

/// \brief A content by number; kNothing: no table.
using ContentId = int64_t;
constexpr ContentId kNothing = -1;

/// How an operation that changes something ended, for all that its caller knows.
enum class Outcome : uint8_t {
  kDone,
  kRefused,  ///< Nothing changed.
  kUnknown,  ///< It may still take effect, any time until all is quiet.
};

/// \brief One name, as sets of what it may lead to. Operations that do not overlap and
/// whose outcome is known leave exactly one.
class NameModel {
 public:
  /// \brief Somebody begins to look; what the name may lead to from now until `EndLook`
  /// collects in the set.
  using Look = std::list<std::set<ContentId>>::iterator;
  Look BeginLook();
  std::set<ContentId> EndLook(Look look);

  /// \brief `own` is the look of who changes: it need not see its own effect.
  void BeginChange(ContentId effect, Look own);
  void EndChange(ContentId effect, Outcome outcome);

  /// \brief All is quiet, and this is what it leads to.
  void Settle(ContentId content);
  const std::set<ContentId>& possible() const { return possible_; }

 private:
  std::set<ContentId> possible_{kNothing};
  std::set<ContentId> late_;  ///< Effects that may come any time.
  int changes_ = 0;           ///< Under way.
  bool has_overlap_ = false;
  std::list<std::set<ContentId>> looks_;
};

enum class Life : uint8_t { kAlive, kDoubtful, kGone };

/// \brief One unnamed object.
struct HandleModel {
  Handle handle;
  ContentId content = kNothing;
  uint64_t creator = 0;  ///< A client's process.
  Life life = Life::kAlive;
  bool keep = false;
  bool keep_is_known = true;
};

/// \brief Everything.
struct Model {
  std::deque<Content> contents;  ///< Stay where they are.
  std::map<std::string, NameModel> names;
  std::vector<HandleModel> handles;
  std::map<uint32_t, std::set<ContentId>> sharing;  ///< By node.
  std::set<ContentId> torn;
  uint64_t last_source = 0;

  /// \brief A table that `node` puts; `shares`: perhaps of bytes that lie elsewhere.
  ContentId Add(Content content, uint32_t node, bool shares) {
    contents.push_back(std::move(content));
    const ContentId id = static_cast<ContentId>(contents.size()) - 1;
    if (shares) sharing[node].insert(id);
    return id;
  }
  /// \brief F8: what `node` leased counts no more, so that bytes which its tables share
  /// may go: these can be lost, whoever holds them.
  void Forget(uint32_t node) { torn.merge(sharing[node]); }
  /// \brief One of `possible` that may be lost, if any.
  std::optional<ContentId> Torn(const std::set<ContentId>& possible) const;
  const Content& Get(ContentId id) const { return contents[static_cast<size_t>(id)]; }

  /// \brief The session of `creator` is over, or about to be.
  void EndCreator(uint64_t creator);
  /// \brief All is quiet: who was about to end has ended.
  void Quiet();
  std::string Describe(const std::set<ContentId>& possible) const;
};

}  // namespace sheaf::simulation
