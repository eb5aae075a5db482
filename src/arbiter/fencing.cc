#include "arbiter/fencing.h"

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "arbiter/arbiter.h"
#include "arbiter/entries.h"
#include "arbiter/etcd_client.h"
#include "arbiter/steady.h"
#include "platform/child_process.h"
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
    const std::vector<Suspect>& suspects, const Look& look) {
  const auto now = look.now;
  if (process_ != nullptr) return LookAtCommand(now);
  ARROW_RETURN_NOT_OK(LookFor(suspects, look));
  for (const Suspect& suspect : suspects) {
    const auto missing = missing_.find(suspect.life.node);
    if (missing == missing_.end() || missing->second.time < options_.time_to_live) {
      continue;
    }
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

// A registration lasts for the time to live at least: looks within it miss none.
arrow::Status Fencing::LookFor(const std::vector<Suspect>& suspects, const Look& look) {
  if (suspects.empty()) {
    missing_.clear();
    return arrow::Status::OK();
  }
  ARROW_ASSIGN_OR_RAISE(const auto entries, etcd_->List(NodeKeys(options_.key_prefix)));
  if (etcd_->revision() < revision_) missing_.clear();
  revision_ = etcd_->revision();
  std::set<std::string> registered;
  for (const EtcdClient::Entry& entry : entries) registered.insert(entry.key);
  std::map<NodeId, Missing> missing;
  for (const Suspect& suspect : suspects) {
    const NodeId node = suspect.life.node;
    if (registered.contains(NodeKey(options_.key_prefix, node))) continue;
    const auto known = missing_.extract(node);
    Missing found = known ? known.mapped() : Missing{Steady(options_.time_to_live)};
    found.time =
        found.steady.Look(look.now, std::to_string(look.registration) + "/" +
                                        std::to_string(suspect.life.incarnation));
    missing.emplace(node, std::move(found));
  }
  missing_ = std::move(missing);
  return arrow::Status::OK();
}

arrow::Result<std::optional<Fencing::Outcome>> Fencing::LookAtCommand(
    std::chrono::nanoseconds now) {
  ARROW_RETURN_NOT_OK(etcd_->KeepAlive(lease_).status());
  const std::optional<int> code = process_->ExitCode();
  if (!code) {
    if (now < deadline_) return std::nullopt;
    return Finish(arrow::Status::IOError(options_.fence_command, " did not end within ",
                                         kCommandTimeout.count(), " s"));
  }
  if (*code != 0) {
    return Finish(arrow::Status::IOError(options_.fence_command, " ended with ", *code));
  }
  return Finish(StoreOff(etcd_, options_.key_prefix, life_));
}

// If so, the key says that it is for us to do, and was taken while the node was missing.
arrow::Result<bool> Fencing::MayBegin(const Suspect& suspect) {
  const NodeId node = suspect.life.node;
  ARROW_ASSIGN_OR_RAISE(const auto off, etcd_->Get(OffKey(options_.key_prefix, node)));
  if (off) {
    const auto held = ParseOffCertificate(off->value);
    if (held.ok() && Covers(*held, suspect.life)) return false;
  }
  ARROW_ASSIGN_OR_RAISE(lease_, etcd_->GrantLease(options_.time_to_live));
  ARROW_ASSIGN_OR_RAISE(
      const bool is_ours,
      etcd_->PutIf(FenceKey(options_.key_prefix, node), 0, ToText(suspect.life), lease_,
                   /*absent=*/NodeKey(options_.key_prefix, node)));
  if (!is_ours) LetGo();  // another daemon does it, or the node is back
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
