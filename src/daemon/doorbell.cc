#include "daemon/doorbell.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/event_loop.h"
#include "daemon/log.h"
#include "platform/datagram.h"
#include "platform/file.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

/// What a datagram says, little-endian.
struct Call {
  uint64_t cluster_id = 0;  ///< Of another one: for whoever had this address before.
  uint64_t node = 0;
};

/// Of one turn of the loop: others have theirs, however many ring.
constexpr int kCallsPerTurn = 256;

bool IsElsewhere(const region::ClusterConfig& config, NodeId node) {
  return !config.address_of(node).empty() && config.host_of(node) != platform::HostName();
}

}  // namespace

BellKind BellKindOf(const region::ClusterConfig& config, NodeId node) {
  if (IsElsewhere(config, node)) return BellKind::kUdp;
  return config.IsLocal(node) ? BellKind::kUnix : BellKind::kNone;
}

arrow::Result<std::unique_ptr<Doorbell>> Doorbell::Open(
    EventLoop* loop, const region::ClusterConfig& config, NodeId self) {
  std::unique_ptr<Doorbell> bell(new Doorbell(loop, config, self));
  const std::string path = config.doorbell_path(self);
  ARROW_ASSIGN_OR_RAISE(const auto local, platform::UnixDatagramAddress(path));
  ARROW_ASSIGN_OR_RAISE(bell->local_.fd, platform::BindDatagrams(local, path));
  if (const std::string text = config.address_of(self); !text.empty()) {
    const std::string what = text + " (`address` of node " + std::to_string(self.value) +
                             " in the cluster file)";
    ARROW_ASSIGN_OR_RAISE(const auto address, platform::UdpAddress(text));
    ARROW_ASSIGN_OR_RAISE(bell->remote_.fd, platform::BindDatagrams(address, what));
  }
  for (uint32_t k = 0; k < config.nodes; ++k) {
    const NodeId node{k};
    if (node == self || !IsElsewhere(config, node)) continue;
    const auto address = platform::UdpAddress(config.address_of(node));
    if (!address.ok()) {
      Log(LogLevel::kWarning, "no doorbell of node ", k, ": ",
          address.status().message());
      continue;
    }
    bell->addresses_[node] = *address;
    if (bell->remote_.fd.valid() || bell->to_remote_.valid()) continue;
    ARROW_ASSIGN_OR_RAISE(bell->to_remote_, platform::OpenDatagrams(*address));
  }
  return bell;
}

Doorbell::~Doorbell() { Close(); }

void Doorbell::Close() {
  if (!local_.fd.valid()) return;
  for (Line* line : {&local_, &remote_}) {
    line->watch.reset();
    line->fd = platform::UniqueFd();
  }
  LogIfError("cannot remove the doorbell",
             platform::RemoveFile(config_.doorbell_path(self_)));
}

void Doorbell::OnRing(std::function<void(NodeId)> on_ring) {
  on_ring_ = std::move(on_ring);
  for (Line* line : {&local_, &remote_}) {
    if (!line->fd.valid()) continue;
    line->watch = loop_->Watch(line->fd.get());
    Await(line);
  }
}

void Doorbell::Await(Line* line) {
  line->watch->WhenReadable([this, line] { Hear(line); });
}

void Doorbell::Hear(Line* line) {
  std::set<NodeId> callers;
  for (int i = 0; i < kCallsPerTurn; ++i) {
    std::array<uint8_t, sizeof(Call)> bytes{};
    const auto size = platform::TakeDatagram(line->fd.get(), bytes);
    if (!size) break;
    Call call;
    std::memcpy(&call, bytes.data(), sizeof(call));
    if (*size != sizeof(call) || call.cluster_id != config_.cluster_id) continue;
    if (call.node < config_.nodes && call.node != self_.value) {
      callers.insert({static_cast<uint32_t>(call.node)});
    }
  }
  Await(line);
  for (const NodeId caller : callers) on_ring_(caller);
}

void Doorbell::Ring(NodeId node) {
  const Call call{config_.cluster_id, self_.value};
  std::array<uint8_t, sizeof(Call)> bytes{};
  std::memcpy(bytes.data(), &call, sizeof(call));
  if (IsElsewhere(config_, node)) {
    const auto found = addresses_.find(node);
    if (found == addresses_.end()) return;
    const auto& from = remote_.fd.valid() ? remote_.fd : to_remote_;
    return platform::SendDatagram(from.get(), found->second, bytes);
  }
  const auto address = platform::UnixDatagramAddress(config_.doorbell_path(node));
  if (address.ok()) platform::SendDatagram(local_.fd.get(), *address, bytes);
}

bool Doorbell::Hears(NodeId node) const {
  return remote_.fd.valid() || config_.IsLocal(node);
}

}  // namespace sheaf::daemon
