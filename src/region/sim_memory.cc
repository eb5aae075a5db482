#include "region/sim_memory.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/math.h"
#include "base/plant.h"
#include "platform/bus_error.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/shared_word.h"
#include "region/cluster_config.h"
#include "region/sim_posted.h"
#include "region/sim_state.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

using platform::Access;
using platform::Mapping;
using platform::SharedWord;

constexpr uint64_t kPageBytes = 4096;
/// The lock is given up after so many bytes, for others that wait for single lines.
constexpr uint64_t kBytesPerLock = uint64_t{64} << 10;
/// A line that other threads store to all the time is taken as it is after so many looks.
constexpr int kSnapshotReadsMax = 100;
/// One call in so many has chance events (a power of two), and then 1 .. kChaosStepsMax.
constexpr uint64_t kChaosPeriod = 4;
constexpr uint64_t kChaosStepsMax = 8;
/// Ranges up to this size are looked at without the lock first: who polls a line must not
/// keep its writer from the lock.
constexpr uint64_t kLooksFirstBytesMax = 4096;

/// SimNode::intent: bit 0 says which, the rest is the line + 1.
constexpr uint64_t kIntentWriteBack = 1;
uint64_t IntentOf(uint64_t line, bool write_back) {
  return (line + 1) << 1 | (write_back ? kIntentWriteBack : 0);
}

uint64_t NowNs() { return static_cast<uint64_t>(platform::BootTime().count()); }

/// SplitMix64: the next of a sequence that `state` stands in.
uint64_t NextRandom(uint64_t* state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

/// Bytes that somebody stored since the word was `shadow`, all others from `truth`.
uint64_t MergeBytes(uint64_t image, uint64_t shadow, uint64_t truth) {
  uint64_t merged = 0;
  for (int shift = 0; shift < 64; shift += 8) {
    const uint64_t mask = uint64_t{0xFF} << shift;
    merged |= ((image ^ shadow) & mask) != 0 ? image & mask : truth & mask;
  }
  return merged;
}

/// The words of a line at one instant, although others may be storing to it: a line is
/// written back as a unit (docs/protocol.md HW3).
SimLine Snapshot(const uint64_t* line, uint64_t line_bytes) {
  SimLine words{};
  for (int i = 0; i < kSnapshotReadsMax; ++i) {
    std::memcpy(words.data(), line, line_bytes);
    std::atomic_signal_fence(std::memory_order_seq_cst);  // Look again, really.
    if (std::memcmp(words.data(), line, line_bytes) == 0) break;
  }
  return words;
}

/// Word by word, for those who look without the lock.
void StoreWords(uint64_t* to, const uint64_t* from, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) SharedWord(to + i).StoreRelease(from[i]);
}

arrow::Result<Mapping> MapWritable(const std::string& path, uint64_t size_bytes) {
  ARROW_ASSIGN_OR_RAISE(const auto fd, platform::OpenFile(path, Access::kReadWrite));
  return Mapping::Map(fd.get(), size_bytes, Access::kReadWrite);
}

}  // namespace

SimFiles SimFilesOf(const std::string& truth, uint32_t num_nodes) {
  SimFiles files{truth, truth + ".state", {}, {}};
  for (uint32_t i = 0; i < num_nodes; ++i) {
    files.images.push_back(truth + ".image" + std::to_string(i));
    files.shadows.push_back(truth + ".shadow" + std::to_string(i));
  }
  return files;
}

SimMemory::SimMemory(SimState state, const ClusterConfig& config, SegmentId segment,
                     NodeId node)
    : state_(std::move(state)),
      node_(node.value),
      options_(config.sim),
      delay_ns_(static_cast<uint64_t>(config.posted_delay_us) * 1000),
      chaos_seed_(config.sim.seed),
      words_per_line_(config.sim.line_bytes / sizeof(uint64_t)) {
  // Nodes and segments have histories of their own.
  chaos_seed_ = NextRandom(&chaos_seed_) ^ (uint64_t{segment.value} << 32 | node.value);
}

arrow::Result<SimMemory> SimMemory::Open(const SimFiles& files,
                                         const ClusterConfig& config, SegmentId segment,
                                         NodeId node, uint64_t size_bytes) {
  ARROW_ASSIGN_OR_RAISE(SimState state, SimState::Open(files.state));
  if (node.value >= state.num_nodes() || node.value >= files.images.size()) {
    return arrow::Status::Invalid(files.state, ": made for ", state.num_nodes(),
                                  " nodes, there is no node ", node.value,
                                  ": give the cluster up with: sheaf down");
  }
  SimMemory memory(std::move(state), config, segment, node);
  ARROW_ASSIGN_OR_RAISE(memory.image_, MapWritable(files.images[node.value], size_bytes));
  ARROW_ASSIGN_OR_RAISE(memory.shadow_,
                        MapWritable(files.shadows[node.value], size_bytes));
  ARROW_ASSIGN_OR_RAISE(memory.truth_, MapWritable(files.truth, size_bytes));
  memory.num_lines_ = size_bytes / memory.line_bytes();
  return memory;
}

