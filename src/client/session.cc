#include "client/session.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "client/daemon_channel.h"
#include "client/home_pools.h"
#include "client/lease_cells.h"
#include "client/node_info.h"
#include "client/node_notes.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "format/message.h"
#include "lease/lease.h"
#include "platform/file.h"
#include "platform/owner_process.h"
#include "platform/process.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "region/served_check.h"
#include "region/which_node.h"
#include "sheaf/cluster.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

// A session keeps nothing free for its own reuse once less than this part of the segment
// is free for all.
constexpr uint64_t kLowMemoryDivisor = 8;

constexpr int kLockNamesMax = 16;
constexpr std::chrono::seconds kHonourPatience{2};
constexpr std::chrono::milliseconds kHonourPollPeriod{2};

// Sessions whose store is gone but whose pool buffers are not: Arrow's buffers hold bare
// pointers to their pool. Never destroyed at exit, when such buffers may still be in
// statics: the daemon sees the process end and takes everything back.
struct Lingering {
  platform::OwnerProcess owner;
  std::mutex mutex;
  std::vector<std::shared_ptr<Session>> sessions;
};

// A forked child has its own: those of its parent are not the child's to end, and another
// thread may have held their lock.
Lingering& LingeringSessions() {
  static std::atomic<Lingering*> of_process{new Lingering()};
  Lingering* lingering = of_process.load();
  if (lingering->owner.IsThisOne()) return *lingering;
  auto fresh = std::make_unique<Lingering>();
  if (!of_process.compare_exchange_strong(lingering, fresh.get())) return *lingering;
  return *fresh.release();
}

// Drop the sessions whose last pool buffer died.
void SweepLingering() {
  std::vector<std::shared_ptr<Session>> done;  // destroyed after the lock is released
  Lingering& lingering = LingeringSessions();
  std::lock_guard lock(lingering.mutex);
  std::erase_if(lingering.sessions, [&](std::shared_ptr<Session>& session) {
    if (!session->pools().is_empty()) return false;
    done.push_back(std::move(session));
    return true;
  });
}

// Nothing if neither the options nor the environment say.
arrow::Result<std::optional<NodeId>> ChosenNode(const ConnectOptions& options) {
  if (options.node) return NodeId{*options.node};
  const char* text = std::getenv("SHEAF_NODE");
  if (text == nullptr || *text == '\0') return std::nullopt;
  char* end = nullptr;
  const unsigned long value = std::strtoul(text, &end, 10);
  if (*end != '\0' || *text == '-' || value >= format::kNodesMax) {
    return arrow::Status::Invalid("SHEAF_NODE is '", text, "', expected a node number");
  }
  return NodeId{static_cast<uint32_t>(value)};
}

NodeId FirstOfThisHost(const region::ClusterConfig& config) {
  const std::vector<NodeId> nodes = config.LocalNodes();
  return nodes.empty() ? NodeId{0} : nodes.front();
}

// Why nobody listens there, and what to do.
std::string NotRunning(const region::ClusterConfig& config, NodeId node,
                       const std::string& why) {
  if (config.IsLocal(node)) {
    return "node " + std::to_string(node.value) + " of cluster '" + config.name +
           "' does not run (" + why + "); start it again with: sheaf --cluster " +
           config.name + " up";
  }
  const std::vector<NodeId> nodes = config.LocalNodes();
  std::string text = region::OtherHostText(config, node);
  if (nodes.empty()) return text + ", which has no node of cluster '" + config.name + "'";
  const std::string first = std::to_string(nodes.front().value);
  return text + ": speak through node " + first + " (--node " + first +
         ", or SHEAF_NODE=" + first + ")";
}

arrow::Status NotForUs(const std::string& cluster, uint32_t owner) {
  return arrow::Status::IOError(
      "cluster '", cluster, "' is of user ", owner, ", and user ",
      platform::CurrentUserId(), " is not in a group that may use it: ask user ", owner,
      " to start it with: sheaf up --group G, and to be taken into that group");
}

arrow::Status NotPrivate(const std::string& folder) {
  ARROW_RETURN_NOT_OK(platform::CheckPrivateFolder(folder));
  return arrow::Status::IOError("folder ", folder, " changes hands");  // just now
}

