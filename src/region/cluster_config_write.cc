// Writes a cluster file that says everything.

#include <cstdint>
#include <ios>
#include <sstream>
#include <string>
#include <string_view>

#include "region/cluster_config.h"

namespace sheaf::region {
namespace {

/// A string of TOML's basic kind.
std::string Quoted(std::string_view value) {
  std::string text = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(c);
      text += std::string("\\u00") + kDigits[byte >> 4] + kDigits[byte & 15];
    } else {
      text += c;
    }
  }
  return text + '"';
}

/// A string too: a TOML integer has 63 bits.
std::string Hexadecimal(uint64_t value) {
  std::ostringstream text;
  text << "\"0x" << std::hex << value << '"';
  return text.str();
}

}  // namespace

std::string ClusterConfig::ToToml() const {
  std::ostringstream text;
  text << std::boolalpha;
  if (messages) text << "messages = " << Quoted(ToString(*messages)) << '\n';
  text << "name = " << Quoted(name) << '\n'
       << "cluster_id = " << Hexadecimal(cluster_id) << '\n'
       << "backend = " << Quoted(ToString(backend)) << '\n'
       << "coherence = " << Quoted(ToString(coherence)) << '\n'
       << "settle_class = " << Quoted(ToString(settle_class)) << '\n'
       << "posted_delay_us = " << posted_delay_us << '\n'
       << "spin_us = " << spin_us << '\n'
       << "heartbeat_ms = " << heartbeat_ms << '\n'
       << "suspect_after_ms = " << suspect_after_ms << '\n'
       << "suspect_samples = " << suspect_samples << '\n'
       << "base_address = " << Hexadecimal(base_address) << '\n'
       << "nodes = " << nodes << '\n'
       << "nodes_max = " << nodes_max << '\n'
       << "memory_folder = " << Quoted(memory_folder) << '\n'
       << "runtime_folder = " << Quoted(runtime_folder) << '\n'
       << "segment_size = " << Quoted(FormatSize(segment_size_bytes)) << '\n'
       << "slots_max = " << slots_max << '\n'
       << "lease_pages_max = " << lease_pages_max << '\n'
       << "records_size = " << Quoted(FormatSize(records_size_bytes)) << '\n'
       << "prealloc = " << prealloc << '\n'
       << "huge_pages = " << huge_pages << '\n'
       << "group = " << Quoted(group) << '\n'
       << "group_write = " << Quoted(group_write) << '\n'
       << "session_quota = " << Quoted(FormatSize(session_quota_bytes)) << '\n'
       << "user_quota = " << Quoted(FormatSize(user_quota_bytes)) << "\n\n"
       << "[sim]  # How backend \"sim\" misbehaves.\n"
       << "chaos = " << sim.chaos << '\n'
       << "posted = " << sim.posted << '\n'
       << "seed = " << Hexadecimal(sim.seed) << '\n'
       << "line_bytes = " << sim.line_bytes << '\n';
  if (etcd.is_used()) {
    text << "\n[etcd]\n"
         << "endpoints = " << Quoted(etcd.access.endpoints) << '\n'
         << "prefix = " << Quoted(etcd.prefix) << '\n'
         << "time_to_live_s = " << etcd.time_to_live_s << '\n'
         << "ca_file = " << Quoted(etcd.access.tls.ca_file) << '\n'
         << "cert_file = " << Quoted(etcd.access.tls.cert_file) << '\n'
         << "key_file = " << Quoted(etcd.access.tls.key_file) << '\n'
         << "user = " << Quoted(etcd.access.user) << '\n'
         << "password_file = " << Quoted(etcd.access.password_file) << '\n'
         << "fence_command = " << Quoted(etcd.fence_command) << '\n';
  }
  for (const NodeConfig& node : node_tables) {
    text << "\n[[node]]\n"
         << "id = " << node.id << '\n'
         << "size = " << Quoted(FormatSize(node.segment_size_bytes)) << '\n'
         << "host = " << Quoted(node.host) << '\n'
         << "address = " << Quoted(node.address) << '\n';
    if (node.path.empty()) continue;
    text << "path = " << Quoted(node.path) << '\n'
         << "offset = " << Quoted(FormatSize(node.offset_bytes)) << '\n';
  }
  return text.str();
}

}  // namespace sheaf::region
