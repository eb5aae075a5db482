#include "arbiter/etcd_client.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/base64.h>
#include <nlohmann/json.hpp>
#include <nlohmann/json_fwd.hpp>

#include "arbiter/http_client.h"
#include "base/etcd_access.h"

namespace sheaf::arbiter {
namespace {

using nlohmann::json;
using Entry = EtcdClient::Entry;

constexpr long kHttpOk = 200;
constexpr long kHttpBadRequest = 400;
constexpr long kHttpUnauthorized = 401;
constexpr long kHttpNotFound = 404;
constexpr long kHttpServerErrors = 500;

std::string Encode(std::string_view bytes) { return arrow::util::base64_encode(bytes); }

/// The gateway writes 64-bit numbers as strings, and leaves out zeros.
arrow::Result<int64_t> NumberIn(const json& object, const char* key) {
  if (!object.contains(key)) return 0;
  const json& value = object[key];
  if (value.is_number_integer()) return value.get<int64_t>();
  const auto* text = value.get_ptr<const std::string*>();
  int64_t number = 0;
  if (text != nullptr) {
    const char* end = text->data() + text->size();
    const auto parsed = std::from_chars(text->data(), end, number);
    if (parsed.ec == std::errc() && parsed.ptr == end) return number;
  }
  return arrow::Status::IOError("etcd's reply has no number as '", key, "'");
}

/// Bytes, in base64; empty ones are left out.
arrow::Result<std::string> BytesIn(const json& object, const char* key) {
  if (!object.contains(key)) return std::string();
  const auto* text = object[key].get_ptr<const std::string*>();
  if (text == nullptr) return arrow::Status::IOError("etcd's reply has no '", key, "'");
  return arrow::util::base64_decode(*text);
}

arrow::Result<Entry> ReadEntry(const json& object) {
  if (!object.is_object()) return arrow::Status::IOError("etcd's reply has no entries");
  Entry entry;
  ARROW_ASSIGN_OR_RAISE(entry.key, BytesIn(object, "key"));
  ARROW_ASSIGN_OR_RAISE(entry.value, BytesIn(object, "value"));
  ARROW_ASSIGN_OR_RAISE(entry.revision, NumberIn(object, "mod_revision"));
  ARROW_ASSIGN_OR_RAISE(entry.lease, NumberIn(object, "lease"));
  return entry;
}

/// The first key after all that begin with `prefix`.
std::string EndOf(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xFF) {
    prefix.pop_back();
  }
  if (prefix.empty()) return std::string(1, '\0');  // all keys
  ++prefix.back();
  return prefix;
}

arrow::Result<std::vector<std::string>> SplitEndpoints(std::string_view text) {
  std::vector<std::string> endpoints;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    std::string_view url = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    while (url.starts_with(' ')) url.remove_prefix(1);
    while (url.ends_with(' ') || url.ends_with('/')) url.remove_suffix(1);
    if (url.find('@') != std::string_view::npos) {  // Not shown: a password, maybe.
      return arrow::Status::Invalid("a URL of an etcd names a user or a password");
    }
    if (!url.starts_with("http://") && !url.starts_with("https://")) {
      return arrow::Status::Invalid("'", url,
                                    "' is not a URL such as "
                                    "http://127.0.0.1:2379");
    }
    endpoints.emplace_back(url);
  }
  if (endpoints.empty()) return arrow::Status::Invalid("no URL of an etcd is given");
  return endpoints;
}

/// Tokens last minutes, and not beyond a restart of etcd or a change of its users.
bool IsTokenRefused(const HttpReply& reply) {
  if (reply.code == kHttpUnauthorized) return true;
  return reply.code == kHttpBadRequest &&
         (reply.body.find("revision of auth store is old") != std::string::npos ||
          reply.body.find("user name is empty") != std::string::npos);
}

arrow::Result<std::string> ReadPassword(const std::string& path) {
  std::ifstream file(path);
  std::string password;
  if (!std::getline(file, password)) {
    return arrow::Status::IOError("no password of etcd can be read from ", path);
  }
  if (password.ends_with('\r')) password.pop_back();
  return password;
}

}  // namespace