// Whose the cluster is. Whoever can write in these folders chooses whom we speak to and
// what we map: this user, or another one whose folder was named on purpose.
arrow::Result<uint32_t> OwnerOfCluster(const std::string& cluster) {
  const std::string root = region::RuntimeRoot();
  const uint32_t self = platform::CurrentUserId();
  const auto owner = platform::FolderOwner(root);
  if (owner.status().IsKeyError()) return self;
  ARROW_RETURN_NOT_OK(owner.status());
  if (*owner != self && !region::IsRuntimeRootChosen()) return NotPrivate(root);
  std::string folder = root + "/";
  folder += cluster;
  const auto cluster_owner = platform::FolderOwner(folder);
  if (cluster_owner.status().IsKeyError()) return *owner;
  if (*owner != self && !platform::MaySearch(folder)) return NotForUs(cluster, *owner);
  ARROW_RETURN_NOT_OK(cluster_owner.status());
  if (*cluster_owner == *owner) return *owner;
  return NotPrivate(*owner != self ? root : folder);
}

arrow::Result<region::ClusterConfig> LoadCluster(const std::string& name) {
  auto config = region::ClusterConfig::Load(region::ClusterFilePath(name));
  if (config.status().IsKeyError()) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDisconnected,
                      "no cluster '" + name +
                          "' runs on this host; start it with: sheaf --cluster " + name +
                          " up");
  }
  return config;
}

}  // namespace

arrow::Result<std::shared_ptr<Session>> Session::Connect(const ConnectOptions& options) {
  SweepLingering();
  ARROW_ASSIGN_OR_RAISE(const auto chosen, ChosenNode(options));
  ARROW_ASSIGN_OR_RAISE(const std::string name, ResolveClusterName(options.cluster));
  ARROW_ASSIGN_OR_RAISE(const uint32_t user_id, OwnerOfCluster(name));
  ARROW_ASSIGN_OR_RAISE(region::ClusterConfig config, LoadCluster(name));
  const NodeId node = chosen.value_or(FirstOfThisHost(config));
  ARROW_RETURN_NOT_OK(region::CheckIsNode(config, node, "cluster '" + name + "'"));
  auto session = std::shared_ptr<Session>(new Session());
  session->config_ = config;
  const arrow::Status attached = session->Attach(node, user_id, options.relocate);
  if (IsDisconnected(attached)) {
    return attached.WithMessage(NotRunning(config, node, attached.message()));
  }
  ARROW_RETURN_NOT_OK(attached);
  return session;
}

arrow::Status Session::Attach(NodeId node, uint32_t user_id, bool relocate) {
  process_id_ = platform::CurrentProcessId();
  ARROW_ASSIGN_OR_RAISE(daemon_,
                        DaemonChannel::Connect(config_.socket_path(node), user_id));
  ARROW_RETURN_NOT_OK(BeginSession(node, user_id));
  ARROW_RETURN_NOT_OK(AttachRegion(node, user_id, relocate));
  ARROW_RETURN_NOT_OK(MakeCells());
  daemon_->GoOn({[this](const DaemonChannel::CallFn& call) { return Continue(call); },
                 [this] { return !IsOwnNodeDown(); }});
  pools_ = std::make_unique<HomePools>(daemon_.get(), region_.get(),
                                       [this] { return CheckProcess(); });
  return arrow::Status::OK();
}

// Files of our own are opened here, those of another user by the daemon.
arrow::Status Session::AttachRegion(NodeId node, uint32_t user_id, bool relocate) {
  using region::Role;
  region::AttachOptions options{node, Role::kClient, relocate};
  if (access_ == format::Access::Owner) {
    ARROW_ASSIGN_OR_RAISE(notes_, NodeNotes::Open(config_.runtime_folder + "/node" +
                                                  std::to_string(node.value) + ".notes"));
  } else {
    options.source = {user_id, [this](SegmentId segment, region::PartKind kind) {
                        return RequestPart(segment, kind);
                      }};
    if (access_ == format::Access::Reader) options.role = Role::kReader;
    ARROW_ASSIGN_OR_RAISE(notes_, NodeNotes::MakePrivate());
  }
  ARROW_ASSIGN_OR_RAISE(region_, region::Region::Attach(config_, options));
  const uint64_t mapped = region_->own_segment().header().format_epoch;
  if (mapped == format_epoch_) return arrow::Status::OK();
  return arrow::Status::IOError("the memory of node ", node.value,
                                " was formatted anew, from format epoch ", format_epoch_,
                                " to ", mapped, ", just now: connect again");
}

