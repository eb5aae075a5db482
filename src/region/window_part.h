// A part that is a range of a device (device_window.h).

#pragma once

#include <memory>

#include <arrow/result.h>

#include "platform/cache.h"
#include "platform/file.h"
#include "region/device_window.h"
#include "region/file_part.h"
#include "region/region.h"

namespace sheaf::region {

/// \brief Map `window` of `device`, open as `file` for `access`. A device is mapped and
/// protected in its own units, up to 2 MiB: SetWritable(true) makes the whole units
/// writable that the range touches, SetWritable(false) makes those read-only that lie in
/// it. With `copy_on_write`, which devices do not have, a copy of what is there now.
arrow::Result<std::unique_ptr<Part>> MapWindow(
    const platform::Device& device, platform::UniqueFd file, const Window& window,
    const PartAccess& access, std::unique_ptr<platform::CacheControl> cache);

}  // namespace sheaf::region
