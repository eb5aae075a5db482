// The fault points around each kind of message that a daemon sends.

#pragma once

#include <cstdint>
#include <span>

namespace sheaf::daemon {

enum class SendStep : uint8_t { kBefore, kAfter };

/// \brief Pass the fault point before or after `message`, one of ours, leaves.
void PassSendPoint(std::span<const uint8_t> message, SendStep step);

}  // namespace sheaf::daemon
