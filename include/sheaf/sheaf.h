// Everything that a program using Sheaf needs.

#pragma once

#include "sheaf/cluster.h"  // IWYU pragma: export
#include "sheaf/handle.h"   // IWYU pragma: export
#include "sheaf/info.h"     // IWYU pragma: export
#include "sheaf/parts.h"    // IWYU pragma: export
#include "sheaf/put.h"      // IWYU pragma: export
#include "sheaf/status.h"   // IWYU pragma: export
#include "sheaf/store.h"    // IWYU pragma: export
#include "sheaf/types.h"    // IWYU pragma: export
