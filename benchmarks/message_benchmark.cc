// Question: what does a message from node to node and back cost through rings, against
// sockets? Bounding resource: spinning, the ways of a line between two cores, 0.1 to 0.2
// us each: the reader's look at the sender's line, twice a round trip, and some checksums
// of 64 bytes, so 1 us where nobody else runs; a wake-up of the other process, twice, for
// all that block (5 to 25 us each on a virtual machine). Required: spinning at least 20
// times as fast as TCP over loopback, which is the best that it can do on one host.
// Both sides are processes. Two cores must be free: else whoever spins is preempted.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <benchmark/benchmark.h>

#include "base/check.h"
#include "daemon/connection.h"
#include "daemon/doorbell.h"
#include "daemon/event_loop.h"
#include "daemon/log.h"
#include "daemon/ring_transport.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/relax.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "ring/link.h"
#include "ring/ring.h"
#include "sheaf/types.h"

namespace sheaf {
namespace {

using Bytes = std::vector<uint8_t>;
using daemon::EventLoop;

/// Nodes have cores of their own: two that spin must not meet on one.
void RunOn(size_t core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  ::sched_setaffinity(0, sizeof(cores), &cores);  // If there is such a core.
}

/// \brief The other side: a process that does `body` until this object goes.
class Echo {
 public:
  explicit Echo(const std::function<void()>& body) : process_(::fork()) {
    SHEAF_CHECK(process_ >= 0);
    RunOn(process_ > 0 ? 0 : 1);
    if (process_ > 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    ::_exit(0);
  }
  ~Echo() {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;

 private:
  pid_t process_;
};

// ---- Sockets, blocking, and as fast as they are.

std::array<platform::UniqueFd, 2> UnixPair() {
  std::array<int, 2> fds{};
  SHEAF_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
  return {platform::UniqueFd(fds[0]), platform::UniqueFd(fds[1])};
}

std::array<platform::UniqueFd, 2> TcpPair() {
  const platform::UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* generic = reinterpret_cast<struct sockaddr*>(&address);
  socklen_t size = sizeof(address);
  SHEAF_CHECK(::bind(listener.get(), generic, size) == 0);
  SHEAF_CHECK(::listen(listener.get(), 1) == 0);
  SHEAF_CHECK(::getsockname(listener.get(), generic, &size) == 0);
  platform::UniqueFd here(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  SHEAF_CHECK(::connect(here.get(), generic, size) == 0);
  platform::UniqueFd there(::accept(listener.get(), nullptr, nullptr));
  const int one = 1;
  for (const int fd : {here.get(), there.get()}) {
    SHEAF_CHECK(::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0);
  }
  return {std::move(here), std::move(there)};
}

// Whole messages; `flags` MSG_DONTWAIT spins.
void SendAll(int fd, const Bytes& bytes) {
  SHEAF_CHECK(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
              static_cast<ssize_t>(bytes.size()));
}
void ReceiveAll(int fd, Bytes* bytes, int flags) {
  for (size_t received = 0; received < bytes->size();) {
    const ssize_t size =
        ::recv(fd, bytes->data() + received, bytes->size() - received, flags);
    if (size > 0) received += static_cast<size_t>(size);
  }
}

void MessageOverSockets(benchmark::State& state,
                        std::array<platform::UniqueFd, 2> (*make)(), int flags) {
  const auto pair = make();
  Bytes bytes(static_cast<size_t>(state.range(0)), 7);
  const Echo echo([&] {
    for (Bytes received(bytes.size());;) {
      ReceiveAll(pair[1].get(), &received, flags);
      SendAll(pair[1].get(), received);
    }
  });
  for (auto _ : state) {
    SendAll(pair[0].get(), bytes);
    ReceiveAll(pair[0].get(), &bytes, flags);
  }
}

// ---- Rings: of nodes 0 and 1 of a cluster in shared memory.

class Cluster {
 public:
  Cluster(int spin_us, bool is_software) : config_(memory_.Config()) {
    daemon::SetLogLevel(daemon::LogLevel::kOff);
    config_.spin_us = spin_us;
    if (is_software) config_.coherence = region::Coherence::kSoftware;
    std::filesystem::create_directories(config_.runtime_folder);
    for (const uint32_t k : {0U, 1U}) {
      SHEAF_CHECK(region::FormatSegment(config_, {k}).ok());
    }
  }
  const region::ClusterConfig& config() const { return config_; }
  std::shared_ptr<region::Region> Attach(uint32_t node) const {
    return region::Region::Attach(config_, {{node}, region::Role::kDaemon, true})
        .ValueOrDie();
  }
  ring::Link MakeLink(region::Region* region) const {
    const SegmentId peer{1 - region->node().value};
    return {
        ring::Channel::Open(&region->own_segment(), region->segment(peer)).ValueOrDie(),
        size_t{1} << 20};
  }

 private:
  region::TestMemory memory_;
  region::ClusterConfig config_;
};

Bytes AwaitMessage(ring::Link* link) {
  for (;;) {
    auto turn = link->Advance().ValueOrDie();
    if (!turn.messages.empty()) return std::move(turn.messages.front());
    platform::Relax();
  }
}

void MessageThroughRing(benchmark::State& state, bool is_software) {
  const Cluster cluster(0, is_software);
  const Echo echo([&] {
    const auto region = cluster.Attach(1);
    ring::Link link = cluster.MakeLink(region.get());
    for (;;) {
      link.Queue(AwaitMessage(&link));
      link.SendQueued();
    }
  });
  const auto region = cluster.Attach(0);
  ring::Link link = cluster.MakeLink(region.get());
  while (link.session() == 0) SHEAF_CHECK(link.Advance().ok());
  Bytes bytes(static_cast<size_t>(state.range(0)), 7);
  for (auto _ : state) {
    link.Queue(std::move(bytes));
    link.SendQueued();
    bytes = AwaitMessage(&link);
  }
  SHEAF_CHECK(std::cmp_equal(bytes.size(), state.range(0)));
}

// ---- What daemons do: their loops, and messages that are checked.

Bytes MakeMessage(uint64_t id, bool is_reply, int64_t size) {
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString(std::string(static_cast<size_t>(size), 'x'));
  const auto body = format::CreateBindRequest(builder, name).Union();
  return is_reply ? format::FinishReply(&builder, id, format::Body::BindRequest, body)
                  : format::FinishRequest(&builder, id, format::Body::BindRequest, body);
}

void AskOverAndOver(benchmark::State* state, EventLoop* loop,
                    daemon::Transport* transport) {
  transport->Request({1}, MakeMessage(transport->NextRequestId(), false, state->range(0)),
                     [=](const arrow::Result<const format::Message*>& reply) {
                       SHEAF_CHECK(reply.ok());
                       if (!state->KeepRunning()) return loop->Stop();
                       AskOverAndOver(state, loop, transport);
                     });
}

// A loop and its transport in the process of `node`; runs until it is stopped.
void RunNode(const Cluster& cluster, uint32_t node,
             const std::function<void(EventLoop*, daemon::Transport*)>& begin) {
  const auto region = cluster.Attach(node);
  EventLoop loop;
  const auto bell = daemon::Doorbell::Open(&loop, cluster.config(), {node}).ValueOrDie();
  daemon::RingTransport transport(&loop, region.get(), bell.get(),
                                  std::chrono::nanoseconds(0));
  begin(&loop, &transport);
  loop.Run([] {});
}

void RequestThroughRings(benchmark::State& state, int spin_us) {
  const Cluster cluster(spin_us, /*is_software=*/false);
  const int64_t size = state.range(0);
  const Echo echo([&] {
    RunNode(cluster, 1, [&](EventLoop*, daemon::Transport* transport) {
      transport->Serve(
          [&](NodeId, const format::Message& request, const daemon::ReplyFn& reply) {
            reply(MakeMessage(request.request_id(), true, size));
          });
    });
  });
  RunNode(cluster, 0, [&](EventLoop* loop, daemon::Transport* transport) {
    AskOverAndOver(&state, loop, transport);
  });
}

// The same messages over the connection that daemons of one host have else.
void RequestOverConnection(benchmark::State& state) {
  auto pair = UnixPair();
  const int64_t size = state.range(0);
  using daemon::Connection;
  const auto ignore = [](const Connection::Ptr&, const arrow::Status&) {};
  const Echo echo([&] {
    EventLoop loop;
    const auto answer = [&](const Connection::Ptr& from, const platform::Frame& frame) {
      const auto* request = format::ParseMessage(frame.payload).ValueOrDie();
      from->Send(MakeMessage(request->request_id(), true, size));
    };
    const auto connection =
        Connection::Start(&loop, std::move(pair[1]), {answer, ignore});
    loop.Run([] {});
  });
  EventLoop loop;
  uint64_t id = 0;
  const auto again = [&](const Connection::Ptr& from, const platform::Frame& frame) {
    SHEAF_CHECK(format::ParseMessage(frame.payload).ok());
    if (!state.KeepRunning()) return loop.Stop();
    from->Send(MakeMessage(++id, false, size));
  };
  const auto connection = Connection::Start(&loop, std::move(pair[0]), {again, ignore});
  loop.After(std::chrono::nanoseconds(0),
             [&] { connection->Send(MakeMessage(++id, false, size)); });
  loop.Run([] {});
  connection->Close();
}

void Sizes(benchmark::internal::Benchmark* b) {
  for (const int64_t size : {64, 1024, 16384}) b->Arg(size);
  b->UseRealTime();
}

BENCHMARK_CAPTURE(MessageOverSockets, Tcp, TcpPair, 0)->Apply(Sizes);
BENCHMARK_CAPTURE(MessageOverSockets, TcpSpinning, TcpPair, MSG_DONTWAIT)->Apply(Sizes);
BENCHMARK_CAPTURE(MessageOverSockets, Unix, UnixPair, 0)->Apply(Sizes);
BENCHMARK_CAPTURE(MessageThroughRing, Spinning, false)->Apply(Sizes);
BENCHMARK_CAPTURE(MessageThroughRing, SpinningSoftware, true)->Apply(Sizes);
BENCHMARK(RequestOverConnection)->Apply(Sizes);
BENCHMARK_CAPTURE(RequestThroughRings, Spinning, 1000)->Apply(Sizes);
BENCHMARK_CAPTURE(RequestThroughRings, Blocking, 0)->Apply(Sizes);

}  // namespace
}  // namespace sheaf
