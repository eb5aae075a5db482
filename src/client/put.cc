#include "client/put.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "client/daemon_channel.h"
#include "client/home_pools.h"
#include "client/node_info.h"
#include "client/publisher.h"
#include "client/session.h"
#include "format/message.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {

arrow::Result<PutReceipt> Put(const std::shared_ptr<Session>& session,
                              const std::shared_ptr<arrow::Schema>& schema,
                              const PublishOptions& options,
                              const std::function<arrow::Status(Publisher*)>& fill) {
  ARROW_ASSIGN_OR_RAISE(auto publisher, MakePublisher(session, schema, options));
  const arrow::Status filled = fill(publisher.get());
  auto receipt = filled.ok() ? publisher->Finish() : filled;
  const int64_t needed_bytes = publisher->bytes_needed();
  const SegmentId home = publisher->home();
  publisher.reset();
  session->DidPut(receipt.status());
  if (receipt.ok()) return receipt;
  return ExplainPut(*session, receipt.status(), options, needed_bytes, home);
}

arrow::Result<PutReceipt> Put(const std::shared_ptr<Session>& session,
                              const arrow::Table& table, const PublishOptions& options) {
  return Put(session, table.schema(), options,
             [&](Publisher* publisher) { return publisher->SetTable(table); });
}

arrow::Status ExplainPut(const Session& session, const arrow::Status& status,
                         const PublishOptions& options, int64_t needed_bytes,
                         SegmentId home) {
  if (needed_bytes == 0 || IsOverQuota(status)) return status;
  const std::string& name = options.name;
  // What has no name may be a part, which goes nowhere else.
  const bool may_go_elsewhere = !name.empty() && !options.put.spill;
  return DoesNotFit(
      name.empty() ? "a table" : "table '" + name + "'",
      "at least " + std::to_string(needed_bytes) + " bytes of shared memory",
      LoadNodeInfos(session.region()), home.value,
      may_go_elsewhere ? "put with --spill (PutOptions::spill) it uses "
                         "that, too, with --on NODE (PutOptions::on) only "
                         "that of one node"
                       : "");
}

arrow::Result<arrow::MemoryPool*> PoolOf(Session& session,
                                         const std::optional<uint32_t>& node,
                                         bool spill) {
  const NodeId home{node.value_or(session.region().node().value)};
  ARROW_ASSIGN_OR_RAISE(HomePool * of_home, session.pools().Of(home));
  if (spill) return &of_home->spill_pool();
  return &of_home->pool();
}

arrow::Result<std::unique_ptr<Publisher>> MakePublisher(
    const std::shared_ptr<Session>& session, std::shared_ptr<arrow::Schema> schema,
    const PublishOptions& options) {
  ARROW_ASSIGN_OR_RAISE(arrow::MemoryPool * pool,
                        PoolOf(*session, options.put.on, options.put.spill));
  return std::make_unique<Publisher>(session, std::move(schema), options, pool);
}

arrow::Status Retire(Session& session, const ObjectId& object, const std::string& name) {
  return session.daemon()
      .Call(format::Body::RetireRequest,
            [&](flatbuffers::FlatBufferBuilder* builder) {
              const auto key = format::ToKey(object);
              const auto text = name.empty() ? 0 : builder->CreateString(name);
              return format::CreateRetireRequest(*builder, &key, text).Union();
            })
      .status();
}

arrow::Status Drop(Session& session, const ObjectId& object) {
  const arrow::Status dropped = Retire(session, object, "");
  return IsStaleGeneration(dropped) ? arrow::Status::OK() : dropped;
}

arrow::Result<uint32_t> PublishPrepared(Session& session, const ObjectId& object,
                                        const std::string& name, bool replace,
                                        uint32_t expected_version) {
  ARROW_ASSIGN_OR_RAISE(
      Reply reply, session.daemon().Call(format::Body::PublishRequest,
                                         [&](flatbuffers::FlatBufferBuilder* builder) {
                                           const auto key = format::ToKey(object);
                                           const auto text = builder->CreateString(name);
                                           return format::CreatePublishRequest(
                                                      *builder, &key, text, replace,
                                                      expected_version)
                                               .Union();
                                         }));
  ARROW_ASSIGN_OR_RAISE(const auto* body,
                        format::BodyAs<format::SealReply>(reply.message()));
  return body->version();
}

arrow::Status Keep(Session& session, const ObjectId& object) {
  return session.daemon()
      .Call(format::Body::KeepRequest,
            [&](flatbuffers::FlatBufferBuilder* builder) {
              const auto key = format::ToKey(object);
              return format::CreateKeepRequest(*builder, &key, /*keep=*/true).Union();
            })
      .status();
}

}  // namespace sheaf::client
