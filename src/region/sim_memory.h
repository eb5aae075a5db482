// One part of the incoherent simulator as one node's caches see it.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"
#include "region/cluster_config.h"
#include "region/sim_posted.h"
#include "region/sim_state.h"
#include "sheaf/types.h"

namespace sheaf::region {

/// \brief Paths of the files of a simulated part.
struct SimFiles {
  std::string truth;
  std::string state;
  /// Of each node.
  std::vector<std::string> images;
  std::vector<std::string> shadows;
};
/// Beside `truth`: `<truth>.state`, `<truth>.image<N>` and `<truth>.shadow<N>`.
SimFiles SimFilesOf(const std::string& truth, uint32_t num_nodes);

/// \brief Moves lines between a node's *image* (what its processes load and store, a file
/// they all map: coherent inside the node) and the *truth* (what memory holds). The
/// *shadow* remembers what each line was when it last moved: a line whose image differs
/// from its shadow is dirty. Nothing moves but by these calls (mode `stale`); with
/// `chaos` each call also writes back or refreshes a few lines near recently used ones,
/// from the seed. With `posted` a write-back reaches the truth at most D later.
///
/// A store that changes nothing is not seen as a store: who overwrites whole lines that
/// it may hold stale has to invalidate them first here (docs/protocol.md P2 without its
/// exception).
///
/// Thread-safe, also between processes; a process may die anywhere in here. Loads and
/// stores of other threads may go on in the same lines: a reload changes only words whose
/// truth changed, each with one compare-and-exchange, word 0 of a line last.
class SimMemory {
 public:
  /// \brief Map what `node` needs of the part, of `size_bytes` bytes (whole pages).
  static arrow::Result<SimMemory> Open(const SimFiles& files, const ClusterConfig& config,
                                       SegmentId segment, NodeId node,
                                       uint64_t size_bytes);

  /// FLUSH: dirty lines of the range leave for the truth; clean ones become what it
  /// holds.
  void Flush(uint64_t offset, uint64_t size_bytes);

  /// \brief IOError with reason damaged if a file is cut short there; Flush would die of
  /// it, with the lock of the part in its hands.
  arrow::Status CheckReadable(uint64_t offset, uint64_t size_bytes) const;

  /// What this node posted arrives.
  void Drain();

  /// Chance events only.
  void Fence();

  uint64_t line_bytes() const { return options_.line_bytes; }

 private:
  SimMemory(SimState state, const ClusterConfig& config, SegmentId segment, NodeId node);

  uint64_t* ImageLine(uint64_t line) const;
  uint64_t* ShadowLine(uint64_t line) const;
  const uint64_t* TruthLine(uint64_t line) const;
  SimPosted PostedOf(uint32_t node) const;
  SimNode& self() const { return state_.node(node_); }

  void CatchUp(const SimState::Guard& guard);
  void Recover();
  bool LooksQuiet(uint64_t first_line, uint64_t line_count) const;
  bool IsQuiet(uint64_t first_line, uint64_t line_count) const;
  void FlushLines(uint64_t first_line, uint64_t line_count);
  void FlushLine(uint64_t line);
  void WriteBack(uint64_t line, const SimLine& words);
  void Fetch(uint64_t line);
  void MoveIn(uint64_t line);
  void FetchWord(uint64_t* image, uint64_t* shadow, uint64_t truth);
  uint64_t NextChance();
  void CauseChaos(uint64_t random);
  uint64_t PickLine(uint64_t random) const;

  SimState state_;
  uint32_t node_;
  SimOptions options_;
  uint64_t delay_ns_;
  uint64_t chaos_seed_;
  uint64_t words_per_line_;
  uint64_t num_lines_ = 0;
  /// Writable aliases that only this class has: readers map the image read-only.
  platform::Mapping image_;
  platform::Mapping shadow_;
  platform::Mapping truth_;
};

}  // namespace sheaf::region
