#include "client/absent_name.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/status.h>

#include "client/session.h"
#include "client/staged_object.h"
#include "client/staging.h"
#include "client/wording.h"
#include "directory/directory.h"
#include "sheaf/status.h"

namespace sheaf::client {
namespace {

bool IsOver(const Staging& staging) {
  return staging.state == StagingState::kOver ||
         (staging.state == StagingState::kGathering && staging.deadline_unix_ns != 0 &&
          UnixTimeNs() >= staging.deadline_unix_ns);
}

// Of a table that is to be, without parts that are gone; nothing if there is none.
std::string WhatItWaitsFor(Session& session, const std::string& name, Staging staging) {
  if (staging.append || IsOver(staging)) return "";
  std::erase_if(staging.entries,
                [&](const auto& entry) { return !IsThere(session, entry.object); });
  const auto missing = staging.Missing();
  if (missing.empty() || staging.state == StagingState::kComplete) {
    return "all of its parts are there, and whoever brought the last one has not made "
           "them a table: sheaf parts " +
           name + " does that";
  }
  std::string text = MissingParts(missing, staging.of);
  if (staging.deadline_unix_ns != 0) {
    text += ", and the put is aborted if it is not whole by " +
            UtcTime(staging.deadline_unix_ns);
  }
  return text + ": sheaf parts shows such puts, sheaf abort " + name + " ends this one";
}

arrow::Status WithAdvice(const arrow::Status& found) {
  return found.WithMessage(found.message(), "; `sheaf ls` shows what there is");
}

}  // namespace

arrow::Status ExplainAbsent(const std::shared_ptr<Session>& session,
                            const std::string& name, const arrow::Status& found) {
  if (!found.IsKeyError() || IsStaleGeneration(found)) return found;
  const std::string list_name = PartsName(name);
  if (list_name.size() > directory::kNameBytesMax) return WithAdvice(found);
  const auto list = LoadStaging(session, list_name);
  if (!list.ok()) {
    return found.WithMessage(found.message(), ", and whether parts of it wait cannot be ",
                             "told: ", list.status().message());
  }
  const std::optional<FoundStaging>& waiting = *list;
  if (!waiting) return WithAdvice(found);
  const std::string waits = WhatItWaitsFor(*session, name, waiting->staging);
  if (waits.empty()) return WithAdvice(found);
  return found.WithMessage(found.message(), " yet: ", waits);
}

}  // namespace sheaf::client