class EtcdClient::Impl {
 public:
  Impl(std::vector<std::string> endpoints, const EtcdAccess& access,
       std::chrono::milliseconds timeout, std::unique_ptr<HttpClient> http)
      : endpoints_(std::move(endpoints)),
        user_(access.user),
        password_file_(access.password_file),
        timeout_(timeout),
        http_(std::move(http)) {}

  /// The object that answers; nothing if it was "not found".
  arrow::Result<std::optional<json>> Ask(const char* path, const json& request);
  arrow::Result<std::vector<Entry>> Range(const json& request);
  arrow::Result<bool> DoIf(const std::string& key, int64_t expected,
                           const std::string& absent, const json& change);
  int64_t revision() const { return revision_; }

 private:
  arrow::Status SignIn();
  arrow::Result<HttpReply> Post(const char* path, const std::string& body);
  arrow::Result<std::optional<json>> Read(const char* path, const HttpReply& reply) const;

  std::vector<std::string> endpoints_;
  size_t current_ = 0;  ///< Who answered last.
  std::string user_;    ///< Empty: none.
  std::string password_file_;
  std::string token_;  ///< Empty: not signed in.
  int64_t revision_ = 0;
  std::chrono::milliseconds timeout_;
  std::unique_ptr<HttpClient> http_;
};

arrow::Result<std::optional<json>> EtcdClient::Impl::Ask(const char* path,
                                                         const json& request) {
  const std::string body = request.dump();
  ARROW_ASSIGN_OR_RAISE(HttpReply reply, Post(path, body));
  if (!user_.empty() && IsTokenRefused(reply)) {
    ARROW_RETURN_NOT_OK(SignIn());
    ARROW_ASSIGN_OR_RAISE(reply, Post(path, body));
  }
  return Read(path, reply);
}

// The request itself is in no error: it has the password. The file is read each time: the
// password may be another one by now.
arrow::Status EtcdClient::Impl::SignIn() {
  token_.clear();
  ARROW_ASSIGN_OR_RAISE(const std::string password, ReadPassword(password_file_));
  constexpr const char* kPath = "/v3/auth/authenticate";
  const json request = {{"name", user_}, {"password", password}};
  ARROW_ASSIGN_OR_RAISE(
      const HttpReply reply,
      Post(kPath, request.dump(-1, ' ', false, json::error_handler_t::replace)));
  const auto read = Read(kPath, reply);
  if (!read.ok()) {
    return read.status().WithMessage("etcd does not let user '", user_, "' in (",
                                     password_file_, "): ", read.status().message());
  }
  const json answer = read->value_or(json::object());
  const auto found = answer.find("token");
  const auto* token =
      found != answer.end() ? found->get_ptr<const std::string*>() : nullptr;
  if (token == nullptr || token->find_first_of("\r\n") != std::string::npos) {
    return arrow::Status::IOError("etcd gives user '", user_, "' no token");
  }
  token_ = *token;
  return arrow::Status::OK();
}

// Whatever the first member that answers has to say.
arrow::Result<HttpReply> EtcdClient::Impl::Post(const char* path,
                                                const std::string& body) {
  arrow::Status status;
  for (size_t i = 0; i < endpoints_.size(); ++i) {
    const auto reply = http_->Post(endpoints_[current_] + path, body, token_, timeout_);
    if (reply.ok() && reply->code < kHttpServerErrors) return reply;
    status = reply.ok() ? Read(path, *reply).status() : reply.status();
    current_ = (current_ + 1) % endpoints_.size();
  }
  return status;
}

arrow::Result<std::optional<json>> EtcdClient::Impl::Read(const char* path,
                                                          const HttpReply& reply) const {
  if (reply.code == kHttpNotFound) return std::nullopt;
  json object = json::parse(reply.body, nullptr, /*allow_exceptions=*/false);
  if (reply.code == kHttpOk && object.is_object()) return object;
  constexpr size_t kShown = 200;
  return arrow::Status::IOError(endpoints_[current_], path, ": HTTP ", reply.code, ": ",
                                reply.body.substr(0, kShown));
}

arrow::Result<std::vector<Entry>> EtcdClient::Impl::Range(const json& request) {
  ARROW_ASSIGN_OR_RAISE(const std::optional<json> reply, Ask("/v3/kv/range", request));
  std::vector<Entry> entries;
  if (reply && reply->contains("header") && (*reply)["header"].is_object()) {
    ARROW_ASSIGN_OR_RAISE(revision_, NumberIn((*reply)["header"], "revision"));
  }
  if (!reply || !reply->contains("kvs")) return entries;
  for (const json& object : (*reply)["kvs"]) {
    ARROW_ASSIGN_OR_RAISE(Entry entry, ReadEntry(object));
    entries.push_back(std::move(entry));
  }
  return entries;
}

