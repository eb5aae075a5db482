#include "daemon/server.h"

#include <signal.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "arbiter/arbiter.h"
#include "base/fault_point.h"
#include "daemon/catalog_client.h"
#include "daemon/doorbell.h"
#include "daemon/event_loop.h"
#include "daemon/guest_server.h"
#include "daemon/home.h"
#include "daemon/home_client.h"
#include "daemon/home_life.h"
#include "daemon/leadership.h"
#include "daemon/log.h"
#include "daemon/membership.h"
#include "daemon/membership_client.h"
#include "daemon/node_lines.h"
#include "daemon/publisher.h"
#include "daemon/reclaimer.h"
#include "daemon/remote_homes.h"
#include "daemon/ring_transport.h"
#include "daemon/session_server.h"
#include "daemon/session_service.h"
#include "daemon/transport.h"
#include "daemon/unix_transport.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "format/message.h"
#include "platform/cache.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/shared_word.h"
#include "region/cluster_config.h"
#include "region/etcd_config.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "region/served_check.h"
#include "region/which_node.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

// docs/protocol.md L13.
constexpr std::chrono::milliseconds kMembershipPeriod{region::kMembershipPeriodMs};
constexpr std::chrono::seconds kSweepPeriod{1};
constexpr std::chrono::seconds kSuspectsPeriod{1};
/// Page size that is shown where the system does not tell.
constexpr uint64_t kBasePageBytes = 4096;

}  // namespace

class Server::Impl {
 public:
  explicit Impl(const ServerOptions& options) : options_(options) {}
  ~Impl() { LogIfError("shutdown", Close()); }

  arrow::Status Start();
  arrow::Status Run();
  arrow::Status Close();
  void StopOnSignals(bool hang_up);
  void Stop() { loop_.Stop(); }

 private:
  arrow::Status Lock();
  arrow::Status AskArbiter();
  arrow::Status OpenSegment();
  arrow::Status StartServices();
  arrow::Status StartTransport(const HomeLife& life);
  void StartTimers();
  void Beat();
  [[noreturn]] void EndAtOnce() const;
  void Every(std::chrono::nanoseconds period, const std::function<void()>& action);
  void OnNodeMessage(NodeId from, const format::Message& message, const ReplyFn& reply);
  uint64_t Rejoin(uint64_t off);
  std::unique_ptr<Leadership> MakeLeadership();
  void RetireLosers(const directory::CatalogLeader& leader);
  uint64_t FindBackingPageSize() const;
  void PublishStatistics();

  const region::ClusterConfig& config() const { return options_.config; }

  // In order of construction: what is below uses what is above.
  ServerOptions options_;
  EventLoop loop_;
  std::optional<platform::FileLock> lock_;          ///< Of the node's sockets and logs.
  std::optional<platform::FileLock> segment_lock_;  ///< Of its memory.
  std::unique_ptr<arbiter::Arbiter> arbiter_;       ///< Null without etcd.
  std::shared_ptr<region::Region> region_;
  std::unique_ptr<NodeLines> lines_;
  std::unique_ptr<Home> home_;
  std::unique_ptr<Membership> membership_;
  std::unique_ptr<Doorbell> bell_;  ///< Null without rings.
  std::unique_ptr<Transport> transport_;
  UnixTransport* sockets_ = nullptr;  ///< The transport, if it is one over sockets.
  std::unique_ptr<CatalogClient> catalog_;
  std::unique_ptr<Leadership> leadership_;
  std::unique_ptr<Reclaimer> reclaimer_;
  std::unique_ptr<HomeClient> homes_;
  std::unique_ptr<MembershipClient> members_;
  std::unique_ptr<Publisher> publisher_;
  std::unique_ptr<SessionService> service_;
  std::unique_ptr<GuestServer> guests_;
  std::unique_ptr<RemoteHomes> remotes_;
  std::unique_ptr<SessionServer> sessions_;
  uint64_t backing_page_bytes_ = 0;
};

arrow::Status Server::Impl::Start() {
  ARROW_RETURN_NOT_OK(config().Validate());
  const std::string& file = options_.file;
  ARROW_RETURN_NOT_OK(region::CheckIsNode(config(), options_.node, file));
  if (!config().IsLocal(options_.node)) {
    return arrow::Status::Invalid(region::OtherHostText(config(), options_.node),
                                  ": see `host` in ", file);
  }
  PassFaultPoint("daemon.start.before-lock");
  ARROW_RETURN_NOT_OK(Lock());
  PassFaultPoint("daemon.start.after-lock");
  ARROW_RETURN_NOT_OK(AskArbiter());
  ARROW_RETURN_NOT_OK(OpenSegment());
  ARROW_RETURN_NOT_OK(StartServices());
  StartTimers();
  PublishStatistics();
  PassFaultPoint("daemon.start.before-listen");
  ARROW_RETURN_NOT_OK(sessions_->Listen());
  remotes_->Start();
  return arrow::Status::OK();
}

