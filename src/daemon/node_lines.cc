#include "daemon/node_lines.h"

#include <algorithm>
#include <cstdint>

#include "base/fault_point.h"
#include "base/math.h"
#include "daemon/home_life.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "platform/cache.h"
#include "platform/process.h"
#include "platform/shared_word.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/served_check.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

HomeLife NodeLines::BeginLife(uint64_t boot) {
  HomeLife life;
  const NodeId self{segment_->id().value};
  // One that was begun in it may be another's, whose caches and sessions are gone.
  const bool is_lost = !region::PeekIncarnation(*segment_);
  bool is_of_another_boot = false;
  region::UpdateIncarnation(segment_, [&](format::IncarnationLine* line) {
    // One that was damaged, and begun anew, says none.
    is_of_another_boot = !is_lost && line->boot != boot && line->boot != 0;
    // Others take no incarnation of another formatting.
    const uint64_t epoch = segment_->header().format_epoch;
    const uint64_t before_first = format::FirstGeneration(epoch) - 1;
    const uint64_t stored = line->incarnation;
    line->incarnation = before_first;
    for (const uint64_t begun :
         {stored, region::LoadAdmitLine(*segment_, self).incarnation}) {
      if (format::FormatEpochOf(begun) != epoch) continue;
      line->incarnation = std::max(line->incarnation, begun);
    }
    const bool is_new =
        is_lost || line->incarnation == before_first || line->boot != boot;
    if (is_new) ++line->incarnation;
    Announce(line->incarnation);
    line->daemon_starts = NextStart(line->daemon_starts);
    life = {line->incarnation, line->daemon_starts, is_new};
    line->boot = boot;
    line->state = static_cast<uint32_t>(format::NodeState::kUp);
    line->daemon_process_id = CheckedCast<uint32_t>(platform::CurrentProcessId());
  });
  // A session ends with its boot. Cut short, it says too little, which only ends more.
  if (is_of_another_boot) region::StoreSessionsSince(segment_, life.incarnation);
  // Rises over lives, too: others compare it with what they saw last.
  beats_ = platform::SharedWord(segment_->NodeLine(format::NodeLine::kHeartbeat))
               .LoadAcquire();
  return life;
}

// In the own admit line before it is in its line, as the incarnation: what is begun is
// not begun again, whatever becomes of either.
uint64_t NodeLines::NextStart(uint64_t stored) {
  uint64_t* const word = region::AdmitWordOf(*segment_, NodeId{segment_->id().value},
                                             region::AdmitWord::kDaemonStarts);
  const uint64_t begun = platform::SharedWord(word).LoadAcquire();
  const uint64_t last = begun <= kDaemonStartsMax ? std::max(stored, begun) : stored;
  const uint64_t next = last < kDaemonStartsMax ? last + 1 : 1;
  region::StoreControlWord(segment_, word, next);
  return next;
}

uint64_t NodeLines::NextIncarnation(uint64_t off) {
  uint64_t incarnation = 0;
  region::UpdateIncarnation(segment_, [&](format::IncarnationLine* line) {
    // What is off may be what a peer's line says: of another formatting it is garbage.
    const bool is_of_it =
        format::FormatEpochOf(off) == format::FormatEpochOf(line->incarnation);
    line->incarnation = std::max(line->incarnation, is_of_it ? off : 0) + 1;
    incarnation = line->incarnation;
    Announce(incarnation);
  });
  if (off != 0) region::StoreSessionsSince(segment_, incarnation);
  return incarnation;
}

void NodeLines::Announce(uint64_t incarnation) {
  region::StoreAdmitted(segment_, NodeId{segment_->id().value}, incarnation);
}

void NodeLines::SayDown() {
  region::UpdateIncarnation(segment_, [](format::IncarnationLine* line) {
    line->state = static_cast<uint32_t>(format::NodeState::kDown);
    line->daemon_process_id = 0;
  });
}

bool NodeLines::Beat() {
  PassFaultPoint("daemon.heartbeat.before-beat");
  if (region::IsGivenUpSince(*segment_)) return false;
  uint64_t* word = segment_->NodeLine(format::NodeLine::kHeartbeat);
  platform::CacheControl* cache = segment_->control().cache();
  cache->Invalidate(word, sizeof(uint64_t));
  // Less is our own, under way (class C).
  if (platform::SharedWord(word).LoadAcquire() > beats_) return false;
  platform::SharedWord(word).StoreRelease(++beats_);  // pairs with each home's samples
  cache->Flush(word, sizeof(uint64_t));
  cache->Fence();
  PassFaultPoint("daemon.heartbeat.after-beat");
  return true;
}

void NodeLines::Publish(const Statistics& statistics) {
  if (published_ == statistics) return;
  published_ = statistics;
  format::StatisticsLine line{};
  line.used_bytes = statistics.used_bytes;
  line.free_bytes = statistics.free_bytes;
  line.largest_free_bytes = statistics.largest_free_bytes;
  line.sessions = statistics.sessions;
  line.objects = statistics.objects;
  line.backing_page_bytes = statistics.backing_page_bytes;
  PassFaultPoint("daemon.statistics.before-line");
  region::StoreControlLine(segment_, segment_->NodeLine(format::NodeLine::kStatistics),
                           line, region::kBusyLine, region::Arrival::kFlushed);
  PassFaultPoint("daemon.statistics.after-line");
}

}  // namespace sheaf::daemon
