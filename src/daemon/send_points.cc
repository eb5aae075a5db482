#include "daemon/send_points.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/fault_point.h"
#include "format/message_generated.h"

namespace sheaf::daemon {
namespace {

using format::Body;

struct SendPoints {
  Body type;
  std::array<FaultPoint, 2> points;  ///< By SendStep.
};

constexpr auto kSendPoints = std::to_array<SendPoints>({
    {Body::Welcome, {"daemon.welcome.before-send", "daemon.welcome.after-send"}},
    {Body::GrantReply,
     {"daemon.grant-reply.before-send", "daemon.grant-reply.after-send"}},
    {Body::LeasePageReply,
     {"daemon.lease-page-reply.before-send", "daemon.lease-page-reply.after-send"}},
    {Body::SealReply, {"daemon.seal-reply.before-send", "daemon.seal-reply.after-send"}},
    {Body::Empty, {"daemon.outcome.before-send", "daemon.outcome.after-send"}},
    {Body::NodeHello, {"daemon.node-hello.before-send", "daemon.node-hello.after-send"}},
    {Body::BindRequest,
     {"daemon.bind-request.before-send", "daemon.bind-request.after-send"}},
    {Body::BindReply, {"daemon.bind-reply.before-send", "daemon.bind-reply.after-send"}},
    {Body::CommitRequest,
     {"daemon.commit-request.before-send", "daemon.commit-request.after-send"}},
    {Body::CommitReply,
     {"daemon.commit-reply.before-send", "daemon.commit-reply.after-send"}},
    {Body::UnbindRequest,
     {"daemon.unbind-request.before-send", "daemon.unbind-request.after-send"}},
    {Body::RemovalRequest,
     {"daemon.removal-request.before-send", "daemon.removal-request.after-send"}},
    {Body::RemovalReply,
     {"daemon.removal-reply.before-send", "daemon.removal-reply.after-send"}},
    {Body::RetireRequest,
     {"daemon.retire-request.before-send", "daemon.retire-request.after-send"}},
    {Body::KeepRequest,
     {"daemon.keep-request.before-send", "daemon.keep-request.after-send"}},
    {Body::ForgetNodeRequest,
     {"daemon.forget-request.before-send", "daemon.forget-request.after-send"}},
    {Body::FlushPagesRequest,
     {"daemon.flush-pages-request.before-send", "daemon.flush-pages-request.after-send"}},
    {Body::GuestRequest,
     {"daemon.guest-request.before-send", "daemon.guest-request.after-send"}},
    {Body::GuestReply,
     {"daemon.guest-reply.before-send", "daemon.guest-reply.after-send"}},
    {Body::GuestsRequest,
     {"daemon.guests-request.before-send", "daemon.guests-request.after-send"}},
    {Body::GuestsReply,
     {"daemon.guests-reply.before-send", "daemon.guests-reply.after-send"}},
});

}  // namespace

void PassSendPoint(std::span<const uint8_t> message, SendStep step) {
  const Body type = format::GetMessage(message.data())->body_type();
  for (const SendPoints& send : kSendPoints) {
    if (send.type == type) PassFaultPoint(send.points[static_cast<size_t>(step)]);
  }
}

}  // namespace sheaf::daemon
