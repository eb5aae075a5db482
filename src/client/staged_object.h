// What there is of an object that a list names (staging.h), also where its node was
// declared off: then the object's slot says all that there is to know, and its home is
// not asked.

#pragma once

#include <cstdint>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "client/session.h"
#include "sheaf/types.h"

namespace sheaf::client {

enum class StagedView : uint8_t {
  kGone,     ///< Or it goes with its session, which ended when its node was off.
  kThere,    ///< Unnamed, or prepared.
  kPut,      ///< Visible under its name.
  kList,     ///< So, and a version of a list: its home retires what another superseded.
  kVoid,     ///< Prepared in a life of its home that is off: never put (C9).
  kUnknown,  ///< Its slot cannot be read.
};

struct StagedObject {
  StagedView view = StagedView::kUnknown;
  bool is_kept = false;
  uint32_t version = 0;  ///< If it is put.
};
/// \brief LOAD! of its slot.
StagedObject LookAt(const Session& session, const ObjectId& object);

/// \brief True if its slot says that `object` is there, or cannot be read.
bool IsThere(const Session& session, const ObjectId& object);

/// \brief True if the home of `object` is off for the own one (F8).
bool IsHomeOff(const Session& session, const ObjectId& object);

/// \brief As Keep; stale as well if `object` is void.
arrow::Status KeepStaged(Session& session, const ObjectId& object);

/// \brief As Drop, of what is not put; a version of a list goes by itself. False if its
/// home is off, and has it still.
arrow::Result<bool> DropStaged(Session& session, const ObjectId& object);

/// \brief DropStaged of each; what is there still stays in `objects`.
arrow::Status DropAll(Session& session, std::vector<ObjectId>* objects);

}  // namespace sheaf::client
