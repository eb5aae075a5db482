#include "arbiter/fencing.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "arbiter/arbiter.h"
#include "arbiter/entries.h"
#include "arbiter/etcd_client.h"
#include "platform/child_process.h"
#include "platform/process.h"
#include "sheaf/types.h"

namespace sheaf::arbiter {
namespace {

/// A board that powers a host off takes seconds.
constexpr std::chrono::seconds kCommandTimeout{60};
constexpr std::chrono::seconds kRetryAfter{30};

}  // namespace

Fencing::~Fencing() {
  if (process_ != nullptr) (void)Finish(arrow::Status::OK());
}

arrow::Result<std::optional<Fencing::Outcome>> Fencing::Advance(
    const std::vector<Suspect>& suspects) {
  if (process_ != nullptr) return LookAtCommand();
  for (const Suspect& suspect : suspects) {
    const auto now = platform::BootTime();
    if (not_before_[suspect.life.node] > now) continue;
    ARROW_ASSIGN_OR_RAISE(const bool may_begin, MayBegin(suspect));
    if (!may_begin) continue;
    not_before_[suspect.life.node] = now + kRetryAfter;
    life_ = suspect.life;
    deadline_ = now + kCommandTimeout;
    auto process = platform::ChildProcess::Start(
        {options_.fence_command, std::to_string(life_.node.value), suspect.host});
    if (!process.ok()) return Finish(process.status());
    process_ = std::move(*process);
    break;
  }
  return std::nullopt;
}

arrow::Result<std::optional<Fencing::Outcome>> Fencing::LookAtCommand() {
  ARROW_RETURN_NOT_OK(etcd_->KeepAlive(lease_).status());
  const std::optional<int> code = process_->ExitCode();
  if (!code) {
    if (platform::BootTime() < deadline_) return std::nullopt;
    return Finish(arrow::Status::IOError(options_.fence_command, " did not end within ",
                                         kCommandTimeout.count(), " s"));
  }
  if (*code != 0) {
    return Finish(arrow::Status::IOError(options_.fence_command, " ended with ", *code));
  }
  return Finish(StoreOff(etcd_, options_.key_prefix, life_));
}

// If so, the key says that it is for us to do.
arrow::Result<bool> Fencing::MayBegin(const Suspect& suspect) {
  const NodeId node = suspect.life.node;
  ARROW_ASSIGN_OR_RAISE(const auto daemon,
                        etcd_->Get(NodeKey(options_.key_prefix, node)));
  if (daemon) return false;  // alive, for etcd
  ARROW_ASSIGN_OR_RAISE(const auto off, etcd_->Get(OffKey(options_.key_prefix, node)));
  if (off) {
    const auto held = ParseOffCertificate(off->value);
    if (held.ok() && Covers(*held, suspect.life)) return false;
  }
  ARROW_ASSIGN_OR_RAISE(lease_, etcd_->GrantLease(options_.time_to_live));
  ARROW_ASSIGN_OR_RAISE(
      const bool is_ours,
      etcd_->PutIf(FenceKey(options_.key_prefix, node), 0, ToText(suspect.life), lease_));
  if (!is_ours) LetGo();  // another daemon does it
  return is_ours;
}

// The certificate is there before others may begin.
Fencing::Outcome Fencing::Finish(const arrow::Status& status) {
  process_.reset();
  LetGo();
  return {life_, status};
}

void Fencing::LetGo() {
  (void)etcd_->RevokeLease(std::exchange(lease_, 0));  // else it goes by itself
}

}  // namespace sheaf::arbiter