arrow::Result<bool> EtcdClient::Impl::DoIf(const std::string& key, int64_t expected,
                                           const std::string& absent,
                                           const json& change) {
  const auto has = [](const std::string& of, int64_t revision) {
    return json{{"key", Encode(of)},
                {"target", "MOD"},
                {"result", "EQUAL"},
                {"mod_revision", std::to_string(revision)}};
  };
  json compare = json::array({has(key, expected)});
  if (!absent.empty()) compare.push_back(has(absent, 0));
  const json request = {{"compare", compare}, {"success", json::array({change})}};
  ARROW_ASSIGN_OR_RAISE(const auto reply, Ask("/v3/kv/txn", request));
  if (!reply) return arrow::Status::IOError("etcd knows no such lease any more");
  const auto succeeded = reply->find("succeeded");
  return succeeded != reply->end() && *succeeded == true;
}

arrow::Result<std::unique_ptr<EtcdClient>> EtcdClient::Make(
    const EtcdAccess& access, std::chrono::milliseconds timeout) {
  ARROW_ASSIGN_OR_RAISE(auto endpoints, SplitEndpoints(access.endpoints));
  ARROW_ASSIGN_OR_RAISE(auto http, HttpClient::Make(access.tls));
  return std::unique_ptr<EtcdClient>(new EtcdClient(
      std::make_unique<Impl>(std::move(endpoints), access, timeout, std::move(http))));
}

EtcdClient::EtcdClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EtcdClient::~EtcdClient() = default;

arrow::Result<int64_t> EtcdClient::GrantLease(std::chrono::seconds time_to_live) {
  ARROW_ASSIGN_OR_RAISE(const auto reply,
                        impl_->Ask("/v3/lease/grant", {{"TTL", time_to_live.count()}}));
  if (!reply) return arrow::Status::IOError("this etcd has no leases");
  ARROW_ASSIGN_OR_RAISE(const int64_t lease, NumberIn(*reply, "ID"));
  if (lease == 0) return arrow::Status::IOError("etcd granted no lease");
  return lease;
}

arrow::Result<bool> EtcdClient::KeepAlive(int64_t lease) {
  ARROW_ASSIGN_OR_RAISE(const auto reply, impl_->Ask("/v3/lease/keepalive",
                                                     {{"ID", std::to_string(lease)}}));
  if (!reply || !reply->contains("result")) return false;
  ARROW_ASSIGN_OR_RAISE(const int64_t seconds, NumberIn((*reply)["result"], "TTL"));
  return seconds > 0;
}

arrow::Status EtcdClient::RevokeLease(int64_t lease) {
  return impl_->Ask("/v3/lease/revoke", {{"ID", std::to_string(lease)}}).status();
}

arrow::Result<std::optional<Entry>> EtcdClient::Get(const std::string& key) {
  ARROW_ASSIGN_OR_RAISE(const auto entries, impl_->Range({{"key", Encode(key)}}));
  if (entries.empty()) return std::nullopt;
  return entries.front();
}

arrow::Result<std::vector<Entry>> EtcdClient::List(const std::string& prefix) {
  return impl_->Range({{"key", Encode(prefix)}, {"range_end", Encode(EndOf(prefix))}});
}

arrow::Result<bool> EtcdClient::PutIf(const std::string& key, int64_t expected,
                                      const std::string& value, int64_t lease,
                                      const std::string& absent) {
  json put = {{"key", Encode(key)}, {"value", Encode(value)}};
  if (lease != 0) put["lease"] = std::to_string(lease);
  return impl_->DoIf(key, expected, absent, {{"requestPut", put}});
}

arrow::Result<bool> EtcdClient::RemoveIf(const std::string& key, int64_t expected) {
  return impl_->DoIf(key, expected, /*absent=*/"",
                     {{"requestDeleteRange", {{"key", Encode(key)}}}});
}

int64_t EtcdClient::revision() const { return impl_->revision(); }

}  // namespace sheaf::arbiter
