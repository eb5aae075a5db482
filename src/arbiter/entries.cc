#include "arbiter/entries.h"

#include <cstdint>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>
#include <nlohmann/json.hpp>

#include "sheaf/types.h"

namespace sheaf::arbiter {
namespace {

using nlohmann::json;

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

}  // namespace

std::string NodeKey(const std::string& prefix, NodeId node) {
  return prefix + "/node/" + std::to_string(node.value);
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

}  // namespace sheaf::arbiter
