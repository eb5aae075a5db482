#include "arbiter/arbiter.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "arbiter/entries.h"
#include "arbiter/etcd_client.h"
#include "arbiter/fencing.h"
#include "platform/process.h"

namespace sheaf::arbiter {
namespace {

/// Thrice in the time to live: two answers may get lost.
std::chrono::milliseconds PeriodOf(const ArbiterOptions& options) {
  return std::chrono::milliseconds(options.time_to_live) / 3;
}

}  // namespace

class Arbiter::Impl {
 public:
  Impl(ArbiterOptions options, Daemon self, std::unique_ptr<EtcdClient> etcd, PostFn post,
       Events events)
      : options_(std::move(options)),
        self_(std::move(self)),
        etcd_(std::move(etcd)),
        fencing_(options_, etcd_.get()),
        post_(std::move(post)),
        events_(std::move(events)) {}

  arrow::Status RegisterFirst();
  void Run() {
    thread_ = std::thread([this] { Loop(); });
  }
  void Stop();
  void Ask(std::function<void()> request);
  void CertifyOff(const OffCertificate& certificate, const DoneFn& done);
  void SetSuspects(std::vector<Suspect> suspects);
  bool MayLead();
  void LetOthersLead();

 private:
  void Loop();
  void Turn();
  arrow::Status KeepRegistered();
  arrow::Status Register();
  arrow::Status TellOffs();
  arrow::Status Fence();
  arrow::Status ElectLeader();
  void Report(const arrow::Status& status);
  void Post(std::function<void()> event);

