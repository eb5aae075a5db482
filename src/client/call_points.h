// The fault points around each kind of request that a session sends.

#pragma once

#include <cstdint>

#include "format/message_generated.h"

namespace sheaf::client {

enum class CallStep : uint8_t {
  kBeforeRequest,  ///< Nothing is sent.
  kAfterRequest,   ///< All is sent, and nothing received.
  kAfterReply,     ///< The reply is here, whatever it says.
};

/// \brief Pass the fault point of this step of a request with body `type`. Requests that
/// are no step of the protocol (docs/protocol.md) have none.
void PassCallPoint(format::Body type, CallStep step);

}  // namespace sheaf::client
