// A second process of a test: another session, usually on another node.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include <arrow/result.h>

#include "platform/file.h"

namespace sheaf::testing {

/// \brief The test's end: starts this test program again as a peer (TEST(Peer, Serves)
/// must be in it, calling ServePeer) and sends it one line per request. Ends the peer
/// when destroyed.
class Peer {
 public:
  /// \brief `environment` entries are "NAME=value", on top of this process's.
  static arrow::Result<std::unique_ptr<Peer>> Start(
      const std::vector<std::string>& environment);
  ~Peer();

  /// \brief Send `request` (one line) and wait for the answer (one line). IOError if the
  /// peer died.
  arrow::Result<std::string> Ask(const std::string& request);

  int process_id() const { return process_id_; }
  /// \brief SIGKILL, and wait until it is gone. False if it had ended by itself.
  bool Kill();

 private:
  Peer() = default;
  int process_id_ = -1;
  platform::UniqueFd to_;
  platform::UniqueFd from_;
  std::string unread_;
};

/// \brief The peer's end: true in a process that Peer::Start made.
bool IsPeer();

/// \brief Answer requests with `handle` until the test closes its end.
template <typename Handler>
void ServePeer(Handler handle);

/// Reads the next request; false at the end. Sends one answer.
bool ReadPeerRequest(std::string* line);
void SendPeerAnswer(const std::string& line);

template <typename Handler>
void ServePeer(Handler handle) {
  for (std::string line; ReadPeerRequest(&line);) SendPeerAnswer(handle(line));
}

}  // namespace sheaf::testing
