#include "format/message.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "format/struct_alignment.h"
#include "sheaf/status.h"

namespace sheaf::format {
namespace {

constexpr uint8_t kReasonMax = static_cast<uint8_t>(ErrorReason::kQuota);

/// Messages quote names of fields, of any length: a reply must stay one that the peer
/// takes.
constexpr size_t kOutcomeTextMax = 4096;

std::string Shortened(const std::string& text) {
  if (text.size() <= kOutcomeTextMax) return text;
  size_t end = kOutcomeTextMax;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;  // UTF-8
  return text.substr(0, end) + " ...";
}

std::vector<uint8_t> Finish(flatbuffers::FlatBufferBuilder* builder,
                            flatbuffers::Offset<Message> message) {
  builder->Finish(message);
  return {builder->GetBufferPointer(), builder->GetBufferPointer() + builder->GetSize()};
}

// Reason + 1 of a status that carries one, else 0.
uint8_t ReasonCode(const arrow::Status& status) {
  for (uint8_t r = 0; r <= kReasonMax; ++r) {
    if (HasReason(status, static_cast<ErrorReason>(r)))
      return static_cast<uint8_t>(r + 1);
  }
  return 0;
}

// Arrow has one name for all numbers that are no codes, and for one that is.
bool IsCode(arrow::StatusCode code) {
  if (code == arrow::StatusCode::AlreadyExists) return true;
  // NOLINTNEXTLINE(clang-analyzer-optin.core.EnumCastOutOfRange): meant to be none
  constexpr auto kNone = static_cast<arrow::StatusCode>(127);
  return arrow::Status::CodeAsString(code) != arrow::Status::CodeAsString(kNone);
}

// Every struct of a message, wherever its body has one.
bool AreStructsAligned(const Message& message) {
  switch (message.body_type()) {
    case Body::GrantRequest:
      return IsAligned(message.body_as_GrantRequest()->known());
    case Body::GuestsRequest:
      return IsAligned(message.body_as_GuestsRequest()->settled()) &&
             IsAligned(message.body_as_GuestsRequest()->sessions());
    case Body::GuestsReply:
      return IsAligned(message.body_as_GuestsReply()->unsettled());
    case Body::ReturnRequest:
      return IsAligned(message.body_as_ReturnRequest()->grants());
    case Body::Hello:
      return IsAligned(message.body_as_Hello()->grants()) &&
             IsAligned(message.body_as_Hello()->leases());
    case Body::SealRequest:
      return IsAligned(message.body_as_SealRequest()->parents());
    case Body::SealReply:
      return IsAligned(message.body_as_SealReply()->object());
    case Body::RetireRequest:
      return IsAligned(message.body_as_RetireRequest()->object());
    case Body::LeaseRequest:
      return IsAligned(message.body_as_LeaseRequest()->object());
    case Body::LeaseReply:
      return IsAligned(message.body_as_LeaseReply()->cell());
    case Body::DropLeaseRequest:
      return IsAligned(message.body_as_DropLeaseRequest()->cell());
    case Body::KeepRequest:
      return IsAligned(message.body_as_KeepRequest()->object());
    case Body::BindRequest:
      return IsAligned(message.body_as_BindRequest()->object());
    case Body::CommitRequest:
      return IsAligned(message.body_as_CommitRequest()->object());
    case Body::CommitReply:
      return IsAligned(message.body_as_CommitReply()->superseded());
    case Body::UnbindRequest:
      return IsAligned(message.body_as_UnbindRequest()->object());
    case Body::PublishRequest:
      return IsAligned(message.body_as_PublishRequest()->object());
    case Body::RemovalRequest:
      return IsAligned(message.body_as_RemovalRequest()->object());
    case Body::RemovalReply:
      return IsAligned(message.body_as_RemovalReply()->undecided());
    default:
      return true;  // no structs
  }
}

}  // namespace

std::vector<uint8_t> FinishRequest(flatbuffers::FlatBufferBuilder* builder,
                                   uint64_t request_id, Body type,
                                   flatbuffers::Offset<void> body, bool is_repeated) {
  builder->ForceDefaults(true);  // MarkRepeated changes it in place
  return Finish(builder, CreateMessage(*builder, request_id, /*is_reply=*/false,
                                       is_repeated, 0, type, body));
}

void MarkRepeated(std::vector<uint8_t>* request) {
  auto* message = flatbuffers::GetMutableRoot<flatbuffers::Table>(request->data());
  const bool is_marked = message->SetField<uint8_t>(Message::VT_IS_REPEATED, 1, 0);
  SHEAF_CHECK(is_marked);
}

void SetRequestId(std::vector<uint8_t>* request, uint64_t request_id) {
  auto* message = flatbuffers::GetMutableRoot<flatbuffers::Table>(request->data());
  const bool is_set = message->SetField<uint64_t>(Message::VT_REQUEST_ID, request_id, 0);
  SHEAF_CHECK(is_set);
}

std::vector<uint8_t> FinishReply(flatbuffers::FlatBufferBuilder* builder,
                                 uint64_t request_id, Body type,
                                 flatbuffers::Offset<void> body) {
  return Finish(builder, CreateMessage(*builder, request_id, /*is_reply=*/true,
                                       /*is_repeated=*/false, 0, type, body));
}

std::vector<uint8_t> MakeOutcomeReply(uint64_t request_id, const arrow::Status& status) {
  flatbuffers::FlatBufferBuilder builder;
  flatbuffers::Offset<Outcome> outcome = 0;
  if (!status.ok()) {
    const auto text = builder.CreateString(Shortened(status.message()));
    outcome = CreateOutcome(builder, static_cast<uint8_t>(status.code()),
                            ReasonCode(status), text);
  }
  const auto body = CreateEmpty(builder).Union();
  return Finish(&builder,
                CreateMessage(builder, request_id, /*is_reply=*/true,
                              /*is_repeated=*/false, outcome, Body::Empty, body));
}

arrow::Result<const Message*> ParseMessage(std::span<const uint8_t> payload) {
  flatbuffers::Verifier verifier(payload.data(), payload.size(), /*max_depth=*/16,
                                 /*max_tables=*/1024);
  if (!VerifyMessageBuffer(verifier)) {
    return arrow::Status::Invalid("malformed message of ", payload.size(), " bytes");
  }
  const Message* message = GetMessage(payload.data());
  if (message->body() == nullptr) return arrow::Status::Invalid("message without a body");
  if (!AreStructsAligned(*message)) {
    return arrow::Status::Invalid("message with misaligned structs");
  }
  return message;
}

arrow::Status ToStatus(const Message& reply) {
  const Outcome* outcome = reply.outcome();
  if (outcome == nullptr || outcome->code() == 0) return arrow::Status::OK();
  const std::string text = outcome->text() != nullptr ? outcome->text()->str() : "";
  const auto code = static_cast<arrow::StatusCode>(outcome->code());
  if (!IsCode(code)) {
    return arrow::Status::Invalid("reply with status code ", int{outcome->code()}, ": ",
                                  text);
  }
  const uint8_t reason = outcome->reason();  // + 1
  if (reason == 0 || reason > kReasonMax + 1) return {code, text};
  return MakeStatus(code, static_cast<ErrorReason>(reason - 1), text);
}

}  // namespace sheaf::format