uint64_t* SimMemory::ImageLine(uint64_t line) const {
  return reinterpret_cast<uint64_t*>(image_.data() + line * line_bytes());
}

uint64_t* SimMemory::ShadowLine(uint64_t line) const {
  return reinterpret_cast<uint64_t*>(shadow_.data() + line * line_bytes());
}

const uint64_t* SimMemory::TruthLine(uint64_t line) const {
  return reinterpret_cast<const uint64_t*>(truth_.data() + line * line_bytes());
}

SimPosted SimMemory::PostedOf(uint32_t node) const {
  return {&state_.node(node), truth_.data(), line_bytes(),
          options_.posted ? kSimPostedMax : 1};
}

void SimMemory::Flush(uint64_t offset, uint64_t size_bytes) {
  if (size_bytes == 0) return;
  const uint64_t first = offset / line_bytes();
  const uint64_t end = (offset + size_bytes - 1) / line_bytes() + 1;
  SHEAF_CHECK(end <= num_lines_);
  const uint64_t chance = NextChance();
  if (chance == 0 && LooksQuiet(first, end - first)) return;
  const uint64_t step = kBytesPerLock / line_bytes();
  for (uint64_t line = first; line < end; line += step) {
    const SimState::Guard guard(state_);
    CatchUp(guard);
    FlushLines(line, std::min(step, end - line));
  }
  if (chance == 0) return;
  const SimState::Guard guard(state_);
  CatchUp(guard);
  self().recent[self().recent_count++ % kSimRecentMax] = {first, end - first};
  CauseChaos(chance);
}

arrow::Status SimMemory::CheckReadable(uint64_t offset, uint64_t size_bytes) const {
  for (const Mapping* mapping : {&image_, &shadow_, &truth_}) {
    ARROW_RETURN_NOT_OK(
        platform::CheckReadable({mapping->data() + offset, size_bytes}, kPageBytes));
  }
  return arrow::Status::OK();
}

void SimMemory::Drain() {
  if (!options_.posted) return;
  const SimState::Guard guard(state_);
  CatchUp(guard);
  PostedOf(node_).ArriveAll();
}

void SimMemory::Fence() {
  const uint64_t chance = NextChance();
  if (chance == 0) return;
  const SimState::Guard guard(state_);
  CatchUp(guard);
  CauseChaos(chance);
}

/// What must be in the truth by now is there, and no line of this node is half-way.
void SimMemory::CatchUp(const SimState::Guard& guard) {
  const uint64_t now_ns = options_.posted ? NowNs() : 0;
  for (uint32_t node = 0; node < state_.num_nodes(); ++node) {
    if (guard.previous_holder_died()) {
      PostedOf(node).ArriveAll();  // Early, as they may: the truth has no torn line now.
    } else if (options_.posted && now_ns >= delay_ns_) {
      PostedOf(node).ArriveUntil(now_ns - delay_ns_);
    }
  }
  if (self().intent != 0) Recover();
}

/// A process of this node died while it moved a line. Moves it again: what was to be
/// moved, not what is in the truth by now. A word that had been fetched would be taken
/// for a store of this node if it were compared with a newer truth.
void SimMemory::Recover() {
  const uint64_t line = (self().intent >> 1) - 1;
  SHEAF_CHECK(line < num_lines_);
  if ((self().intent & kIntentWriteBack) == 0) {
    MoveIn(line);
  } else if (self().posted_tail != self().moved_tail) {
    StoreWords(ShadowLine(line), self().moved.data(), words_per_line_);
  }  // Otherwise it did not leave, and stays dirty.
  SharedWord(&self().intent).StoreRelease(0);
}

/// True if a flush of these lines has nothing to do: they are clean and no newer truth is
/// there or due. Each word is looked at once: as if it had been dropped at that moment.
bool SimMemory::LooksQuiet(uint64_t first_line, uint64_t line_count) const {
  if (line_count * line_bytes() > kLooksFirstBytesMax) return false;
  for (uint32_t node = 0; options_.posted && node < state_.num_nodes(); ++node) {
    if (!PostedOf(node).LooksEmpty()) return false;
  }
  uint64_t* const image = ImageLine(first_line);
  uint64_t* const shadow = ShadowLine(first_line);
  const uint64_t* const truth = TruthLine(first_line);
  for (uint64_t i = 0; i < line_count * words_per_line_; ++i) {
    const uint64_t word = SharedWord(shadow + i).LoadAcquire();
    if (SharedWord(image + i).LoadAcquire() != word) return false;
    if (SharedWord(truth + i).LoadAcquire() != word) return false;
  }
  return SharedWord(&self().intent).LoadAcquire() == 0;
}

