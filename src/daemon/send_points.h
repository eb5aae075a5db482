// The fault points around each kind of message that a daemon sends.

#pragma once

#include <cstdint>
#include <span>

namespace sheaf::daemon {

enum class SendStep : uint8_t { kBefore, kAfter };

/// \brief Pass the fault point before or after `frame` (header and one of our messages)
/// goes to a socket.
void PassSendPoint(std::span<const uint8_t> frame, SendStep step);

}  // namespace sheaf::daemon
