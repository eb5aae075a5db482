#include "client/call_points.h"

#include <array>
#include <cstddef>

#include "base/fault_point.h"
#include "format/message_generated.h"

namespace sheaf::client {
namespace {

using format::Body;

struct CallPoints {
  Body type;
  std::array<FaultPoint, 3> points;  ///< By CallStep.
};

constexpr auto kCallPoints = std::to_array<CallPoints>({
    {Body::Hello,
     {"client.hello.before-request", "client.hello.after-request",
      "client.hello.after-reply"}},
    {Body::LeasePageRequest,
     {"client.lease-page.before-request", "client.lease-page.after-request",
      "client.lease-page.after-reply"}},
    {Body::GrantRequest,
     {"client.grant.before-request", "client.grant.after-request",
      "client.grant.after-reply"}},
    {Body::SealRequest,
     {"client.seal.before-request", "client.seal.after-request",
      "client.seal.after-reply"}},
    {Body::HomeRequest,
     {"client.remote.before-request", "client.remote.after-request",
      "client.remote.after-reply"}},
    {Body::RetireRequest,
     {"client.retire.before-request", "client.retire.after-request",
      "client.retire.after-reply"}},
    {Body::PublishRequest,
     {"client.publish.before-request", "client.publish.after-request",
      "client.publish.after-reply"}},
    {Body::KeepRequest,
     {"client.keep.before-request", "client.keep.after-request",
      "client.keep.after-reply"}},
    {Body::ReturnRequest,
     {"client.return.before-request", "client.return.after-request",
      "client.return.after-reply"}},
    {Body::ForgetNodeRequest,
     {"client.forget.before-request", "client.forget.after-request",
      "client.forget.after-reply"}},
    {Body::LeaseRequest,
     {"client.reader-lease.before-request", "client.reader-lease.after-request",
      "client.reader-lease.after-reply"}},
    {Body::DropLeaseRequest,
     {"client.reader-drop.before-request", "client.reader-drop.after-request",
      "client.reader-drop.after-reply"}},
    {Body::Goodbye,
     {"client.goodbye.before-request", "client.goodbye.after-request",
      "client.goodbye.after-reply"}},
});

}  // namespace

void PassCallPoint(format::Body type, CallStep step) {
  for (const CallPoints& call : kCallPoints) {
    if (call.type == type) PassFaultPoint(call.points[static_cast<size_t>(step)]);
  }
}

}  // namespace sheaf::client
