// What a daemon says about itself in its own control part (docs/protocol.md L4).

#pragma once

#include <cstdint>
#include <optional>

#include "daemon/home_life.h"
#include "format/layout.h"
#include "region/region.h"

namespace sheaf::daemon {

/// \brief Numbers of a home at one moment.
struct Statistics {
  uint64_t used_bytes = 0;
  uint64_t free_bytes = 0;
  uint64_t largest_free_bytes = 0;
  uint32_t sessions = 0;
  uint32_t objects = 0;
  uint64_t backing_page_bytes = 0;
  bool operator==(const Statistics&) const = default;
};

/// \brief Writes the own node's lines. An incarnation is in the own admit line before it
/// is in its line: where that is cut short, the admit line has one that is as high. One
/// per daemon, single-threaded.
class NodeLines {
 public:
  explicit NodeLines(region::Segment* own_segment) : segment_(own_segment) {}

  /// \brief Begin a life, state up, settled. On the same boot (platform::BootNumber) the
  /// node's sessions and caches may live on, and with them its incarnation (F10); else
  /// the next one begins: stored + 1; the first of a formatting is above all of the
  /// formattings before (F9).
  HomeLife BeginLife(uint64_t boot);
  /// \brief The one after the stored one and after `off`, settled (F6, F8). Where `off`
  /// is not 0 all sessions have ended: noted for the daemons to come.
  uint64_t NextIncarnation(uint64_t off = 0);
  void SayDown();  ///< State down, settled: a clean end.

  /// \brief One heartbeat, flushed. False, and nothing is written, if the line is ahead
  /// of this daemon, or the memory was given up, or formatted anew: another one, of
  /// another host, writes it too. Whoever is behind must end without another store.
  bool Beat();

  /// \brief Flushed if it differs from what was written last.
  void Publish(const Statistics& statistics);

 private:
  void Announce(uint64_t incarnation);
  uint64_t NextStart(uint64_t stored);

  region::Segment* segment_;
  uint64_t beats_ = 0;
  std::optional<Statistics> published_;
};

}  // namespace sheaf::daemon
