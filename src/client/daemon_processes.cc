#include "client/daemon_processes.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <fstream>
#include <ios>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/cancel.h>

#include "client/daemon_channel.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

using region::ClusterConfig;

constexpr size_t kLogTailBytes = 2000;
/// A daemon that was told to end and has no sessions ends at once.
constexpr std::chrono::seconds kEndPatience{10};

std::string LogTail(const ClusterConfig& config, NodeId node) {
  std::ifstream file(config.log_path(node), std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  return text.size() > kLogTailBytes ? text.substr(text.size() - kLogTailBytes) : text;
}

// The last line of a failed daemon's log is its error message.
std::string LastLine(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

arrow::Status AwaitDaemon(const ClusterConfig& config, const StartedDaemon& daemon,
                          Deadline deadline, const arrow::StopToken& stop_token) {
  const NodeId node = daemon.node;
  for (;;) {
    if (Answers(config, node)) return arrow::Status::OK();
    ARROW_RETURN_NOT_OK(stop_token.Poll());
    if (platform::HasExited(daemon.pidfd)) {
      return arrow::Status::IOError("the daemon of node ", node.value,
                                    " did not start: ", LastLine(LogTail(config, node)));
    }
    if (Passed(deadline)) {
      return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kTimeout,
                        "the daemon of node " + std::to_string(node.value) +
                            " does not answer; see " + config.log_path(node));
    }
    platform::SleepFor(kPollPeriod);
  }
}

// A daemon that is stopped, or ends before it answers, is no error here.
arrow::Status RequestShutdown(int socket_fd, Deadline deadline) {
  flatbuffers::FlatBufferBuilder builder;
  const auto body = format::CreateShutdownRequest(builder).Union();
  const arrow::Status sent = platform::SendFrame(
      socket_fd, format::FinishRequest(&builder, /*request_id=*/1,
                                       format::Body::ShutdownRequest, body));
  if (IsDisconnected(sent)) return arrow::Status::OK();
  ARROW_RETURN_NOT_OK(sent);
  const auto left = std::max(deadline - platform::BootTime(), Deadline::zero());
  auto frame = platform::ReceiveFrame(
      socket_fd, std::chrono::duration_cast<std::chrono::milliseconds>(left));
  if (IsDisconnected(frame.status()) || IsTimeout(frame.status())) {
    return arrow::Status::OK();
  }
  ARROW_RETURN_NOT_OK(frame.status());
  ARROW_ASSIGN_OR_RAISE(const Reply reply, Reply::Make(*std::move(frame)));
  return format::ToStatus(reply.message());
}

// Ask one daemon to end, and wait until its process has.
arrow::Status StopDaemon(const ClusterConfig& config, NodeId node, Deadline deadline) {
  auto socket = platform::ConnectUnix(config.socket_path(node));
  if (!socket.ok()) return arrow::Status::OK();
  ARROW_ASSIGN_OR_RAISE(auto peer, platform::GetPeerCredentials(socket->get()));
  if (peer.user_id != platform::CurrentUserId()) {
    return arrow::Status::IOError("user ", peer.user_id, " listens at ",
                                  config.socket_path(node), ": only they may end it");
  }
  ARROW_ASSIGN_OR_RAISE(auto pidfd, platform::OpenPidFd(peer.process_id));
  ARROW_RETURN_NOT_OK(RequestShutdown(socket->get(), deadline));
  while (!platform::HasExited(pidfd)) {
    if (Passed(deadline)) {
      return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kTimeout,
                        "the daemon of node " + std::to_string(node.value) +
                            " (process " + std::to_string(peer.process_id) +
                            ") does not end; " + IfStoppedText(peer.process_id) +
                            ", then repeat this");
    }
    platform::SleepFor(kPollPeriod);
  }
  return arrow::Status::OK();
}

}  // namespace

bool Answers(const ClusterConfig& config, NodeId node) {
  return platform::ConnectUnix(config.socket_path(node)).ok();
}

arrow::Status StartDaemons(const ClusterConfig& config, const std::string& daemon,
                           Deadline deadline, const arrow::StopToken& stop_token,
                           std::vector<StartedDaemon>* started) {
  for (const NodeId node : config.LocalNodes()) {
    if (Answers(config, node)) continue;
    ARROW_RETURN_NOT_OK(stop_token.Poll());
    ARROW_ASSIGN_OR_RAISE(const int process_id,
                          platform::SpawnDetached({daemon, "--cluster-file",
                                                   region::ClusterFilePath(config.name),
                                                   "--node", std::to_string(node.value)},
                                                  config.log_path(node)));
    auto pidfd = platform::OpenPidFd(process_id);
    if (!pidfd.ok()) {
      return pidfd.status().WithMessage(
          "the daemon of node ", node.value,
          " did not start: ", LastLine(LogTail(config, node)));
    }
    started->push_back({node, std::move(*pidfd)});
  }
  for (const StartedDaemon& each : *started) {
    ARROW_RETURN_NOT_OK(AwaitDaemon(config, each, deadline, stop_token));
  }
  return arrow::Status::OK();
}

// First the signal that lets them clean up.
void EndDaemons(const std::vector<StartedDaemon>& started) {
  for (const int signal_number : {SIGTERM, SIGKILL}) {
    for (const StartedDaemon& each : started) {
      static_cast<void>(platform::SendSignal(each.pidfd, signal_number));
    }
    const Deadline patience = platform::BootTime() + kEndPatience;
    for (const StartedDaemon& each : started) {
      while (!platform::HasExited(each.pidfd) && !Passed(patience)) {
        platform::SleepFor(kPollPeriod);
      }
    }
  }
}

arrow::Status StopDaemons(const ClusterConfig& config, Deadline deadline) {
  for (const NodeId node : config.LocalNodes()) {
    ARROW_RETURN_NOT_OK(StopDaemon(config, node, deadline));
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::client