/// True if image, shadow and truth are equal, as most clean lines are.
bool SimMemory::IsQuiet(uint64_t first_line, uint64_t line_count) const {
  const uint64_t size_bytes = line_count * line_bytes();
  return std::memcmp(ImageLine(first_line), ShadowLine(first_line), size_bytes) == 0 &&
         std::memcmp(TruthLine(first_line), ShadowLine(first_line), size_bytes) == 0;
}

void SimMemory::FlushLines(uint64_t first_line, uint64_t line_count) {
  const uint64_t end = first_line + line_count;
  const uint64_t step = kPageBytes / line_bytes();
  for (uint64_t block = first_line; block < end; block += step) {
    const uint64_t count = std::min(step, end - block);
    if (IsQuiet(block, count)) continue;
    for (uint64_t i = 0; i < count; ++i) FlushLine(block + i);
  }
}

void SimMemory::FlushLine(uint64_t line) {
  const SimLine words = Snapshot(ImageLine(line), line_bytes());
  const uint64_t* shadow = ShadowLine(line);
  if (std::memcmp(words.data(), shadow, line_bytes()) != 0) {
    WriteBack(line, words);
  } else if (std::memcmp(TruthLine(line), shadow, line_bytes()) != 0 &&
             !PostedOf(node_).Holds(line)) {
    // A node's load does not pass its own posted write to that line.
    Fetch(line);
  }
}

void SimMemory::WriteBack(uint64_t line, const SimLine& words) {
  self().moved = words;
  self().moved_tail = self().posted_tail;
  SharedWord(&self().intent).StoreRelease(IntentOf(line, true));
  SimPosted posted = PostedOf(node_);
  posted.Post(line, words, options_.posted ? NowNs() : 0);
  if (!options_.posted) posted.ArriveAll();
  if (Planted("die-in-write-back")) std::_Exit(0);
  // Not the image: whoever stored to it meanwhile has made the line dirty again.
  StoreWords(ShadowLine(line), words.data(), words_per_line_);
  SharedWord(&self().intent).StoreRelease(0);
}

void SimMemory::Fetch(uint64_t line) {
  std::copy_n(TruthLine(line), words_per_line_, self().moved.begin());
  SharedWord(&self().intent).StoreRelease(IntentOf(line, false));
  MoveIn(line);
  SharedWord(&self().intent).StoreRelease(0);
}

/// `moved` to the image, then to the shadow; what was there already stays.
void SimMemory::MoveIn(uint64_t line) {
  // Word 0 last: it is what tells whether the others are to be believed (docs/protocol.md
  // L2, L7), and a reader in this node may be looking.
  for (uint64_t i = words_per_line_; i-- > 0;) {
    FetchWord(ImageLine(line) + i, ShadowLine(line) + i, self().moved[i]);
  }
}

void SimMemory::FetchWord(uint64_t* image, uint64_t* shadow, uint64_t truth) {
  if (*shadow == truth) return;
  std::atomic_ref<uint64_t> word(*image);
  uint64_t found = *shadow;
  // Ends after two rounds, unless other threads store to this very word all the time.
  while (!word.compare_exchange_weak(found, MergeBytes(found, *shadow, truth))) {
  }
  if (Planted("die-in-fetch")) std::_Exit(0);
  SharedWord(shadow).StoreRelease(truth);
}

/// 0, or from what the chance events of this call follow: seed, segment, node and how
/// many calls there were.
uint64_t SimMemory::NextChance() {
  if (!options_.chaos) return 0;
  std::atomic_ref<uint64_t> operations(self().operations);
  uint64_t random = chaos_seed_ + 0x9E3779B97F4A7C15 * operations.fetch_add(1);
  return NextRandom(&random) % kChaosPeriod == 0 ? random : 0;
}

/// What caches may do at any time: write a dirty line back, drop and fetch a clean one,
/// let a posted one arrive.
void SimMemory::CauseChaos(uint64_t random) {
  const uint64_t steps = 1 + NextRandom(&random) % kChaosStepsMax;
  for (uint64_t i = 0; i < steps && self().recent_count > 0; ++i) {
    FlushLine(PickLine(NextRandom(&random)));
  }
  if (options_.posted && NextRandom(&random) % 2 == 0) {
    PostedOf(node_).ArriveAny(NextRandom(&random));
  }
}

/// A line of the pages that a recent range touches: memory that exists.
uint64_t SimMemory::PickLine(uint64_t random) const {
  const uint64_t count = std::min(self().recent_count, kSimRecentMax);
  const SimRange& range = self().recent[random % count];
  const uint64_t lines_per_page = kPageBytes / line_bytes();
  const uint64_t begin = RoundDown(range.first_line, lines_per_page);
  const uint64_t end = RoundUp(range.first_line + range.line_count, lines_per_page);
  const uint64_t pick = random / kSimRecentMax;
  return std::min(begin + pick % (end - begin), num_lines_ - 1);
}

}  // namespace sheaf::region
