// The catalog's leader, wherever it is.

#pragma once

#include <functional>
#include <string>
#include <vector>

#include <arrow/result.h>

#include "daemon/transport.h"
#include "directory/catalog.h"
#include "format/message.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// TODO(#4): leadership that moves; until then it is fixed.
constexpr NodeId kLeaderNode{0};

/// \brief Calls the leader here, or sends it messages. Callbacks may run inside the call.
class CatalogClient {
 public:
  using Bind = directory::CatalogLeader::BindRequest;

  /// `leader` on the leader's node, else null. Both outlive this.
  CatalogClient(directory::CatalogLeader* leader, Transport* transport)
      : leader_(leader), transport_(transport) {}

  void RequestBind(
      const Bind& request,
      const std::function<void(const arrow::Result<directory::Version>&)>& done);
  void Commit(
      const std::string& name, const ObjectId& object, directory::Version version,
      const std::function<void(const arrow::Result<std::vector<ObjectId>>&)>& done);
  /// \brief A hint to the leader: nobody waits for it (C8).
  void Unbind(const std::string& name, const ObjectId& object);

  /// \brief Answer a peer's message about the catalog; Invalid if it binds or unbinds
  /// objects of another home than `from`. False if it is about something else.
  bool Handle(NodeId from, const format::Message& message, const ReplyFn& reply);

 private:
  std::vector<uint8_t> AnswerBind(NodeId from, uint64_t id,
                                  const format::BindRequest& body);
  std::vector<uint8_t> AnswerCommit(NodeId from, uint64_t id,
                                    const format::CommitRequest& body);
  std::vector<uint8_t> AnswerUnbind(NodeId from, uint64_t id,
                                    const format::UnbindRequest& body);

  directory::CatalogLeader* leader_;
  Transport* transport_;
};

}  // namespace sheaf::daemon