arrow::Status Server::Impl::Lock() {
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(config().runtime_folder));
  auto lock = platform::FileLock::Acquire(config().lock_path(options_.node));
  if (lock.status().IsAlreadyExists()) {
    return arrow::Status::AlreadyExists("a daemon of node ", options_.node.value,
                                        " runs already: ", lock.status().message());
  }
  ARROW_RETURN_NOT_OK(lock.status());
  lock_.emplace(std::move(*lock));
  ARROW_ASSIGN_OR_RAISE(segment_lock_, region::LockSegment(config(), options_.node));
  return arrow::Status::OK();
}

// Before anything is written to memory that a daemon on another host may serve.
arrow::Status Server::Impl::AskArbiter() {
  const region::EtcdConfig& etcd = config().etcd;
  if (!etcd.is_used()) return arrow::Status::OK();
  arbiter::ArbiterOptions options;
  options.etcd = etcd.access;
  options.key_prefix =
      etcd.prefix + "/" + config().name + "-" + std::to_string(config().cluster_id);
  options.time_to_live = std::chrono::seconds(etcd.time_to_live_s);
  options.suspect_after = std::chrono::milliseconds(config().suspect_after_ms);
  options.fence_command = etcd.fence_command;
  const arbiter::Daemon self{options_.node, platform::HostName(), platform::BootNumber()};
  arbiter::Arbiter::Events events;
  events.on_off = [this](const arbiter::OffCertificate& off) { members_->OnOff(off); };
  events.on_change = [](const arrow::Status& status) {
    Log(status.ok() ? LogLevel::kInfo : LogLevel::kWarning, "etcd: ",
        status.ok() ? "registered" : status.message() + "; going on without it");
  };
  events.on_taken = [this](const arrow::Status& status) {
    Log(LogLevel::kError, status.message());
    Stop();
  };
  events.on_fenced = [](const arbiter::OffCertificate& life,
                        const arrow::Status& status) {
    if (status.ok()) {
      Log(LogLevel::kWarning, "node ", life.node.value, " is fenced, incarnation ",
          life.incarnation);
    } else {
      Log(LogLevel::kError, "node ", life.node.value,
          " is not fenced: ", status.message());
    }
  };
  ARROW_ASSIGN_OR_RAISE(
      arbiter_, arbiter::Arbiter::Start(
                    options, self,
                    [this](std::function<void()> event) { loop_.Post(std::move(event)); },
                    std::move(events)));
  return arrow::Status::OK();
}

arrow::Status Server::Impl::OpenSegment() {
  const NodeId node = options_.node;
  ARROW_ASSIGN_OR_RAISE(
      const auto origin,
      region::PrepareSegment(config(), node,
                             arbiter_ == nullptr ? 0 : arbiter_->last_format_epoch()));
  if (origin == region::SegmentOrigin::kKept) {
    Log(LogLevel::kInfo, "going on with what is in ",
        region::SegmentText(config(), {node.value}));
  }
  std::error_code ignored;
  if (std::filesystem::exists(config().socket_path(node), ignored)) {
    Log(LogLevel::kWarning, "taking over the socket that a crash left at ",
        config().socket_path(node));
  }
  PassFaultPoint("daemon.start.after-prepare");
  ARROW_ASSIGN_OR_RAISE(
      region_, region::Region::Attach(config(), {.node = node,
                                                 .role = region::Role::kDaemon,
                                                 .relocate = options_.relocate}));
  if (arbiter_ != nullptr) {
    arbiter_->SetFormatEpoch(region_->own_segment().header().format_epoch);
  }
  return origin == region::SegmentOrigin::kKept
             ? region::CheckNotServed(config(), region_->own_segment())
             : arrow::Status::OK();
}

