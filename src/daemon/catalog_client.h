// The catalog's leader, wherever it is.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/transport.h"
#include "directory/catalog.h"
#include "format/message.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Calls the leader here, or sends it messages. Callbacks may run inside the call.
/// An answer of reason node lost (nobody leads, the leader is away, another leads by now)
/// says nothing about the request: it may have been done, and is to be made again, after
/// Refresh. All it is given outlives it.
class CatalogClient {
 public:
  using Bind = directory::CatalogLeader::BindRequest;
  /// The leader in this daemon; null unless it leads.
  using LeaderHereFn = std::function<directory::CatalogLeader*()>;

  CatalogClient(const region::Region* region, LeaderHereFn leader, Transport* transport)
      : region_(region), leader_(std::move(leader)), transport_(transport) {}

  /// \brief From now on `leader` is asked. What another one was asked is answered with
  /// reason node lost.
  void Believe(const directory::LeaderView& leader);
  /// \brief Believe in who has the highest epoch now.
  void Refresh();
  const directory::LeaderView& believed() const { return believed_; }

  void RequestBind(
      const Bind& request,
      const std::function<void(const arrow::Result<directory::Version>&)>& done);
  /// \brief C9: to the leader that is believed in, which refuses (reason node lost) if it
  /// has another epoch than is believed.
  void Commit(
      const std::string& name, const ObjectId& object, directory::Version version,
      const std::function<void(const arrow::Result<std::vector<ObjectId>>&)>& done);
  using Undecided = directory::CatalogLeader::Undecided;
  /// \brief CatalogLeader::PrepareRemoval, at the leader that is believed in, as Commit.
  void PrepareRemoval(
      const std::string& name, const ObjectId& object, uint32_t sequence,
      const std::function<void(const arrow::Result<std::vector<Undecided>>&)>& done);
  /// \brief A hint to the leader: nobody waits for it (C8).
  void Unbind(const std::string& name, const ObjectId& object);

  /// \brief Answer a peer's message about the catalog; Invalid if it binds or unbinds
  /// objects of another home than `from`. False if it is about something else.
  bool Handle(NodeId from, const format::Message& message, const ReplyFn& reply);

 private:
  arrow::Result<directory::CatalogLeader*> LeaderHere() const;
  arrow::Result<directory::CatalogLeader*> LeaderHere(uint64_t epoch) const;
  bool IsHere() const { return believed_.node == region_->node(); }
  arrow::Status CheckKnown();
  void Ask(std::vector<uint8_t> message, ReplyCallback done);
  std::vector<uint8_t> AnswerBind(NodeId from, uint64_t id,
                                  const format::BindRequest& body);
  std::vector<uint8_t> AnswerCommit(NodeId from, uint64_t id,
                                    const format::CommitRequest& body);
  std::vector<uint8_t> AnswerUnbind(NodeId from, uint64_t id,
                                    const format::UnbindRequest& body);
  std::vector<uint8_t> AnswerRemoval(NodeId from, uint64_t id,
                                     const format::RemovalRequest& body);

  const region::Region* region_;
  LeaderHereFn leader_;
  Transport* transport_;
  directory::LeaderView believed_;
  std::map<uint64_t, ReplyCallback> asked_;  ///< Of the one that is believed in.
  uint64_t last_asked_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
