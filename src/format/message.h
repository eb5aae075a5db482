// Messages between sessions and daemons: built whole, verified before use.

#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <flatbuffers/flatbuffers.h>

#include "format/message_generated.h"
#include "sheaf/types.h"

namespace sheaf::format {

/// Both sides refuse another one: a cluster runs one version of Sheaf.
constexpr uint32_t kMessageVersion = 3;

inline ObjectKey ToKey(const ObjectId& id) {
  return {id.segment.value, id.slot, id.generation};
}
inline ObjectId FromKey(const ObjectKey& key) {
  return {{key.segment()}, key.slot(), key.generation()};
}

/// \brief Finish a request: `body` was built in `builder`. `is_repeated`: the sender does
/// not know whether an earlier one with this id was handled.
std::vector<uint8_t> FinishRequest(flatbuffers::FlatBufferBuilder* builder,
                                   uint64_t request_id, Body type,
                                   flatbuffers::Offset<void> body,
                                   bool is_repeated = false);

/// \brief Say in a finished request that it may have been sent before.
void MarkRepeated(std::vector<uint8_t>* request);

/// \brief Give a finished request another number.
void SetRequestId(std::vector<uint8_t>* request, uint64_t request_id);

/// \brief Finish the reply to `request_id`.
std::vector<uint8_t> FinishReply(flatbuffers::FlatBufferBuilder* builder,
                                 uint64_t request_id, Body type,
                                 flatbuffers::Offset<void> body);

/// \brief The reply that says what went wrong (in a few KiB at most), or (for OK) that
/// there is nothing to say.
std::vector<uint8_t> MakeOutcomeReply(uint64_t request_id, const arrow::Status& status);

/// \brief Verify a frame's payload and view it; valid as long as `payload` is. Invalid if
/// malformed.
arrow::Result<const Message*> ParseMessage(std::span<const uint8_t> payload);

/// \brief What a reply says: OK, or the status with its reason.
arrow::Status ToStatus(const Message& reply);

/// \brief The body of `message` as `T`; Invalid if it is another one.
template <typename T>
arrow::Result<const T*> BodyAs(const Message& message) {
  const T* body = message.body_as<T>();
  if (body == nullptr) {
    return arrow::Status::Invalid("message has body ", EnumNameBody(message.body_type()),
                                  ", expected ", EnumNameBody(BodyTraits<T>::enum_value));
  }
  return body;
}

}  // namespace sheaf::format