  const ArbiterOptions options_;
  const Daemon self_;
  // The thread's, once it runs.
  std::unique_ptr<EtcdClient> etcd_;
  int64_t lease_ = 0;  ///< 0: not registered.
  std::optional<arrow::Status> reported_;
  Fencing fencing_;
  const PostFn post_;
  const Events events_;
  /// What was posted and comes late finds that we are gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool must_stop_ = false;                       // Guarded by mutex_.
  bool wants_to_lead_ = false;                   // Guarded by mutex_.
  bool may_lead_ = false;                        // Guarded by mutex_.
  std::vector<std::function<void()>> requests_;  // Guarded by mutex_.
  std::vector<Suspect> suspects_;                // Guarded by mutex_.
  std::thread thread_;
};

void Arbiter::Impl::Post(std::function<void()> event) {
  post_([alive = std::weak_ptr<bool>(alive_), event = std::move(event)] {
    if (!alive.expired()) event();
  });
}

// A daemon of the same boot of the same host is one that ended: we hold the segment's
// lock.
arrow::Status Arbiter::Impl::Register() {
  const std::string key = NodeKey(options_.key_prefix, self_.node);
  ARROW_ASSIGN_OR_RAISE(const auto entry, etcd_->Get(key));
  if (entry) {
    const auto other = ParseDaemon(entry->value);
    if (other.ok() && other->boot != self_.boot) {
      return arrow::Status::AlreadyExists(
          "node ", self_.node.value, " is registered in etcd by a daemon on host '",
          other->host, "', key ", key,
          ": a node is on one host at a time; end that daemon first");
    }
  }
  ARROW_ASSIGN_OR_RAISE(const int64_t lease, etcd_->GrantLease(options_.time_to_live));
  ARROW_ASSIGN_OR_RAISE(const bool is_ours, etcd_->PutIf(key, entry ? entry->revision : 0,
                                                         ToText(self_), lease));
  if (!is_ours) return arrow::Status::IOError("another daemon registers as this node");
  lease_ = lease;
  return arrow::Status::OK();
}

arrow::Status Arbiter::Impl::RegisterFirst() {
  const auto deadline =
      platform::BootTime() + options_.time_to_live + std::chrono::seconds(1);
  for (;;) {
    const arrow::Status status = Register();
    if (!status.IsAlreadyExists()) {
      Report(status);
      return arrow::Status::OK();
    }
    if (platform::BootTime() > deadline) return status;
    platform::SleepFor(PeriodOf(options_));
  }
}

arrow::Status Arbiter::Impl::KeepRegistered() {
  if (lease_ != 0) {
    ARROW_ASSIGN_OR_RAISE(const bool is_alive, etcd_->KeepAlive(lease_));
    ARROW_ASSIGN_OR_RAISE(const auto entry,
                          etcd_->Get(NodeKey(options_.key_prefix, self_.node)));
    if (is_alive && entry && entry->lease == lease_) return arrow::Status::OK();
    lease_ = 0;  // We, or etcd, were away for too long.
  }
  const arrow::Status status = Register();
  if (status.IsAlreadyExists()) Post([this, status] { events_.on_taken(status); });
  return status;
}

arrow::Status Arbiter::Impl::TellOffs() {
  ARROW_ASSIGN_OR_RAISE(const auto entries, etcd_->List(OffKeys(options_.key_prefix)));
  arrow::Status status;
  for (const EtcdClient::Entry& entry : entries) {
    const auto certificate = ParseOffCertificate(entry.value);
    if (certificate.ok()) {
      Post([this, off = *certificate] { events_.on_off(off); });
    } else {
      status &= certificate.status().WithMessage(entry.key, ": ",
                                                 certificate.status().message());
    }
  }
  return status;
}

arrow::Status Arbiter::Impl::Fence() {
  if (options_.fence_command.empty()) return arrow::Status::OK();
  std::vector<Suspect> suspects;
  {
    const std::lock_guard lock(mutex_);
    suspects = suspects_;
  }
  ARROW_ASSIGN_OR_RAISE(const auto outcome, fencing_.Advance(suspects));
  if (outcome) {
    Post([this, outcome = *outcome] { events_.on_fenced(outcome.life, outcome.status); });
  }
  return arrow::Status::OK();
}

// The key goes with the registration, so that a daemon that is silent leads no more. One
// of the same boot of the same host is one of ours that ended.
arrow::Status Arbiter::Impl::ElectLeader() {
  bool wants = false;
  {
    const std::lock_guard lock(mutex_);
    wants = wants_to_lead_;
  }
  const std::string key = LeaderKey(options_.key_prefix);
  ARROW_ASSIGN_OR_RAISE(const auto entry, etcd_->Get(key));
  bool leads = entry && entry->lease == lease_;
  if (wants && !leads) {
    const auto other = entry ? ParseDaemon(entry->value) : self_;
    const bool is_free =
        !other.ok() || (other->node == self_.node && other->boot == self_.boot);
    if (is_free) {
      ARROW_ASSIGN_OR_RAISE(
          leads, etcd_->PutIf(key, entry ? entry->revision : 0, ToText(self_), lease_));
    }
  } else if (!wants && leads) {
    ARROW_RETURN_NOT_OK(etcd_->RemoveIf(key, entry->revision).status());
    leads = false;
  }
  const std::lock_guard lock(mutex_);
  may_lead_ = leads;
  return arrow::Status::OK();
}

void Arbiter::Impl::Report(const arrow::Status& status) {
  if (reported_ && reported_->ok() == status.ok()) return;
  reported_ = status;
  Post([this, status] { events_.on_change(status); });
}

void Arbiter::Impl::Turn() {
  arrow::Status status = KeepRegistered();
  if (status.ok()) status = ElectLeader();
  if (!status.ok()) {
    const std::lock_guard lock(mutex_);
    may_lead_ = true;  // By the rules in memory.
  }
  if (status.ok()) status = Fence();
  if (status.ok()) status = TellOffs();
  Report(status);
}

void Arbiter::Impl::Loop() {
  std::unique_lock lock(mutex_);
  while (!must_stop_) {
    const auto requests = std::exchange(requests_, {});
    lock.unlock();
    for (const auto& request : requests) request();
    Turn();
    lock.lock();
    changed_.wait_for(lock, PeriodOf(options_),
                      [this] { return must_stop_ || !requests_.empty(); });
  }
}

void Arbiter::Impl::Ask(std::function<void()> request) {
  const std::lock_guard lock(mutex_);
  requests_.push_back(std::move(request));
  changed_.notify_one();
}

void Arbiter::Impl::CertifyOff(const OffCertificate& certificate, const DoneFn& done) {
  Ask([this, certificate, done] {
    const arrow::Status status = StoreOff(etcd_.get(), options_.key_prefix, certificate);
    Post([done, status] { done(status); });
  });
}

// Looked at in the next turn, which is soon enough.
void Arbiter::Impl::SetSuspects(std::vector<Suspect> suspects) {
  const std::lock_guard lock(mutex_);
  suspects_ = std::move(suspects);
}

bool Arbiter::Impl::MayLead() {
  const std::lock_guard lock(mutex_);
  if (!wants_to_lead_) {
    wants_to_lead_ = true;
    requests_.emplace_back([] {});  // a turn at once
    changed_.notify_one();
  }
  return may_lead_;
}

void Arbiter::Impl::LetOthersLead() {
  const std::lock_guard lock(mutex_);
  wants_to_lead_ = false;
  may_lead_ = false;
}

void Arbiter::Impl::Stop() {
  {
    const std::lock_guard lock(mutex_);
    must_stop_ = true;
    changed_.notify_one();
  }
  thread_.join();
  alive_.reset();
  if (lease_ != 0) (void)etcd_->RevokeLease(lease_);  // else it goes by itself
}

arrow::Result<std::unique_ptr<Arbiter>> Arbiter::Start(const ArbiterOptions& options,
                                                       const Daemon& self, PostFn post,
                                                       Events events) {
  ARROW_ASSIGN_OR_RAISE(auto etcd, EtcdClient::Make(options.etcd, options.etcd_timeout));
  auto impl = std::make_unique<Impl>(options, self, std::move(etcd), std::move(post),
                                     std::move(events));
  ARROW_RETURN_NOT_OK(impl->RegisterFirst());
  impl->Run();
  return std::unique_ptr<Arbiter>(new Arbiter(std::move(impl)));
}

Arbiter::Arbiter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Arbiter::~Arbiter() { impl_->Stop(); }

void Arbiter::CertifyOff(const OffCertificate& certificate, const DoneFn& done) {
  impl_->CertifyOff(certificate, done);
}

void Arbiter::SetSuspects(std::vector<Suspect> suspects) {
  impl_->SetSuspects(std::move(suspects));
}

bool Arbiter::MayLead() { return impl_->MayLead(); }
void Arbiter::LetOthersLead() { impl_->LetOthersLead(); }

}  // namespace sheaf::arbiter
