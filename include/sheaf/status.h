// What callers branch on and Arrow's status codes lack. Never parse a message: ask a
// helper. Nor go by what Arrow prints for a code: it has no word for AlreadyExists, and
// prints "Unknown: a table named 'ids' exists". Ask IsAlreadyExists().

#pragma once

#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

namespace sheaf {

/// \brief Why a call failed, where `arrow::StatusCode` alone does not tell.
enum class ErrorReason : uint8_t {
  kStaleGeneration,  ///< The object of a handle or request is gone; its slot moved on.
  kLeaseLost,        ///< A lease could not be taken or no longer holds.
  kNodeLost,         ///< A node (or its memory) that is needed cannot be reached.
  kTimeout,          ///< A deadline passed.
  kDisconnected,     ///< The daemon of this node is gone or was never there.
  kVersionMismatch,  ///< `version=` or the expected version is not the current one.
  kInterrupted,      ///< The caller asked to stop.
  kDamaged,          ///< Bytes of a table are not what was put, or cannot be read.
  kQuota,            ///< A session or user holds all the memory that it may.
};

/// \brief Carries an `ErrorReason` inside an `arrow::Status` (cf.
/// arrow::flight::FlightStatusDetail).
class SheafStatusDetail : public arrow::StatusDetail {
 public:
  explicit SheafStatusDetail(ErrorReason reason) : reason_(reason) {}
  const char* type_id() const override;
  std::string ToString() const override;
  ErrorReason reason() const { return reason_; }

 private:
  ErrorReason reason_;
};

/// \brief `code` with `message` and `reason` attached.
arrow::Status MakeStatus(arrow::StatusCode code, ErrorReason reason, std::string message);

/// \brief True if `status` carries `reason`.
bool HasReason(const arrow::Status& status, ErrorReason reason);

inline bool IsStaleGeneration(const arrow::Status& s) {
  return HasReason(s, ErrorReason::kStaleGeneration);
}
inline bool IsLeaseLost(const arrow::Status& s) {
  return HasReason(s, ErrorReason::kLeaseLost);
}
inline bool IsNodeLost(const arrow::Status& s) {
  return HasReason(s, ErrorReason::kNodeLost);
}
inline bool IsTimeout(const arrow::Status& s) {
  return HasReason(s, ErrorReason::kTimeout);
}
inline bool IsDisconnected(const arrow::Status& s) {
  return HasReason(s, ErrorReason::kDisconnected);
}
inline bool IsVersionMismatch(const arrow::Status& s) {
  return HasReason(s, ErrorReason::kVersionMismatch);
}
inline bool IsOverQuota(const arrow::Status& s) {
  return HasReason(s, ErrorReason::kQuota);
}
inline bool IsDamaged(const arrow::Status& s) {
  return HasReason(s, ErrorReason::kDamaged);
}

}  // namespace sheaf
