#include "client/node_info.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "client/wording.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "platform/file.h"
#include "platform/shared_word.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

// LOAD! of a checksummed line that its node may be rewriting. Nothing if its writer
// stopped or died while it wrote, or wrote nonsense.
template <typename Line>
std::optional<Line> LoadNodeLine(const region::Segment& segment, format::NodeLine which) {
  constexpr int kAttempts = 1000;
  const uint64_t* line = segment.NodeLine(which);
  for (int i = 0; i < kAttempts; ++i) {
    segment.control().cache()->Invalidate(line, format::kLineBytes);
    if (auto opened = format::OpenLine<Line>(platform::LoadLine(line))) return opened;
  }
  return std::nullopt;
}

// `line` is nothing if its node stopped or died in the middle of it.
const char* StateOf(const std::optional<format::IncarnationLine>& line,
                    const region::AdmitLine& seen) {
  if (!line && seen.is_off()) return "off";
  if (!line && seen.incarnation != 0) return "up";
  if (!line) return seen.withdrawn != 0 ? "withdrawn" : "down";
  if (seen.is_off() && line->incarnation <= seen.off) return "off";
  if (line->state != static_cast<uint32_t>(format::NodeState::kUp)) return "down";
  if (line->incarnation == seen.incarnation) return "up";
  return line->incarnation <= seen.withdrawn ? "withdrawn" : "joining";
}

// For programs, and for people.
std::string BytesText(uint64_t size_bytes) {
  return std::to_string(size_bytes) + " bytes (" + HumanBytes(size_bytes) + ")";
}

// Of the nodes that are up those with most; nothing if none has any.
std::string FreeElsewhere(const std::vector<NodeInfo>& nodes, uint32_t home_id) {
  constexpr size_t kNodesShown = 4;
  std::vector<const NodeInfo*> others;
  for (const NodeInfo& node : nodes) {
    if (node.id != home_id && node.state == "up" && node.free_bytes > 0) {
      others.push_back(&node);
    }
  }
  std::ranges::sort(others, [](const NodeInfo* a, const NodeInfo* b) {
    return std::pair(b->free_bytes, a->id) < std::pair(a->free_bytes, b->id);
  });
  std::string text;
  for (size_t i = 0; i < std::min(others.size(), kNodesShown); ++i) {
    text += (i == 0 ? "Free on other nodes: node " : ", node ") +
            std::to_string(others[i]->id) + " " + HumanBytes(others[i]->free_bytes);
  }
  if (others.size() > kNodesShown) {
    text += " and " + std::to_string(others.size() - kNodesShown) + " nodes more";
  }
  return text;
}

}  // namespace

NodeInfo LoadNodeInfo(const region::Region& region, uint32_t id) {
  NodeInfo node;
  node.id = id;
  node.state = "down";
  node.backend = region::ToString(region.config().backend);
  node.coherence = region::ToString(region.config().coherence);
  node.size_bytes = region.config().size_bytes_of({id});
  node.memory_free_bytes =
      region.config().UsesDevices()
          ? node.size_bytes  // it is there
          : platform::FileSystemFreeBytes(region.config().memory_folder).ValueOr(0);
  const region::Segment* segment = region.segment({id});
  if (segment == nullptr) return node;
  node.size_bytes = segment->data().size_bytes();
  const auto line =
      LoadNodeLine<format::IncarnationLine>(*segment, format::NodeLine::kIncarnation);
  const region::AdmitLine seen = region::LoadAdmitLine(region.own_segment(), {id});
  node.incarnation =
      line ? line->incarnation : std::max(seen.incarnation, seen.refused());
  node.state = StateOf(line, seen);
  if (NodeId{id} != region.node() && node.state != "down") {
    node.heartbeat_age_ms = seen.heartbeat_age_ms;
  }
  const auto statistics =
      LoadNodeLine<format::StatisticsLine>(*segment, format::NodeLine::kStatistics);
  if (!statistics) return node;
  node.page_bytes = statistics->backing_page_bytes;
  node.used_bytes = statistics->used_bytes;
  node.free_bytes = statistics->free_bytes;
  node.largest_free_bytes = statistics->largest_free_bytes;
  node.sessions = statistics->sessions;
  node.objects = statistics->objects;
  return node;
}

std::vector<NodeInfo> LoadNodeInfos(const region::Region& region) {
  std::vector<NodeInfo> nodes;
  nodes.reserve(region.config().nodes);
  for (uint32_t id = 0; id < region.config().nodes; ++id) {
    nodes.push_back(LoadNodeInfo(region, id));
  }
  return nodes;
}

arrow::Status DoesNotFit(const std::string& what, const std::string& needed,
                         const std::vector<NodeInfo>& nodes, uint32_t home_id,
                         const std::string& how_elsewhere) {
  const NodeInfo& home = nodes[home_id];
  std::string elsewhere = FreeElsewhere(nodes, home_id);
  if (!elsewhere.empty() && !how_elsewhere.empty()) elsewhere += ": " + how_elsewhere;
  // What of it was never used yet is the host's to give, who may have less.
  std::string never_used;
  if (home.memory_free_bytes < home.free_bytes) {
    never_used = "; the host has no more than " + BytesText(home.memory_free_bytes) +
                 " of memory left for what of it was never used";
  }
  return arrow::Status::OutOfMemory(
      what, " does not fit: it needs ", needed, "; node ", home.id, " has ",
      home.free_bytes, " of ", home.size_bytes, " bytes free (",
      HumanBytes(home.free_bytes), " of ", HumanBytes(home.size_bytes),
      "), the largest free range has ", BytesText(home.largest_free_bytes), never_used,
      ". ", elsewhere, elsewhere.empty() ? "" : ". ",
      "Remove tables (sheaf rm), or start a cluster with more memory for each node "
      "(sheaf up --size)");
}

}  // namespace sheaf::client
