#include "client/seal_call.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "base/fault_point.h"
#include "base/math.h"
#include "client/daemon_channel.h"
#include "client/home_pools.h"
#include "client/lease_table.h"
#include "client/session.h"
#include "codec/codec.h"
#include "format/message.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

// A table whose only column has these bytes as its chunks.
arrow::Result<std::shared_ptr<arrow::Buffer>> DescribeBytes(
    const region::Region& region, const std::vector<GlobalRange>& ranges) {
  arrow::ArrayVector chunks;
  for (const GlobalRange& range : ranges) {
    const auto size = CheckedCast<int64_t>(range.size_bytes);
    chunks.push_back(arrow::MakeArray(arrow::ArrayData::Make(
        arrow::uint8(), size,
        {nullptr, std::make_shared<arrow::Buffer>(region.Resolve(range), size)}, 0)));
  }
  const auto table = arrow::Table::Make(
      arrow::schema({arrow::field("bytes", arrow::uint8())}),
      {std::make_shared<arrow::ChunkedArray>(std::move(chunks), arrow::uint8())});
  return codec::Encode(
      *table, [&](const uint8_t* address, int64_t size) -> arrow::Result<GlobalAddress> {
        const auto found = region.Locate(address, CheckedCast<uint64_t>(size));
        if (!found) return arrow::Status::Invalid("a buffer is outside the region");
        return *found;
      });
}

}  // namespace

arrow::Result<Sealed> RequestSeal(Session& session, const SealCall& call) {
  std::vector<format::ObjectKey> keys;
  keys.reserve(call.parents.size());
  for (const ObjectId& parent : call.parents) keys.push_back(format::ToKey(parent));
  ARROW_ASSIGN_OR_RAISE(
      Reply reply,
      CallHome(
          &session.daemon(), session.region(), call.home, format::Body::SealRequest,
          [&](flatbuffers::FlatBufferBuilder* builder) {
            const auto bytes = builder->CreateVector(
                call.descriptor->data(), static_cast<size_t>(call.descriptor->size()));
            const auto name = call.name.empty() ? 0 : builder->CreateString(call.name);
            const auto parent_keys = builder->CreateVectorOfStructs(keys);
            return format::CreateSealRequest(*builder, bytes, name, call.replace,
                                             call.expected_version.value_or(0), call.keep,
                                             parent_keys, call.is_prepared)
                .Union();
          }));
  ARROW_ASSIGN_OR_RAISE(const auto* body,
                        format::BodyAs<format::SealReply>(reply.message()));
  if (body->object() == nullptr)
    return arrow::Status::Invalid("seal reply without an object");
  return Sealed{format::FromKey(*body->object()), body->version()};
}

Holders::~Holders() {
  for (const ObjectId& holder : objects_) {
    // An error means that it goes with this session.
    static_cast<void>(session_->daemon().Call(
        format::Body::RetireRequest, [&](flatbuffers::FlatBufferBuilder* builder) {
          const auto key = format::ToKey(holder);
          return format::CreateRetireRequest(*builder, &key, 0).Union();
        }));
  }
}

arrow::Status Holders::Make(SegmentId segment, const std::vector<GlobalRange>& ranges,
                            const std::vector<ObjectId>& parents) {
  std::vector<GlobalRange> held;
  for (const GlobalRange& range : ranges) {
    const uint8_t* data = session_->region().Resolve(range);
    if (session_->pools().IsOpen(data, range.size_bytes) ||
        session_->leases().FindCovering(range) == nullptr) {
      held.push_back(range);
    }
  }
  if (held.empty()) return arrow::Status::OK();
  SealCall call;
  call.home = segment;
  ARROW_ASSIGN_OR_RAISE(call.descriptor, DescribeBytes(session_->region(), held));
  for (const ObjectId& parent : parents) {
    if (parent.segment == segment) call.parents.push_back(parent);
  }
  PassFaultPoint("client.holder.before-seal");
  ARROW_ASSIGN_OR_RAISE(const Sealed sealed, RequestSeal(*session_, call));
  objects_.push_back(sealed.object);
  PassFaultPoint("client.holder.after-seal");
  return arrow::Status::OK();
}

}  // namespace sheaf::client
