#include "arbiter/entries.h"

#include <cstdint>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>
#include <nlohmann/json.hpp>
#include <nlohmann/json_fwd.hpp>

#include "arbiter/arbiter.h"
#include "arbiter/etcd_client.h"
#include "sheaf/types.h"

namespace sheaf::arbiter {
namespace {

using nlohmann::json;

/// Others may raise the same entry meanwhile.
constexpr int kRaisesMax = 16;

arrow::Result<uint64_t> NumberIn(const json& object, const char* key) {
  if (object.is_object() && object.contains(key) && object[key].is_number_unsigned()) {
    return object[key].get<uint64_t>();
  }
  return arrow::Status::IOError("an entry in etcd has no number '", key, "'");
}

arrow::Result<NodeId> NodeIn(const json& object) {
  ARROW_ASSIGN_OR_RAISE(const uint64_t node, NumberIn(object, "node"));
  if (node > UINT32_MAX) return arrow::Status::IOError("an entry in etcd has no node");
  return NodeId{static_cast<uint32_t>(node)};
}

json Parse(const std::string& text) {
  return json::parse(text, nullptr, /*allow_exceptions=*/false);
}

uint64_t FormatEpochIn(const EtcdClient::Entry& entry) {
  return NumberIn(Parse(entry.value), "format_epoch").ValueOr(0);
}

/// Stores `text` under `key` unless `suffices` says that what is there will do.
template <typename Suffices>
arrow::Status Raise(EtcdClient* etcd, const std::string& key, const std::string& text,
                    const Suffices& suffices) {
  for (int i = 0; i < kRaisesMax; ++i) {
    ARROW_ASSIGN_OR_RAISE(const auto entry, etcd->Get(key));
    if (entry && suffices(*entry)) return arrow::Status::OK();
    ARROW_ASSIGN_OR_RAISE(
        const bool is_stored,
        etcd->PutIf(key, entry ? entry->revision : 0, text, /*lease=*/0));
    if (is_stored) return arrow::Status::OK();
  }
  return arrow::Status::IOError(key, " changes all the time");
}

}  // namespace

std::string NodeKeys(const std::string& prefix) { return prefix + "/node/"; }

std::string NodeKey(const std::string& prefix, NodeId node) {
  return NodeKeys(prefix) + std::to_string(node.value);
}

std::string FenceKey(const std::string& prefix, NodeId node) {
  return prefix + "/fence/" + std::to_string(node.value);
}

std::string LeaderKey(const std::string& prefix) { return prefix + "/leader"; }

std::string EpochKey(const std::string& prefix, NodeId node) {
  return prefix + "/epoch/" + std::to_string(node.value);
}

std::string OffKeys(const std::string& prefix) { return prefix + "/off/"; }

std::string OffKey(const std::string& prefix, NodeId node) {
  return OffKeys(prefix) + std::to_string(node.value);
}

std::string ToText(const Daemon& daemon) {
  return json{{"node", daemon.node.value}, {"host", daemon.host}, {"boot", daemon.boot}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string ToText(const OffCertificate& certificate) {
  return json{{"node", certificate.node.value},
              {"format_epoch", certificate.format_epoch},
              {"incarnation", certificate.incarnation}}
      .dump();
}

arrow::Result<Daemon> ParseDaemon(const std::string& text) {
  const json object = Parse(text);
  Daemon daemon;
  ARROW_ASSIGN_OR_RAISE(daemon.node, NodeIn(object));
  ARROW_ASSIGN_OR_RAISE(daemon.boot, NumberIn(object, "boot"));
  if (!object.contains("host") || !object["host"].is_string()) {
    return arrow::Status::IOError("an entry in etcd names no host");
  }
  daemon.host = object["host"].get<std::string>();
  return daemon;
}

arrow::Result<OffCertificate> ParseOffCertificate(const std::string& text) {
  const json object = Parse(text);
  OffCertificate certificate;
  ARROW_ASSIGN_OR_RAISE(certificate.node, NodeIn(object));
  ARROW_ASSIGN_OR_RAISE(certificate.format_epoch, NumberIn(object, "format_epoch"));
  ARROW_ASSIGN_OR_RAISE(certificate.incarnation, NumberIn(object, "incarnation"));
  return certificate;
}

bool Covers(const OffCertificate& held, const OffCertificate& asked) {
  return held.format_epoch == asked.format_epoch && held.incarnation >= asked.incarnation;
}

arrow::Status StoreOff(EtcdClient* etcd, const std::string& prefix,
                       const OffCertificate& certificate) {
  return Raise(etcd, OffKey(prefix, certificate.node), ToText(certificate),
               [&](const EtcdClient::Entry& entry) {
                 const auto held = ParseOffCertificate(entry.value);
                 return held.ok() && Covers(*held, certificate);
               });
}

arrow::Result<uint64_t> LoadFormatEpoch(EtcdClient* etcd, const std::string& prefix,
                                        NodeId node) {
  ARROW_ASSIGN_OR_RAISE(const auto entry, etcd->Get(EpochKey(prefix, node)));
  return entry ? FormatEpochIn(*entry) : 0;
}

arrow::Status RaiseFormatEpoch(EtcdClient* etcd, const std::string& prefix, NodeId node,
                               uint64_t format_epoch) {
  return Raise(etcd, EpochKey(prefix, node),
               json{{"node", node.value}, {"format_epoch", format_epoch}}.dump(),
               [&](const EtcdClient::Entry& entry) {
                 return FormatEpochIn(entry) >= format_epoch;
               });
}

}  // namespace sheaf::arbiter
