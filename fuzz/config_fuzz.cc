// Any text as a cluster file: an error, or a configuration that holds what the rest of
// the program relies on, and that ToToml writes so that it reads back the same.
//
// Decoders: src/region/cluster_config_toml.cc src/region/cluster_config.cc

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/math.h"
#include "format/layout.h"
#include "fuzz/input.h"
#include "region/cluster_config.h"
#include "region/device_window.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "sheaf/types.h"

namespace {

using sheaf::region::ClusterConfig;

constexpr uint64_t kAddressEnd = uint64_t{1} << 47;
constexpr const char* kFileName = "cluster.toml";

void CheckConfig(const ClusterConfig& config) {
  SHEAF_CHECK(config.Validate().ok() && config.CheckCoherence().ok());
  SHEAF_CHECK(sheaf::region::CheckClusterName(config.name).ok());
  SHEAF_CHECK(config.nodes >= 1 && config.nodes <= config.nodes_max);
  SHEAF_CHECK(config.nodes_max <= sheaf::format::kNodesMax);
  SHEAF_CHECK(config.slots_max >= 1 && config.slots_max <= sheaf::format::kSlotsMax);
  SHEAF_CHECK(config.segment_size_bytes % sheaf::format::kExtentBytes == 0);
  SHEAF_CHECK(config.grants_max() >= 1);
  const sheaf::SegmentId last{config.nodes - 1};
  SHEAF_CHECK(sheaf::FitsWithin(config.segment_base_address(last),
                                config.segment_size_bytes, kAddressEnd));
  const auto layout = sheaf::region::LayoutOf(config);
  SHEAF_CHECK(layout.records > layout.slots);
  SHEAF_CHECK(layout.rings - layout.records == config.records_size_bytes);
  const uint64_t total = config.total_size_bytes();
  SHEAF_CHECK(total >= sheaf::format::kExtentBytes);
  SHEAF_CHECK(total <= config.nodes * config.segment_size_bytes);
  uint64_t here = 0;
  for (const sheaf::NodeId node : config.LocalNodes()) {
    here += config.size_bytes_of({node.value});
  }
  SHEAF_CHECK(sheaf::region::FullBytes(config) >= here);
  if (!config.UsesDevices()) return;
  for (uint32_t k = 1; k < config.nodes; ++k) {
    const auto a = sheaf::region::WindowOf(config, {k - 1});
    const auto b = sheaf::region::WindowOf(config, {k});
    SHEAF_CHECK(a.path != b.path || a.end() <= b.offset || b.end() <= a.offset);
  }
}

void TryFile(const std::string& text) {
  const auto config = ClusterConfig::FromToml(text, kFileName);
  if (!config.ok()) {
    SHEAF_CHECK(config.status().message().starts_with(kFileName));
    return;
  }
  CheckConfig(*config);
  const auto again = ClusterConfig::FromToml(config->ToToml(), kFileName);
  SHEAF_CHECK(again.ok() && *again == *config);
}

void TrySize(const std::string& text) {
  const auto size = sheaf::region::ParseSize(text);
  if (!size.ok()) return;
  const auto again = sheaf::region::ParseSize(sheaf::region::FormatSize(*size));
  SHEAF_CHECK(again.ok() && *again == *size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text = sheaf::fuzz::Input(data, size).TakeText();
  TryFile(text);
  TrySize(text);
  return 0;
}
