// What a home says about each other node (docs/protocol.md L4, F2, F8): read by that
// node, written by the home's daemon alone. Each word stands for itself.

#pragma once

#include <algorithm>
#include <cstdint>

#include "format/layout.h"
#include "format/lease_cell.h"
#include "platform/cache.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::region {

/// \brief Words of one line of admit[].
struct AdmitLine {
  uint64_t incarnation = 0;       ///< Honoured now; 0 none.
  uint64_t withdrawn = 0;         ///< The highest that was withdrawn; 0 none.
  uint64_t off = 0;               ///< This one and all before are certified off; 0 none.
  uint64_t heartbeat_age_ms = 0;  ///< Since its heart was seen to beat, by our clock.

  /// \brief This incarnation and all before are never honoured again.
  uint64_t refused() const { return std::max(withdrawn, off); }

  /// \brief F8: what the node holds counts no more, until this home admits it again. No
  /// line of the node itself is asked: that may be Busy for long.
  bool is_off() const { return off != 0 && incarnation == 0 && withdrawn <= off; }
};

enum class AdmitWord : uint32_t {
  kIncarnation,
  kWithdrawn,
  kOff,
  kHeartbeatAge,
  kDaemonStarts,   ///< Of the home itself only: as many as its line has, or one more.
  kSessionsSince,  ///< Of the home itself only: LoadSessionsSince.
};

inline uint64_t* AdmitWordOf(const Segment& home, NodeId node, AdmitWord word) {
  return home.ControlLine(home.layout().admit +
                          uint64_t{node.value} * format::kLineBytes) +
         static_cast<uint32_t>(word);
}

/// \brief What `home` says about `node`, in a line that was dropped before (LineBatch).
inline AdmitLine DroppedAdmitLine(const Segment& home, NodeId node) {
  const format::LineWords words =
      platform::LoadLine(AdmitWordOf(home, node, AdmitWord::kIncarnation));
  return {words[0], words[1], words[2], words[3]};
}

/// \brief LOAD! of what `home` says about `node`.
inline AdmitLine LoadAdmitLine(const Segment& home, NodeId node) {
  home.control().cache()->Invalidate(AdmitWordOf(home, node, AdmitWord::kIncarnation),
                                     format::kLineBytes);
  return DroppedAdmitLine(home, node);
}

/// \brief The lowest incarnation that a session of the home's own node may be of, which
/// is `incarnation` now. That of the formatting's first if it is not known.
inline uint64_t LoadSessionsSince(const Segment& own, uint64_t incarnation) {
  const uint64_t since = platform::SharedWord(AdmitWordOf(own, NodeId{own.id().value},
                                                          AdmitWord::kSessionsSince))
                             .LoadAcquire();
  const uint64_t first = format::FirstGeneration(own.header().format_epoch);
  return since >= first && since <= incarnation ? since : std::min(first, incarnation);
}

/// \brief Settled: no session of a lower one is left.
inline void StoreSessionsSince(Segment* own, uint64_t incarnation) {
  StoreControlWord(own,
                   AdmitWordOf(*own, NodeId{own->id().value}, AdmitWord::kSessionsSince),
                   incarnation);
}

inline void StoreAdmitted(Segment* own, NodeId node, uint64_t incarnation) {
  StoreControlWord(own, AdmitWordOf(*own, node, AdmitWord::kIncarnation), incarnation);
}

/// \brief F2: both words settled; never undone for `incarnation`. 0 only says that none
/// is honoured.
inline void StoreWithdrawn(Segment* own, NodeId node, uint64_t incarnation) {
  uint64_t* const withdrawn = AdmitWordOf(*own, node, AdmitWord::kWithdrawn);
  if (incarnation > platform::SharedWord(withdrawn).LoadAcquire()) {
    StoreControlWord(own, withdrawn, incarnation);
  }
  StoreControlWord(own, AdmitWordOf(*own, node, AdmitWord::kIncarnation), 0);
}

/// \brief F8: `incarnation` is not below any that was withdrawn. Never lowers what is
/// off.
inline void StoreCertifiedOff(Segment* own, NodeId node, uint64_t incarnation) {
  uint64_t* const off = AdmitWordOf(*own, node, AdmitWord::kOff);
  if (incarnation > platform::SharedWord(off).LoadAcquire()) {
    StoreControlWord(own, off, incarnation);
  }
}

/// \brief For display: flushed when somebody reads it, no sooner.
inline void StoreHeartbeatAge(Segment* own, NodeId node, uint64_t age_ms) {
  uint64_t* const word = AdmitWordOf(*own, node, AdmitWord::kHeartbeatAge);
  platform::SharedWord(word).StoreRelease(age_ms);
  own->control().cache()->Flush(word, sizeof(*word));
}

/// \brief F7: true if `home` honours the incarnation that the node of `own` has now. Any
/// process of that node.
inline bool IsHonoured(const Segment& home, const Segment& own) {
  if (home.id() == own.id()) return true;
  // The own node's daemon wrote it: coherent here.
  const uint64_t incarnation =
      platform::SharedWord(own.NodeLine(format::NodeLine::kIncarnation)).LoadAcquire();
  return incarnation != 0 &&
         LoadAdmitLine(home, NodeId{own.id().value}).incarnation == incarnation;
}

}  // namespace sheaf::region
