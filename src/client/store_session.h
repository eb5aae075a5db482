// The session behind a store, for what is not a member of it.

#pragma once

#include <memory>

#include "client/session.h"
#include "sheaf/store.h"

namespace sheaf {

std::shared_ptr<client::Session> SessionOf(const Store& store);

}  // namespace sheaf
