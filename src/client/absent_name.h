// What is said of a name that leads to no table.

#pragma once

#include <memory>
#include <string>

#include <arrow/status.h>

#include "client/session.h"

namespace sheaf::client {

/// \brief `found` is what a look-up of the table `name` said. If that is KeyError since
/// the table's parts are not all there, it is KeyError that says which are missing, until
/// when, and what shows it; another KeyError says what shows the tables; else `found`.
/// Changes nothing.
arrow::Status ExplainAbsent(const std::shared_ptr<Session>& session,
                            const std::string& name, const arrow::Status& found);

}  // namespace sheaf::client