arrow::Result<platform::UniqueFd> Session::RequestPart(SegmentId segment,
                                                       region::PartKind kind) {
  ARROW_ASSIGN_OR_RAISE(Reply reply,
                        daemon_->Call(format::Body::PartRequest,
                                      [&](flatbuffers::FlatBufferBuilder* builder) {
                                        return format::CreatePartRequest(
                                                   *builder, segment.value,
                                                   static_cast<format::PartFile>(kind))
                                            .Union();
                                      }));
  return reply.TakeFd();
}

arrow::Status Session::MakeCells() {
  region::Segment* own = &region_->own_segment();
  for (const uint32_t page : lease_pages_) {
    if (page >= own->header().lease_pages_max) {
      return arrow::Status::Invalid("lease page ", page);
    }
  }
  if (access_ == format::Access::Reader) {
    auto cells = std::make_unique<DaemonCells>(daemon_.get(), own);
    cells_of_daemon_ = cells.get();
    cells_ = std::move(cells);
  } else {
    ARROW_ASSIGN_OR_RAISE(cells_,
                          OwnCells::Make(
                              own, lease_pages_, [this] { return RequestLeasePage(); },
                              config_.settle_class));
  }
  return arrow::Status::OK();
}

// Held before the daemon knows of us (D1). The daemon may take a new one for a dead
// process' and remove it: then there is another name.
arrow::Result<std::string> Session::LockSession(const std::string& folder) {
  PassFaultPoint("client.hello.before-lock");
  for (int i = 1;; ++i) {
    std::string name = std::to_string(process_id_);
    name += '-';
    name += std::to_string(platform::RandomBits());
    name += ".lock";
    std::string path = folder;
    path += '/';
    path += name;
    auto lock = platform::FileLock::Acquire(path);
    if (lock.status().IsAlreadyExists() && i < kLockNamesMax) continue;
    ARROW_RETURN_NOT_OK(lock.status());
    lock_.emplace(*std::move(lock));
    PassFaultPoint("client.hello.after-lock");
    return name;
  }
}

arrow::Result<Reply> Session::SendHello(const DaemonChannel::CallFn& call,
                                        const std::string& lock_name) {
  ARROW_ASSIGN_OR_RAISE(platform::UniqueFd pidfd, platform::OpenPidFd(process_id_));
  const int fds[] = {pidfd.get()};
  ARROW_ASSIGN_OR_RAISE(std::string program, platform::ExecutablePath());
  const std::vector<format::GrantKey> grants =
      pools_ != nullptr ? pools_->own().GrantKeys() : std::vector<format::GrantKey>();
  const std::vector<format::LeaseCell> leases = cells_of_daemon_ != nullptr
                                                    ? cells_of_daemon_->Known()
                                                    : std::vector<format::LeaseCell>();
  return call(
      format::Body::Hello,
      [&](flatbuffers::FlatBufferBuilder* builder) {
        return format::CreateHelloDirect(*builder, format::kMessageVersion,
                                         config_.cluster_id, process_id_, program.c_str(),
                                         lock_name.c_str(), id_, &grants, &leases,
                                         format_epoch_)
            .Union();
      },
      fds);
}

arrow::Status Session::BeginSession(NodeId node, uint32_t user_id) {
  const bool makes_lock = user_id == platform::CurrentUserId();
  std::string lock_name;
  if (makes_lock) {
    ARROW_ASSIGN_OR_RAISE(lock_name, LockSession(config_.session_lock_folder(node)));
  }
  const auto call_first = [this](format::Body type, const DaemonChannel::BuildBody& body,
                                 std::span<const int> fds) {
    return daemon_->Call(type, body, fds);
  };
  auto reply = SendHello(call_first, lock_name);
  if (!reply.ok()) {
    return lock_ ? reply.status() & lock_->Remove() : reply.status();
  }
  ARROW_ASSIGN_OR_RAISE(const auto* welcome,
                        format::BodyAs<format::Welcome>(reply->message()));
  id_ = welcome->session();
  access_ = welcome->access();
  format_epoch_ = welcome->format_epoch();
  if (access_ > format::Access::MAX || makes_lock != (access_ == format::Access::Owner)) {
    return arrow::Status::Invalid("the daemon lets us do ", static_cast<int>(access_));
  }
  if (welcome->lease_pages() != nullptr) {
    lease_pages_.assign(welcome->lease_pages()->begin(), welcome->lease_pages()->end());
  }
  if (!makes_lock) {
    ARROW_ASSIGN_OR_RAISE(lock_of_daemon_, reply->TakeFd());
  }
  return arrow::Status::OK();
}

