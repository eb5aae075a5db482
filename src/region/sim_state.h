// What the processes of all nodes share about one simulated part: a lock that survives
// the death of its holder, and each node's write-backs under way.

#pragma once

#include <pthread.h>

#include <array>
#include <cstdint>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"

namespace sheaf::region {

constexpr uint64_t kSimWordsPerLineMax = 16;  // 128-byte lines.
/// Lines of one node that are on their way to the truth at once; the oldest arrives early
/// when there are more.
constexpr uint64_t kSimPostedMax = 1024;
constexpr uint64_t kSimRecentMax = 16;

using SimLine = std::array<uint64_t, kSimWordsPerLineMax>;

/// \brief A line that left a node and has not arrived in the truth.
struct SimPostedLine {
  uint64_t line;  ///< Index in the part.
  uint64_t posted_ns;
  uint64_t arrived;  ///< 1: it did, before older ones.
  SimLine words;
};

struct SimRange {
  uint64_t first_line;
  uint64_t line_count;
};

/// \brief One node's share of the state. In shared memory, of the simulator alone: no
/// other version reads it.
struct SimNode {
  /// A line that is half-way: 0 none, else see SimMemory. Of a process that died there.
  uint64_t intent;
  uint64_t moved_tail;    ///< `posted_tail` when that line began to leave.
  SimLine moved;          ///< What that line is where it goes to.
  uint64_t operations;    ///< So far; with the seed it gives the next chance events.
  uint64_t recent_count;  ///< Ranges ever entered in `recent`, a ring.
  std::array<SimRange, kSimRecentMax> recent;
  uint64_t posted_head;  ///< Oldest entry of `posted`, a ring; counts for ever.
  uint64_t posted_tail;  ///< One past the newest; a store to it makes an entry exist.
  std::array<SimPostedLine, kSimPostedMax> posted;
};

/// \brief The state file, mapped.
class SimState {
 public:
  /// \brief Create and allocate the file. OutOfMemory if it does not fit.
  static arrow::Status Create(const std::string& path, uint32_t num_nodes);
  static arrow::Result<SimState> Open(const std::string& path);

  uint32_t num_nodes() const;
  SimNode& node(uint32_t index) const;

  /// \brief Holds the lock of the part, against all processes of all nodes.
  class Guard {
   public:
    explicit Guard(const SimState& state);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    /// True if the last holder died with it, in the middle of something.
    bool previous_holder_died() const { return previous_holder_died_; }

   private:
    pthread_mutex_t* mutex_;
    bool previous_holder_died_ = false;
  };

 private:
  struct Header;
  explicit SimState(platform::Mapping mapping);
  Header& header() const;

  platform::Mapping mapping_;
};

}  // namespace sheaf::region
