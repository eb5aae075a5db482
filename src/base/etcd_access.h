// How an etcd is reached: what the cluster file says of it, and what its client needs.

#pragma once

#include <string>

namespace sheaf {

struct TlsFiles {
  std::string ca_file{};    ///< PEM; empty: the system's certificates.
  std::string cert_file{};  ///< PEM, of this client; empty: none.
  std::string key_file{};   ///< PEM, of `cert_file`.
  bool operator==(const TlsFiles&) const = default;
};

struct EtcdAccess {
  /// URLs of the members of one etcd, such as "https://10.0.0.1:2379", separated by
  /// commas: asked in turn until one answers.
  std::string endpoints{};
  TlsFiles tls{};
  std::string user{};  ///< Of etcd; empty: none.
  /// The password is its first line. Read when it is needed, and kept nowhere: neither in
  /// the cluster file nor in a log.
  std::string password_file{};
  bool operator==(const EtcdAccess&) const = default;
};

}  // namespace sheaf