// With the next daemon, who knows this session by its pages, grants and lock.
arrow::Status Session::Continue(const DaemonChannel::CallFn& call) {
  ARROW_RETURN_NOT_OK(CheckProcess());
  ARROW_ASSIGN_OR_RAISE(const Reply reply, SendHello(call, ""));
  ARROW_ASSIGN_OR_RAISE(const auto* welcome,
                        format::BodyAs<format::Welcome>(reply.message()));
  if (welcome->session() != id_) {
    return arrow::Status::Invalid("welcome to session ", welcome->session(),
                                  ", expected ", id_);
  }
  return arrow::Status::OK();
}

arrow::Status Session::CheckMapped(const region::Segment& segment) const {
  if (!region::IsFormattedAnew(config_, segment)) return arrow::Status::OK();
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                    "the memory of node " + std::to_string(segment.id().value) +
                        " was given up and formatted anew since this session mapped "
                        "it: connect again to see what is there now");
}

bool Session::IsOwnNodeDown() const {
  const auto line = region::ReadIncarnation(region_->own_segment());
  return line.ok() && line->state == static_cast<uint32_t>(format::NodeState::kDown);
}

Session::~Session() {
  // A forked child that inherited this object must not touch what the parent owns.
  if (!owner_.IsThisOne()) {
    // Buffers that the child inherited still name it.
    [[maybe_unused]] const HomePools* const left_alone = pools_.release();
    return;
  }
  if (daemon_ != nullptr) daemon_->GiveUp();  // nobody waits for the next one now
  pools_.reset();                             // returns their extents
  PassFaultPoint("client.goodbye.before-unlock");
  lock_of_daemon_ = platform::UniqueFd();
  lock_.reset();  // who holds it now is a forked child, for whom the session stays (D1)
  if (daemon_ != nullptr && id_ != 0) {
    // An error means that the daemon is gone or will see this process end: nothing to do
    // about it.
    static_cast<void>(
        daemon_->Call(format::Body::Goodbye, [](flatbuffers::FlatBufferBuilder* builder) {
          return format::CreateGoodbye(*builder).Union();
        }));
  }
}

void Session::Linger(std::shared_ptr<Session> session) {
  if (!session->owner_.IsThisOne()) return;
  SweepLingering();
  session->pools().StopRetaining();
  if (session->pools().is_empty()) return;
  Lingering& lingering = LingeringSessions();
  std::lock_guard lock(lingering.mutex);
  lingering.sessions.push_back(std::move(session));
}

void Session::DidPut(const arrow::Status& status) {
  const NodeInfo home = LoadNodeInfo(*region_, region_->node().value);
  const bool home_has_plenty = home.free_bytes >= home.size_bytes / kLowMemoryDivisor;
  if (status.IsOutOfMemory() || !home_has_plenty) pools_->ReturnUnused();
}

arrow::Status Session::CheckProcess() const {
  if (owner_.IsThisOne()) return arrow::Status::OK();
  return arrow::Status::Invalid("this store was connected by process ", process_id_,
                                " and is used in its forked child ",
                                platform::CurrentProcessId(),
                                ": call Store::Connect again in the child");
}

bool Session::IsHonouredBy(const region::Segment& home) const {
  if (region::IsHonoured(home, region_->own_segment())) return true;
  const auto deadline = platform::BootTime() + kHonourPatience;
  while (platform::BootTime() < deadline) {
    platform::SleepFor(kHonourPollPeriod);
    if (region::IsHonoured(home, region_->own_segment())) return true;
  }
  return false;
}

arrow::Result<uint32_t> Session::RequestLeasePage() {
  ARROW_ASSIGN_OR_RAISE(
      Reply reply,
      daemon_->Call(format::Body::LeasePageRequest,
                    [](flatbuffers::FlatBufferBuilder* builder) {
                      return format::CreateLeasePageRequest(*builder).Union();
                    }));
  ARROW_ASSIGN_OR_RAISE(const auto* body,
                        format::BodyAs<format::LeasePageReply>(reply.message()));
  if (body->page() >= region_->own_segment().header().lease_pages_max) {
    return arrow::Status::Invalid("lease page ", body->page());
  }
  return body->page();
}

}  // namespace sheaf::client
