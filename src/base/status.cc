#include "sheaf/status.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <arrow/status.h>

namespace sheaf {
namespace {

constexpr const char* kTypeId = "sheaf::SheafStatusDetail";

const char* ReasonName(ErrorReason reason) {
  switch (reason) {
    case ErrorReason::kStaleGeneration:
      return "stale generation";
    case ErrorReason::kLeaseLost:
      return "lease lost";
    case ErrorReason::kNodeLost:
      return "node lost";
    case ErrorReason::kTimeout:
      return "timeout";
    case ErrorReason::kDisconnected:
      return "disconnected";
    case ErrorReason::kVersionMismatch:
      return "version mismatch";
    case ErrorReason::kInterrupted:
      return "interrupted";
    case ErrorReason::kDamaged:
      return "damaged";
    case ErrorReason::kQuota:
      return "quota";
  }
  return "unknown reason";
}

}  // namespace

const char* SheafStatusDetail::type_id() const { return kTypeId; }

std::string SheafStatusDetail::ToString() const { return ReasonName(reason_); }

arrow::Status MakeStatus(arrow::StatusCode code, ErrorReason reason,
                         std::string message) {
  return {code, std::move(message), std::make_shared<SheafStatusDetail>(reason)};
}

bool HasReason(const arrow::Status& status, ErrorReason reason) {
  const auto& detail = status.detail();
  return detail != nullptr && std::strcmp(detail->type_id(), kTypeId) == 0 &&
         static_cast<const SheafStatusDetail&>(*detail).reason() == reason;
}

}  // namespace sheaf
