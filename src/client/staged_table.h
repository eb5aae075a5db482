// How a put in parts ends: as a table, or as nothing. Decided by its list (staging.h),
// and done by whoever meets that (docs/tables.md).

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "client/session.h"
#include "client/staging.h"

namespace sheaf::client {

/// \brief The table's version that parts of the put `staging_id` are in; nothing if there
/// is none.
arrow::Result<std::optional<uint32_t>> VersionWith(
    const std::shared_ptr<Session>& session, const std::string& name,
    uint64_t staging_id);

/// \brief What errors call the list of a table's parts.
std::string ListOf(const std::string& name);

/// \brief What became of a put.
struct StagedEnd {
  std::optional<uint32_t> version;  ///< Of the table, if this call saw it put.
  arrow::Status refused;            ///< Why there is none: the name, or its version.
  arrow::Status cleared;            ///< Why its list is left; for whoever meets it.
};

/// \brief From a list that has all parts and a candidate on: keep them, decide, publish,
/// clean up. Nothing if the list is not as `found` any more: look again.
arrow::Result<std::optional<StagedEnd>> CompleteStaged(
    const std::shared_ptr<Session>& session, const std::string& name, FoundStaging found);

/// \brief Do what the list of a table's parts says is to be done: a complete one becomes
/// the table, one that is over or late goes. The list if it goes on, without parts that
/// are gone; or if it has leftovers only, which wait for nodes that are off.
arrow::Result<std::optional<FoundStaging>> MeetStaging(
    const std::shared_ptr<Session>& session, const std::string& name);

/// \brief Put the table of a list that is complete, and clean up. False if there is none,
/// or it was done before, but for a list that cannot be cleaned up now.
arrow::Result<bool> FinishStaged(const std::shared_ptr<Session>& session,
                                 const std::string& name);

/// \brief What AbortStaged found.
enum class StagedAbort : uint8_t {
  kNone,      ///< No list that could be aborted.
  kAborted,   ///< It was, by this call.
  kFinished,  ///< One that is complete: it is the table by now, or was refused.
};
/// \brief End the put of that name, if it (and its number is `id`, unless 0) is not
/// complete.
arrow::Result<StagedAbort> AbortStaged(const std::shared_ptr<Session>& session,
                                       const std::string& name, uint64_t id = 0);

}  // namespace sheaf::client