arrow::Status Server::Impl::StartServices() {
  lines_ = std::make_unique<NodeLines>(&region_->own_segment());
  PassFaultPoint("daemon.start.before-incarnation");
  const HomeLife life = lines_->BeginLife(platform::BootNumber());
  PassFaultPoint("daemon.start.after-incarnation");
  ARROW_ASSIGN_OR_RAISE(home_, Home::Make(region_.get(), &loop_, life));
  for (const std::string& problem : home_->problems()) {
    Log(LogLevel::kWarning, "damaged: ", problem);
  }
  PassFaultPoint("daemon.start.after-home");
  membership_ =
      std::make_unique<Membership>(region_.get(), &loop_, life.incarnation,
                                   [this](uint64_t off) { return Rejoin(off); });
  ARROW_RETURN_NOT_OK(StartTransport(life));
  catalog_ = std::make_unique<CatalogClient>(
      region_.get(), [this] { return leadership_->leader(); }, transport_.get());
  leadership_ = MakeLeadership();
  leadership_->Start();
  reclaimer_ =
      std::make_unique<Reclaimer>(region_.get(), home_.get(), transport_.get(), &loop_);
  homes_ = std::make_unique<HomeClient>(region_.get(), home_.get(), catalog_.get(),
                                        reclaimer_.get(), transport_.get(), &loop_);
  publisher_ = std::make_unique<Publisher>(region_.get(), home_.get(), catalog_.get(),
                                           homes_.get(), &loop_);
  members_ = std::make_unique<MembershipClient>(region_.get(), membership_.get(),
                                                reclaimer_.get(), transport_.get(),
                                                arbiter_.get());
  service_ = std::make_unique<SessionService>(home_.get(), homes_.get(), members_.get(),
                                              publisher_.get(), reclaimer_.get());
  guests_ = std::make_unique<GuestServer>(region_.get(), home_.get(), membership_.get(),
                                          service_.get(), reclaimer_.get());
  membership_->OnOff([this](NodeId node) { guests_->EndAll(node); });
  guests_->Adopt();
  remotes_ =
      std::make_unique<RemoteHomes>(region_.get(), home_.get(), transport_.get(), &loop_);
  transport_->Serve(
      [this](NodeId from, const format::Message& message, const ReplyFn& reply) {
        OnNodeMessage(from, message, reply);
      });
  sessions_ = std::make_unique<SessionServer>(
      config(), options_.node,
      SessionServer::Parts{&loop_, region_.get(), home_.get(), service_.get(),
                           reclaimer_.get(), sockets_, remotes_.get(), membership_.get()},
      [this] { Stop(); });
  if (leadership_->leader() != nullptr) RetireLosers(*leadership_->leader());
  PassFaultPoint("daemon.start.before-recover");
  publisher_->Recover();
  reclaimer_->Kick();  // of what was retired before
  PassFaultPoint("daemon.start.after-recover");
  Log(LogLevel::kInfo, "node ", options_.node.value, " of cluster '", config().name,
      "' is up, incarnation ", life.incarnation);
  return arrow::Status::OK();
}

arrow::Status Server::Impl::StartTransport(const HomeLife& life) {
  if (config().messages_kind() == region::Messages::kSockets) {
    auto sockets =
        std::make_unique<UnixTransport>(&loop_, region_.get(), life.incarnation);
    sockets_ = sockets.get();
    transport_ = std::move(sockets);
    return arrow::Status::OK();
  }
  ARROW_ASSIGN_OR_RAISE(bell_, Doorbell::Open(&loop_, config(), options_.node));
  // M4: what a former boot had on its way to memory.
  const bool waits =
      life.is_new && config().settle_class == platform::SettleClass::kPosted;
  const std::chrono::microseconds quiet(waits ? config().posted_delay_us : 0);
  transport_ = std::make_unique<RingTransport>(&loop_, region_.get(), bell_.get(), quiet);
  return arrow::Status::OK();
}

// F6: its sessions go on, whose cells counted all the time, and whose extents at other
// homes stay theirs until this daemon says of each that it is settled; unless it was off.
uint64_t Server::Impl::Rejoin(uint64_t off) {
  if (off != 0 && !sessions_->EndAll()) return 0;
  home_->FlushLeasePages();
  PassFaultPoint("daemon.rejoin.before-incarnation");
  const uint64_t incarnation = lines_->NextIncarnation(off);
  PassFaultPoint("daemon.rejoin.after-incarnation");
  home_->SetIncarnation(incarnation);
  if (sockets_ != nullptr) sockets_->SetIncarnation(incarnation);
  return incarnation;
}

std::unique_ptr<Leadership> Server::Impl::MakeLeadership() {
  return std::make_unique<Leadership>(
      Leadership::Parts{region_.get(), home_.get(), membership_.get(), &loop_},
      Leadership::Callbacks{
          .beat = [this] { Beat(); },
          .believe = [this](const auto& leader) { catalog_->Believe(leader); },
          .claimed = [this](const auto& leader) { RetireLosers(leader); },
          .may_claim = [this] { return arbiter_ == nullptr || arbiter_->MayLead(); },
          .another_leads =
              [this] {
                if (arbiter_ != nullptr) arbiter_->LetOthersLead();
              }});
}

// What a crash in the middle of a replace left bound beside its successor (C9).
void Server::Impl::RetireLosers(const directory::CatalogLeader& leader) {
  if (publisher_ == nullptr) return;  // Still starting.
  for (const ObjectId& loser : leader.losers()) {
    const region::Segment& segment = *region_->segment(loser.segment);
    const auto slot = directory::ReadSlot(segment, loser.slot);
    if (!slot.ok()) continue;
    const auto record = directory::ReadRecord(segment, *slot);
    if (!record.ok()) continue;
    const auto log = [](const arrow::Status& status) {
      LogIfError("cannot retire an old version", status);
    };
    publisher_->old_versions().RetireAll(
        {loser}, record->name, log,
        [log](const ObjectId&, const arrow::Status& status) { log(status); });
  }
}

