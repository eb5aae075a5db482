// A real etcd for one test: one member, in a folder of its own.

#pragma once

#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "arbiter/http_client.h"

namespace sheaf::testing {

/// \brief Ends with the test. One thread at a time.
class EtcdServer {
 public:
  /// \brief Where the program is; empty if this machine has none (tools/setup.sh test).
  static std::string FindProgram();

  /// \brief Start one on free ports of the loopback device; returns when it answers.
  static arrow::Result<std::unique_ptr<EtcdServer>> Start();
  ~EtcdServer();
  EtcdServer(const EtcdServer&) = delete;
  EtcdServer& operator=(const EtcdServer&) = delete;

  const std::string& url() const { return url_; }

  void Kill();   ///< SIGKILL; returns when it is gone.
  void Pause();  ///< Takes connections, and answers nothing.
  void Continue();
  /// \brief After `Kill`: with what it had stored, on the same port; when it answers.
  arrow::Status Restart();
  void ForgetAll();  ///< After `Kill`: the next one begins with nothing.

  /// \brief From now on only `user` may read and write, and only keys that begin with
  /// `prefix`.
  arrow::Status DemandUser(const std::string& user, const std::string& password,
                           const std::string& prefix);
  /// \brief Of such a user, who has to sign in again.
  arrow::Status ChangePassword(const std::string& user, const std::string& password);

 private:
  EtcdServer() = default;
  arrow::Status Launch();
  arrow::Result<arbiter::HttpReply> Post(const std::string& path, const std::string& body,
                                         const std::string& token = "") const;

  std::string folder_;
  std::string url_;
  std::string peer_url_;
  int process_ = -1;
};

}  // namespace sheaf::testing
