#include "testing/etcd_server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/base64.h>
#include <nlohmann/json.hpp>
#include <nlohmann/json_fwd.hpp>

#include "arbiter/http_client.h"
#include "base/check.h"
#include "platform/file.h"
#include "testing/eventually.h"

namespace sheaf::testing {
namespace {

constexpr long kHttpOk = 200;
constexpr long kHttpServerErrors = 500;
constexpr std::chrono::seconds kTimeout{10};
constexpr const char* kRootPassword = "of root";

/// Nobody listens there now.
std::string FreeUrl() {
  const platform::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  SHEAF_CHECK(::bind(fd.get(), generic, size) == 0);
  SHEAF_CHECK(::getsockname(fd.get(), generic, &size) == 0);
  return "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
}

int Spawn(const std::vector<std::string>& words, const std::string& log) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const platform::UniqueFd out(
      ::open(log.c_str(), O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600));
  SHEAF_CHECK(out.valid());
  const int process = ::fork();
  if (process == 0) {  // Only async-signal-safe calls until exec.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(out.get(), STDOUT_FILENO);
    ::dup2(out.get(), STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  SHEAF_CHECK(process > 0);
  return process;
}

}  // namespace

std::string EtcdServer::FindProgram() {
  for (const char* path :
       {SHEAF_UNPACKED_DIR "/usr/bin/etcd", "/usr/bin/etcd", "/usr/local/bin/etcd"}) {
    if (std::filesystem::exists(path)) return path;
  }
  return "";
}

arrow::Result<std::unique_ptr<EtcdServer>> EtcdServer::Start() {
  std::unique_ptr<EtcdServer> server(new EtcdServer);
  server->folder_ = "/tmp/sheaf-test-etcd-XXXXXX";
  SHEAF_CHECK(::mkdtemp(server->folder_.data()) != nullptr);
  server->url_ = FreeUrl();
  server->peer_url_ = FreeUrl();
  ARROW_RETURN_NOT_OK(server->Launch());
  return server;
}

EtcdServer::~EtcdServer() {
  Kill();
  std::filesystem::remove_all(folder_);
}

arrow::Status EtcdServer::Launch() {
  const std::string log = folder_ + "/log";
  process_ = Spawn(
      {FindProgram(), "--data-dir", folder_ + "/data", "--name", "test",
       "--listen-client-urls", url_, "--advertise-client-urls", url_,
       "--listen-peer-urls", peer_url_, "--initial-advertise-peer-urls", peer_url_,
       "--initial-cluster", "test=" + peer_url_, "--unsafe-no-fsync", "--logger", "zap"},
      log);
  // With a leader, whoever may ask it.
  const auto answers = [this] {
    const auto reply = Post("/v3/kv/range", R"({"key": "YQ=="})");
    return reply.ok() && reply->code < kHttpServerErrors;
  };
  if (Eventually(answers)) return arrow::Status::OK();
  return arrow::Status::IOError("etcd does not answer at ", url_, ": see ", log);
}

arrow::Result<arbiter::HttpReply> EtcdServer::Post(const std::string& path,
                                                   const std::string& body,
                                                   const std::string& token) const {
  ARROW_ASSIGN_OR_RAISE(const auto http, arbiter::HttpClient::Make({}));
  return http->Post(url_ + path, body, token, kTimeout);
}

arrow::Status EtcdServer::DemandUser(const std::string& user, const std::string& password,
                                     const std::string& prefix) {
  using arrow::util::base64_encode;
  using nlohmann::json;
  std::string end = prefix;
  ++end.back();
  const json range = {{"permType", "READWRITE"},
                      {"key", base64_encode(prefix)},
                      {"range_end", base64_encode(end)}};
  const std::vector<std::pair<std::string, json>> requests = {
      {"role/add", {{"name", "root"}}},
      {"role/add", {{"name", "keys"}}},
      {"role/grant", {{"name", "keys"}, {"perm", range}}},
      {"user/add", {{"name", "root"}, {"password", kRootPassword}}},
      {"user/add", {{"name", user}, {"password", password}}},
      {"user/grant", {{"user", "root"}, {"role", "root"}}},
      {"user/grant", {{"user", user}, {"role", "keys"}}},
      {"enable", json::object()}};
  for (const auto& [path, request] : requests) {
    ARROW_ASSIGN_OR_RAISE(const auto reply, Post("/v3/auth/" + path, request.dump()));
    if (reply.code != kHttpOk) return arrow::Status::IOError(path, ": ", reply.body);
  }
  return arrow::Status::OK();
}

arrow::Status EtcdServer::ChangePassword(const std::string& user,
                                         const std::string& password) {
  using nlohmann::json;
  const json root = {{"name", "root"}, {"password", kRootPassword}};
  ARROW_ASSIGN_OR_RAISE(const auto signed_in, Post("/v3/auth/authenticate", root.dump()));
  const json answer = json::parse(signed_in.body, nullptr, /*allow_exceptions=*/false);
  if (!answer.contains("token")) return arrow::Status::IOError(signed_in.body);
  const json request = {{"name", user}, {"password", password}};
  ARROW_ASSIGN_OR_RAISE(const auto reply,
                        Post("/v3/auth/user/changepw", request.dump(), answer["token"]));
  if (reply.code == kHttpOk) return arrow::Status::OK();
  return arrow::Status::IOError("changepw: ", reply.body);
}

void EtcdServer::Kill() {
  if (process_ < 0) return;
  SHEAF_CHECK(::kill(process_, SIGKILL) == 0);
  SHEAF_CHECK(::waitpid(process_, nullptr, 0) == process_);
  process_ = -1;
}

void EtcdServer::Pause() { SHEAF_CHECK(::kill(process_, SIGSTOP) == 0); }
void EtcdServer::Continue() { SHEAF_CHECK(::kill(process_, SIGCONT) == 0); }
arrow::Status EtcdServer::Restart() { return Launch(); }
void EtcdServer::ForgetAll() { std::filesystem::remove_all(folder_ + "/data"); }

}  // namespace sheaf::testing