void Server::Impl::StartTimers() {
  Every(std::chrono::milliseconds(config().heartbeat_ms), [this] { Beat(); });
  Every(kMembershipPeriod, [this] {
    membership_->Update();
    leadership_->Update();
  });
  Every(kCensusPeriod, [this] { remotes_->Refresh(); });
  Every(kSweepPeriod, [this] { home_->FlushLeasePages(); });
  Every(kSuspectsPeriod, [this] { members_->TellSuspects(); });
}

void Server::Impl::Beat() {
  if (!lines_->Beat()) EndAtOnce();
}

// As a crash: whatever it still wrote would go to lines that are another's now (L1).
void Server::Impl::EndAtOnce() const {
  Log(LogLevel::kError, "another daemon, of another host, is node ", options_.node.value,
      " of cluster '", config().name,
      "' as well, and ahead of this one, or has given up its memory: this one ends at "
      "once");
  std::_Exit(1);
}

void Server::Impl::Every(std::chrono::nanoseconds period,
                         const std::function<void()>& action) {
  action();
  loop_.After(period, [this, period, action] { Every(period, action); });
}

void Server::Impl::OnNodeMessage(NodeId from, const format::Message& message,
                                 const ReplyFn& reply) {
  // It may have come a moment ago.
  if (membership_->admitted(from) == 0) membership_->Update();
  if (membership_->admitted(from) == 0) {
    return reply(format::MakeOutcomeReply(
        message.request_id(),
        MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                   "node " + std::to_string(from.value) + " is withdrawn by node " +
                       std::to_string(options_.node.value) +
                       " and not yet back: try again")));
  }
  if (catalog_->Handle(from, message, reply) || homes_->Handle(message, reply) ||
      members_->Handle(message, reply) || guests_->Handle(from, message, reply) ||
      reclaimer_->Handle(message, reply)) {
    return;
  }
  if (message.body_type() == format::Body::PublishRequest) {
    return service_->PublishHere(message, reply);
  }
  reply(format::MakeOutcomeReply(
      message.request_id(),
      arrow::Status::Invalid("a daemon may not send ",
                             format::EnumNameBody(message.body_type()))));
}

// Slow, and tells nothing before memory is there (the home warmed the first extent) and
// this process has looked at it.
uint64_t Server::Impl::FindBackingPageSize() const {
  const uint8_t* warm = region_->own_segment().data().data();
  platform::SharedWord(reinterpret_cast<const uint64_t*>(warm)).LoadAcquire();
  return platform::BackingPageSize(warm).ValueOr(kBasePageBytes);
}

void Server::Impl::PublishStatistics() {
  Statistics statistics = home_->statistics();
  if (backing_page_bytes_ == 0) backing_page_bytes_ = FindBackingPageSize();
  statistics.backing_page_bytes = backing_page_bytes_;
  lines_->Publish(statistics);
}

arrow::Status Server::Impl::Run() {
  loop_.Run([this] { PublishStatistics(); });
  Log(LogLevel::kInfo, "node ", options_.node.value, " ends");
  return Close();
}

void Server::Impl::StopOnSignals(bool hang_up) {
  std::vector<int> signals = {SIGTERM, SIGINT};
  if (hang_up) signals.push_back(SIGHUP);
  loop_.OnSignals(signals, [this](int number) {
    Log(LogLevel::kInfo, "signal ", number);
    Stop();
  });
}

// The locks go last: whoever gets them finds nothing of ours.
arrow::Status Server::Impl::Close() {
  if (!lock_.has_value()) return arrow::Status::OK();
  if (sessions_ != nullptr) sessions_->Close();
  if (bell_ != nullptr) bell_->Close();
  PassFaultPoint("daemon.stop.before-down");
  if (lines_ != nullptr) lines_->SayDown();
  PassFaultPoint("daemon.stop.after-down");
  arbiter_.reset();  // The next daemon registers once it has the locks.
  arrow::Status status;
  if (segment_lock_.has_value()) status &= segment_lock_->Remove();
  segment_lock_.reset();
  PassFaultPoint("daemon.stop.after-unlock");
  status &= lock_->Remove();
  lock_.reset();
  return status;
}

arrow::Result<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  ARROW_RETURN_NOT_OK(impl->Start());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;
void Server::StopOnSignals(bool hang_up) { impl_->StopOnSignals(hang_up); }
arrow::Status Server::Run() { return impl_->Run(); }
void Server::Stop() { impl_->Stop(); }

}  // namespace sheaf::daemon
