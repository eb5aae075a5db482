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
#include "arbiter/steady.h"
#include "platform/process.h"

namespace sheaf::arbiter {
namespace {

/// Thrice in the time to live: two answers may get lost.
std::chrono::milliseconds PeriodOf(const ArbiterOptions& options) {
  return std::chrono::milliseconds(options.time_to_live) / 3;
}

/// A registration that nobody renews is gone by then, also if etcd gave it its time anew
/// meanwhile; so is that of a daemon which was refused, since our heart beats.
std::chrono::milliseconds TakenAfter(const ArbiterOptions& options) {
  return 2 * (options.time_to_live + options.suspect_after);
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
        taken_(options_.time_to_live),
        post_(std::move(post)),
        events_(std::move(events)) {}

  arrow::Status RegisterFirst();
  uint64_t last_format_epoch() const { return last_format_epoch_; }
  void SetFormatEpoch(uint64_t format_epoch);
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
  bool LoopGoesOn();
  arrow::Status KeepRegistered();
  arrow::Status Renew();
  arrow::Status Register();
  arrow::Status TellOffs();
  arrow::Status TellFormatEpoch();
  arrow::Status Fence();
  arrow::Status ElectLeader();
  void Report(const arrow::Status& status);
  void Post(std::function<void()> event);

  const ArbiterOptions options_;
  const Daemon self_;
  // The thread's, once it runs.
  std::unique_ptr<EtcdClient> etcd_;
  int64_t lease_ = 0;               ///< 0: not registered.
  uint64_t last_format_epoch_ = 0;  ///< At the start.
  bool has_told_epoch_ = false;     ///< Since this registration.
  std::optional<arrow::Status> reported_;
  Fencing fencing_;
  Steady taken_;              ///< Another daemon is registered as our node.
  std::string other_;         ///< That registration.
  bool loop_runs_ = false;    ///< Before, a start may take its time.
  int unanswered_looks_ = 0;  ///< At the question that the loop was asked last.
  std::optional<std::chrono::nanoseconds> loop_asked_at_;
  const PostFn post_;
  const Events events_;
  /// What was posted and comes late finds that we are gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool must_stop_ = false;                       // Guarded by mutex_.
  uint64_t format_epoch_ = 0;                    // Guarded by mutex_.
  bool wants_to_lead_ = false;                   // Guarded by mutex_.
  bool may_lead_ = false;                        // Guarded by mutex_.
  bool loop_answered_ = false;                   // Guarded by mutex_.
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
      other_ = std::to_string(entry->revision);
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
  has_told_epoch_ = false;
  return arrow::Status::OK();
}

arrow::Status Arbiter::Impl::RegisterFirst() {
  const auto deadline =
      platform::BootTime() + options_.time_to_live + std::chrono::seconds(1);
  for (;;) {
    arrow::Status status = Register();
    if (!status.IsAlreadyExists()) {
      if (status.ok()) {
        status = LoadFormatEpoch(etcd_.get(), options_.key_prefix, self_.node)
                     .Value(&last_format_epoch_);
      }
      Report(status);
      return arrow::Status::OK();
    }
    if (platform::BootTime() > deadline) return status;
    platform::SleepFor(PeriodOf(options_));
  }
}

// It may be no more than what is left of one that ended, such as our own of another boot,
// or of one that looks whether our heart beats, and is refused then: it is gone soon.
arrow::Status Arbiter::Impl::KeepRegistered() {
  const arrow::Status status = Renew();
  if (!status.IsAlreadyExists()) {
    taken_.Reset();
  } else if (taken_.Look(platform::BootTime(), other_) > TakenAfter(options_)) {
    Post([this, status] { events_.on_taken(status); });
  }
  return status;
}

arrow::Status Arbiter::Impl::Renew() {
  if (lease_ != 0) {
    ARROW_ASSIGN_OR_RAISE(const bool is_alive, etcd_->KeepAlive(lease_));
    ARROW_ASSIGN_OR_RAISE(const auto entry,
                          etcd_->Get(NodeKey(options_.key_prefix, self_.node)));
    if (is_alive && entry && entry->lease == lease_) return arrow::Status::OK();
    lease_ = 0;  // We, or etcd, were away for too long.
  }
  return Register();
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

// Once in each registration: an etcd that lost all learns it again.
arrow::Status Arbiter::Impl::TellFormatEpoch() {
  uint64_t epoch = 0;
  {
    const std::lock_guard lock(mutex_);
    epoch = format_epoch_;
  }
  if (epoch == 0 || has_told_epoch_) return arrow::Status::OK();
  ARROW_RETURN_NOT_OK(
      RaiseFormatEpoch(etcd_.get(), options_.key_prefix, self_.node, epoch));
  has_told_epoch_ = true;
  return arrow::Status::OK();
}

arrow::Status Arbiter::Impl::Fence() {
  if (options_.fence_command.empty()) return arrow::Status::OK();
  std::vector<Suspect> suspects;
  {
    const std::lock_guard lock(mutex_);
    suspects = suspects_;
  }
  ARROW_ASSIGN_OR_RAISE(const auto outcome,
                        fencing_.Advance(suspects, {platform::BootTime(), lease_}));
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

// Asked by something to run. One look without an answer says nothing: this thread may
// have been away as long as the loop.
bool Arbiter::Impl::LoopGoesOn() {
  constexpr int kLooksMin = 2;
  const auto now = platform::BootTime();
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(loop_answered_, false)) {
      loop_runs_ = true;
      loop_asked_at_.reset();
    }
  }
  if (!loop_asked_at_) {
    loop_asked_at_ = now;
    unanswered_looks_ = 0;
    Post([this] {
      const std::lock_guard lock(mutex_);
      loop_answered_ = true;
    });
    return true;
  }
  ++unanswered_looks_;
  return !loop_runs_ || unanswered_looks_ < kLooksMin ||
         now - *loop_asked_at_ < options_.suspect_after;
}

// A daemon that hangs says nothing, and so is registered no more once the time is over.
void Arbiter::Impl::Turn() {
  if (!LoopGoesOn()) {
    fencing_.LoseSight();
    return Report(arrow::Status::IOError("this daemon did nothing for so long that its ",
                                         "registration was not renewed"));
  }
  arrow::Status status = KeepRegistered();
  if (status.ok()) status = TellFormatEpoch();
  if (status.ok()) status = ElectLeader();
  if (!status.ok()) {
    const std::lock_guard lock(mutex_);
    may_lead_ = true;  // By the rules in memory.
  }
  if (status.ok()) status = Fence();
  if (!status.ok()) fencing_.LoseSight();
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

void Arbiter::Impl::SetFormatEpoch(uint64_t format_epoch) {
  const std::lock_guard lock(mutex_);
  format_epoch_ = format_epoch;
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

uint64_t Arbiter::last_format_epoch() const { return impl_->last_format_epoch(); }

void Arbiter::SetFormatEpoch(uint64_t format_epoch) {
  impl_->SetFormatEpoch(format_epoch);
}

void Arbiter::CertifyOff(const OffCertificate& certificate, const DoneFn& done) {
  impl_->CertifyOff(certificate, done);
}

void Arbiter::SetSuspects(std::vector<Suspect> suspects) {
  impl_->SetSuspects(std::move(suspects));
}

bool Arbiter::MayLead() { return impl_->MayLead(); }
void Arbiter::LetOthersLead() { impl_->LetOthersLead(); }

}  // namespace sheaf::arbiter
