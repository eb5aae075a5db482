// The few requests of etcd's version 3 API that the arbiter needs, over the JSON gateway
// that every etcd has (docs/decisions/0011).

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/etcd_access.h"

namespace sheaf::arbiter {

/// Of one request to one member.
constexpr std::chrono::milliseconds kEtcdTimeout{2000};

/// \brief Blocking; one thread at a time. Any request may fail with IOError (nobody
/// answered; what a member said to it) without the client being unusable: a write that
/// failed so may have been done.
class EtcdClient {
 public:
  /// \brief Connects to nobody yet. Invalid for endpoints that are no http(s) URLs. With
  /// a user it signs in when it asks first, and whenever etcd does not know its token any
  /// more.
  static arrow::Result<std::unique_ptr<EtcdClient>> Make(
      const EtcdAccess& access, std::chrono::milliseconds timeout = kEtcdTimeout);
  ~EtcdClient();

  struct Entry {
    std::string key;
    std::string value;
    int64_t revision = 0;  ///< Of its last change: rises over all keys.
    int64_t lease = 0;     ///< Goes with it; 0: stays.
  };

  /// \brief A lease, with which keys go that nobody keeps alive.
  arrow::Result<int64_t> GrantLease(std::chrono::seconds time_to_live);
  /// \brief False if there is no such lease any more.
  arrow::Result<bool> KeepAlive(int64_t lease);
  /// \brief Its keys go now. OK if it is gone.
  arrow::Status RevokeLease(int64_t lease);

  arrow::Result<std::optional<Entry>> Get(const std::string& key);
  /// \brief All whose key begins with `prefix`, by key.
  arrow::Result<std::vector<Entry>> List(const std::string& prefix);

  /// \brief Write `key` if its revision is `expected` (0: if it is not there), with
  /// `lease` if that is not 0. Returns false, and changes nothing, if it is another, or
  /// if `absent` names a key that is there.
  arrow::Result<bool> PutIf(const std::string& key, int64_t expected,
                            const std::string& value, int64_t lease,
                            const std::string& absent = "");
  /// \brief Remove `key` if its revision is `expected`. False, and nothing changes, if it
  /// is another, or gone.
  arrow::Result<bool> RemoveIf(const std::string& key, int64_t expected);

  /// \brief As of the last answer to `Get` or `List`: rises with each change of any key.
  /// It falls only where etcd has lost something.
  int64_t revision() const;

 private:
  class Impl;
  explicit EtcdClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf::arbiter
