#include "daemon/membership_client.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "arbiter/arbiter.h"
#include "daemon/log.h"
#include "daemon/membership.h"
#include "daemon/reclaimer.h"
#include "daemon/transport.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "format/message.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

MembershipClient::MembershipClient(region::Region* region, Membership* membership,
                                   Reclaimer* reclaimer, Transport* transport,
                                   arbiter::Arbiter* arbiter)
    : region_(region),
      membership_(membership),
      reclaimer_(reclaimer),
      transport_(transport),
      arbiter_(arbiter) {}

void MembershipClient::ForgetHere(NodeId node, Done done) {
  membership_->Forget(node, [this, done = std::move(done)](const arrow::Status& status) {
    if (status.ok()) reclaimer_->Kick();  // its cells count no more
    done(status);
  });
}

// Here first: what is wrong with the request itself is told before anybody acts on it.
void MembershipClient::Forget(NodeId node, const Done& done) {
  ForgetHere(node, [this, node, done](const arrow::Status& status) {
    if (!status.ok()) return done(status);
    TellArbiter(node, [this, node, done](const arrow::Status& told) {
      LogIfError("the arbiter cannot be told that a node is off", told);
      AskOthers(node, /*arbiter_tells=*/arbiter_ != nullptr && told.ok(), done);
    });
  });
}

void MembershipClient::TellArbiter(NodeId node, const Done& done) {
  if (arbiter_ == nullptr) return done(arrow::Status::OK());
  const uint64_t off = region::LoadAdmitLine(region_->own_segment(), node).off;
  const arbiter::OffCertificate certificate = CertificateOf(node, off);
  if (certificate.format_epoch == 0) {
    return done(arrow::Status::Invalid("node ", node.value, " was never seen here"));
  }
  arbiter_->CertifyOff(certificate, done);
}

void MembershipClient::OnOff(const arbiter::OffCertificate& certificate) {
  if (certificate.node.value >= region_->num_segments()) return;
  const region::Segment* const segment = region_->segment({certificate.node.value});
  if (certificate.format_epoch != format::FormatEpochOf(certificate.incarnation)) return;
  // Of memory that was there before: what it held is gone with that. Of memory that is
  // there since: what is mapped here was before, and counts no more either.
  const uint64_t mapped = segment == nullptr ? 0 : segment->header().format_epoch;
  const bool is_own = certificate.node == region_->node();
  if (certificate.format_epoch < mapped ||
      (is_own && certificate.format_epoch != mapped)) {
    return;
  }
  membership_->ForgetIncarnation(certificate.node, certificate.incarnation,
                                 [this](const arrow::Status& status) {
                                   LogIfError("a node that is certified off", status);
                                   if (status.ok()) reclaimer_->Kick();
                                 });
}

void MembershipClient::TellSuspects() {
  if (arbiter_ != nullptr) arbiter_->SetSuspects(Suspects());
}

std::vector<arbiter::Suspect> MembershipClient::Suspects() const {
  std::vector<arbiter::Suspect> suspects;
  for (uint32_t k = 0; k < region_->num_segments(); ++k) {
    const region::Segment* const segment = region_->segment({k});
    if (segment == nullptr) continue;
    const region::AdmitLine own = region::LoadAdmitLine(region_->own_segment(), {k});
    if (own.withdrawn == 0 || own.incarnation != 0 || own.is_off()) continue;
    if (!membership_->IsSilent(NodeId{k})) continue;
    const auto line = region::PeekIncarnation(*segment);
    const bool said_down =
        line && line->state == static_cast<uint32_t>(format::NodeState::kDown);
    if (said_down) continue;  // ended in order: silent, but nobody's suspect
    suspects.push_back(
        {CertificateOf({k}, own.withdrawn), region_->config().host_of({k})});
  }
  return suspects;
}

void MembershipClient::AskOthers(NodeId node, bool arbiter_tells, const Done& done) {
  struct Round {
    size_t unanswered = 1;
    arrow::Status status;
  };
  const auto round = std::make_shared<Round>();
  const auto finish = [round, done] {
    if (--round->unanswered == 0) done(round->status);
  };
  const arrow::Status attached = region_->AttachMissing();
  if (!attached.ok()) return done(attached);
  for (uint32_t k = 0; k < region_->num_segments(); ++k) {
    if (NodeId{k} == node || NodeId{k} == region_->node()) continue;
    const region::Segment* home = region_->segment({k});
    if (home == nullptr) continue;  // never was there: holds nothing
    // Off as well: if it comes back it has to be asked once more.
    if (region::LoadAdmitLine(region_->own_segment(), {k}).is_off()) continue;
    ++round->unanswered;
    flatbuffers::FlatBufferBuilder builder;
    const auto body = format::CreateForgetNodeRequest(builder, node.value).Union();
    transport_->Request({k},
                        format::FinishRequest(&builder, transport_->NextRequestId(),
                                              format::Body::ForgetNodeRequest, body),
                        [round, finish, arbiter_tells](const auto& reply) {
                          const bool is_told =
                              arbiter_tells && IsNodeLost(reply.status());
                          if (!is_told) round->status &= reply.status();
                          finish();
                        });
  }
  finish();
}

bool MembershipClient::Handle(const format::Message& message, const ReplyFn& reply) {
  const auto* forget = message.body_as<format::ForgetNodeRequest>();
  if (forget == nullptr) return false;
  ForgetHere({forget->node()},
             [id = message.request_id(), reply](const arrow::Status& status) {
               reply(format::MakeOutcomeReply(id, status));
             });
  return true;
}

}  // namespace sheaf::daemon
