#include "simulation/client.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/result.h>
#include <arrow/status.h>

#include "sheaf/handle.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "simulation/cluster.h"
#include "simulation/content.h"
#include "simulation/kernel.h"
#include "simulation/model.h"
#include "simulation/steps.h"

namespace sheaf::simulation {
namespace {

constexpr size_t kHeldMax = 10;
constexpr size_t kSharedPiecesMax = 3;

std::string NameOf(const Step& step) { return "n" + std::to_string(step.a); }

// Bits of Step::c.
bool SharesHeld(const Step& step) { return step.c % 3 == 0; }
bool AddsNew(const Step& step) { return step.c % 4 != 1; }
bool BuildsInPool(const Step& step) { return step.c % 5 == 2; }
bool HoldsOwn(const Step& step) { return step.c % 2 == 0; }
bool WithChecksum(const Step& step) { return step.c % 7 == 0; }

}  // namespace

Client::Client(Cluster* cluster, const std::string& name, uint32_t node)
    : cluster_(cluster), process_(Kernel::Get().Spawn(name, node, [this] { Run(); })) {}

void Client::Post(const Step& step) {
  steps_.push_back(step);
  process_->wake = Kernel::Get().Now();
}

void Client::PostCheck(std::function<void(Client*)> check) {
  checks_.push_back(std::move(check));
  process_->wake = Kernel::Get().Now();
}

std::string Client::Doing() const {
  return process_->name + (is_busy_ ? " in step " + ToString(step_) : " idle") +
         ", last seen at " + std::string(process_->last_point);
}

void Client::Run() {
  for (;;) {
    while (!steps_.empty()) {
      step_ = steps_.front();
      is_busy_ = true;
      steps_.pop_front();
      began_ = Kernel::Get().Now();
      Do(step_);
      is_busy_ = false;
    }
    while (!checks_.empty()) {
      is_busy_ = true;
      began_ = Kernel::Get().Now();
      checks_.front()(this);
      checks_.pop_front();
      is_busy_ = false;
    }
    Kernel::Get().WaitFor({}, std::nullopt);
  }
}

void Client::Abandon() {
  if (change_) {
    change_->name->EndLook(change_->look);
    change_->name->EndChange(change_->effect, Outcome::kUnknown);
  }
  if (look_) look_->first->EndLook(look_->second);
  if (serial_ != 0) cluster_->model().EndCreator(serial_);
}

void Client::Do(const Step& step) {
  cluster_->Say(process_->name + " does " + ToString(step));
  if (step.kind == StepKind::kVerify) return Verify();
  if (step.kind == StepKind::kRelease) {
    Verify();
    if (!held_.empty()) {
      held_.erase(held_.begin() + static_cast<ptrdiff_t>(step.a % held_.size()));
    }
    return;
  }
  if (step.kind == StepKind::kClose) return Close(step.c % 2 == 0);
  if (!Connect()) return;
  switch (step.kind) {
    case StepKind::kPut:
      return Put(step, false);
    case StepKind::kReplace:
      return Put(step, true);
    case StepKind::kGet:
      Look(NameOf(step));
      return;
    case StepKind::kRemove:
      return Remove(step);
    case StepKind::kShare:
      return Share(step);
    case StepKind::kForget:
      return Forget(step.b % cluster_->schedule().nodes);
    default:
      break;
  }
  const auto index = PickHandle(step);
  if (!index) return;
  if (step.kind == StepKind::kOpen) return OpenHandle(*index);
  if (step.kind == StepKind::kDrop) return Drop(*index);
  if (step.kind == StepKind::kKeep) return Keep(*index);
}

/// An error that only a disturbance excuses.
void Client::Tolerate(const arrow::Status& status, const std::string& what) const {
  cluster_->Say(process_->name + ": " + what + ": " + status.ToString());
  if (status.IsIOError() && cluster_->WasDisturbed(began_)) return;
  cluster_->Fail(process_->name + ": " + what + " fails with " + status.ToString());
}

bool Client::Connect() {
  if (store_ != nullptr) return true;
  auto store = Store::Connect(
      {cluster_->schedule().config.name, process_->node, /*relocate=*/true});
  if (!store.ok() && !store.status().IsCapacityError()) {
    Tolerate(store.status(), "connect");
  }
  if (!store.ok()) return false;
  store_ = *std::move(store);
  serial_ = cluster_->NextSerial();
  return true;
}

void Client::Disconnect() { Close(false); }

void Client::Close(bool keeps_tables) {
  Verify();
  if (serial_ != 0) cluster_->model().EndCreator(serial_);
  serial_ = 0;
  std::erase_if(held_, [keeps_tables](const Held& held) {
    return !keeps_tables || held.is_of_pool;
  });
  store_.reset();
}

void Client::Verify() {
  for (const Held& held : held_) {
    const Content& content = cluster_->model().Get(held.content);
    const std::string difference = Difference(*held.table, content);
    if (difference.empty()) continue;
    cluster_->Fail(process_->name + ": a table that it holds has changed: " + difference +
                   ", of " + ToString(content));
  }
}

void Client::Hold(Held held) {
  held_.push_back(std::move(held));
  if (held_.size() <= kHeldMax) return;
  Verify();
  held_.erase(held_.begin());
}

/// Slices of tables that are held, and something new.
std::optional<Client::Composed> Client::Compose(const Step& step) {
  Composed composed;
  Content content;
  arrow::ArrayVector chunks;
  Random random(step.id * uint64_t{1000003} + step.b);
  for (size_t i = 0; SharesHeld(step) && !held_.empty() && i < kSharedPiecesMax; ++i) {
    const Held& held = held_[random.Below(held_.size())];
    const Content& parent = cluster_->model().Get(held.content);
    const size_t which = random.Below(parent.size());
    const Piece& piece = parent[which];
    const uint64_t begin = random.Below(piece.count);
    const uint64_t count = 1 + random.Below(piece.count - begin);
    content.push_back({piece.source, piece.begin + begin, count});
    chunks.push_back(
        held.table->column(0)
            ->chunk(static_cast<int>(which))
            ->Slice(static_cast<int64_t>(begin), static_cast<int64_t>(count)));
  }
  if (AddsNew(step) || chunks.empty()) {
    composed.is_of_pool = BuildsInPool(step);
    const Piece piece{++cluster_->model().last_source, 0, step.b};
    auto chunk = MakeChunk(piece, composed.is_of_pool ? store_->memory_pool()
                                                      : arrow::default_memory_pool());
    if (chunk == nullptr) return std::nullopt;
    content.push_back(piece);
    chunks.push_back(std::move(chunk));
  }
  composed.content =
      cluster_->model().Add(std::move(content), node(), /*shares=*/SharesHeld(step));
  composed.table = MakeTable(std::move(chunks));
  return composed;
}

void Client::Put(const Step& step, bool replace) {
  auto composed = Compose(step);
  if (!composed) return;
  const std::string name = NameOf(step);
  NameModel& model = cluster_->model().names[name];
  const NameModel::Look look = model.BeginLook();
  change_ = {&model, look, composed->content};
  model.BeginChange(composed->content, look);
  PutOptions options;
  options.replace = replace;
  options.checksum = WithChecksum(step);
  const arrow::Status status = store_->Put(name, *composed->table, options).status();
  change_.reset();
  const std::set<ContentId> seen = model.EndLook(look);
  Outcome outcome = Outcome::kRefused;
  if (status.ok()) outcome = Outcome::kDone;
  if (status.IsIOError()) outcome = Outcome::kUnknown;
  model.EndChange(composed->content, outcome);
  JudgePut(status, replace, seen, name);
  // Its writer may go on reading it, whatever becomes of the object.
  if (composed->is_of_pool && HoldsOwn(step)) {
    Hold({composed->table, composed->content, true});
  }
}

void Client::JudgePut(const arrow::Status& status, bool replace,
                      const std::set<ContentId>& seen, const std::string& name) {
  const auto fail = [&](const std::string& what) {
    cluster_->Fail(process_->name + ": put of '" + name + "' " + what +
                   ", which leads to " + cluster_->model().Describe(seen));
  };
  cluster_->Say(process_->name + ": put of '" + name + "': " + status.ToString());
  if (status.ok()) {
    if (!replace && !seen.contains(kNothing)) fail("replaces without being told to");
  } else if (status.IsAlreadyExists()) {
    if (replace || seen == std::set<ContentId>{kNothing}) fail("says that it exists");
  } else if (!status.IsOutOfMemory() && !status.IsCapacityError()) {
    Tolerate(status, "put of '" + name + "'");
  }
}

std::optional<ContentId> Client::Look(const std::string& name) {
  NameModel& model = cluster_->model().names[name];
  const NameModel::Look look = model.BeginLook();
  look_ = {&model, look};
  const auto table = store_->Get(name);
  look_.reset();
  const std::set<ContentId> seen = model.EndLook(look);
  const std::string expected = cluster_->model().Describe(seen);
  if (table.status().IsKeyError() && !IsStaleGeneration(table.status())) {
    if (seen.contains(kNothing)) return kNothing;
    cluster_->Fail(process_->name + ": '" + name + "' is lost, expected " + expected);
  }
  if (!table.ok()) {
    if (IsDamaged(table.status())) {
      if (const auto torn = cluster_->model().Torn(seen)) return torn;
    }
    Tolerate(table.status(), "get of '" + name + "'");
    return std::nullopt;
  }
  std::string difference = "nothing expected";
  for (const ContentId id : seen) {
    if (id == kNothing) continue;
    difference = Difference(**table, cluster_->model().Get(id));
    if (!difference.empty()) continue;
    Hold({*table, id});
    return id;
  }
  cluster_->Fail(process_->name + ": '" + name + "' has " + difference + "; expected " +
                 expected);
}

void Client::Remove(const Step& step) {
  const std::string name = NameOf(step);
  NameModel& model = cluster_->model().names[name];
  const NameModel::Look look = model.BeginLook();
  change_ = {&model, look, kNothing};
  model.BeginChange(kNothing, look);
  const arrow::Status status = store_->Remove(name);
  change_.reset();
  const std::set<ContentId> seen = model.EndLook(look);
  Outcome outcome = Outcome::kRefused;
  if (status.ok()) outcome = Outcome::kDone;
  if (status.IsIOError()) outcome = Outcome::kUnknown;
  model.EndChange(kNothing, outcome);
  cluster_->Say(process_->name + ": remove of '" + name + "': " + status.ToString());
  if (status.ok()) {
    if (seen != std::set<ContentId>{kNothing}) return;
    cluster_->Fail(process_->name + ": removes '" + name + "', which is not there");
  }
  if (status.IsKeyError()) {
    if (seen.contains(kNothing)) return;
    cluster_->Fail(process_->name + ": cannot find '" + name +
                   "' to remove it, which is " + cluster_->model().Describe(seen));
  }
  Tolerate(status, "remove of '" + name + "'");
}

void Client::Share(const Step& step) {
  const auto composed = Compose(step);
  if (!composed) return;
  // Not kept from the start: if this process died before it knew the handle, nobody could
  // drop the object any more.
  ShareOptions options;
  options.checksum = WithChecksum(step);
  const auto receipt = store_->Share(*composed->table, options);
  if (receipt.ok()) {
    cluster_->model().handles.push_back(
        {receipt->handle, composed->content, serial_, Life::kAlive, false});
  } else if (!receipt.status().IsOutOfMemory() && !receipt.status().IsCapacityError()) {
    Tolerate(receipt.status(), "share");
  }
}

std::optional<size_t> Client::PickHandle(const Step& step) const {
  const size_t count = cluster_->model().handles.size();
  if (count == 0) return std::nullopt;
  constexpr size_t kRecent = 8;
  return count - 1 - step.b % std::min(count, kRecent);
}

void Client::OpenHandle(size_t index) {
  const HandleModel before = cluster_->model().handles[index];
  const auto table = store_->Open(before.handle);
  const HandleModel after = cluster_->model().handles[index];
  const Content content = cluster_->model().Get(before.content);
  if (table.ok()) {
    const std::string difference = Difference(**table, content);
    if (!difference.empty()) {
      cluster_->Fail(process_->name + ": handle has " + difference + "; expected " +
                     ToString(content));
    }
    if (before.life == Life::kGone) {
      cluster_->Fail(process_->name +
                     ": opens an object that is gone: " + ToString(content));
    }
    return Hold({*table, before.content});
  }
  if (IsDamaged(table.status()) && cluster_->model().Torn({before.content})) return;
  if (!IsStaleGeneration(table.status())) return Tolerate(table.status(), "open");
  if (after.life == Life::kAlive) {
    cluster_->Fail(process_->name + ": an unnamed object is lost: " + ToString(content));
  }
}

/// Only true words are safe.
void Client::Forget(uint32_t node) {
  if (!cluster_->IsOff(node)) return;
  cluster_->model().Forget(node);
  const arrow::Status status = store_->ForgetNode(node);
  cluster_->Say(process_->name + ": forgets node " + std::to_string(node) + ": " +
                status.ToString());
  // Invalid: its heart beat a moment ago, or beats again.
  if (!status.ok() && !status.IsInvalid()) Tolerate(status, "forget");
}

// Others may add handles meanwhile: no reference to one outlasts a call.
void Client::Drop(size_t index) {
  Model& model = cluster_->model();
  const HandleModel before = model.handles[index];
  if (before.life != Life::kGone) model.handles[index].life = Life::kDoubtful;
  const arrow::Status status = store_->Drop(before.handle);
  cluster_->Say(process_->name + ": drop of " + ToString(model.Get(before.content)) +
                ": " + status.ToString());
  if (!status.ok()) return Tolerate(status, "drop");
  model.handles[index].life = Life::kGone;
}

void Client::Keep(size_t index) {
  cluster_->model().handles[index].keep_is_known = false;
  const Handle object = cluster_->model().handles[index].handle;
  const arrow::Status status = store_->Keep(object);
  cluster_->Say(
      process_->name + ": keep of " +
      ToString(cluster_->model().Get(cluster_->model().handles[index].content)) + ": " +
      status.ToString());
  HandleModel& handle = cluster_->model().handles[index];
  if (status.ok()) {
    handle.keep = handle.keep_is_known = true;
  } else if (IsStaleGeneration(status)) {
    handle.keep_is_known = true;
    if (handle.life == Life::kAlive) {
      cluster_->Fail(process_->name + ": an unnamed object is lost: " +
                     ToString(cluster_->model().Get(handle.content)));
    }
  } else {
    Tolerate(status, "keep");
  }
}

}  // namespace sheaf::simulation
