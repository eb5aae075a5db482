// Datagrams that may get lost: over UNIX sockets on one host, over UDP between hosts.

#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <arrow/result.h>

#include "platform/file.h"

namespace sheaf::platform {

/// \brief Where a datagram may be sent to.
struct DatagramAddress {
  struct sockaddr_storage storage = {};
  socklen_t size = 0;
};

/// \brief Of a UNIX socket at `path`.
arrow::Result<DatagramAddress> UnixDatagramAddress(const std::string& path);
/// \brief Of "host:port", host being a name or an address, of IPv6 in brackets. IOError
/// if the name is not known; may block as long as a name server does.
arrow::Result<DatagramAddress> UdpAddress(const std::string& host_and_port);

/// \brief A socket that does not block, for addresses of the kind of `like`.
arrow::Result<UniqueFd> OpenDatagrams(const DatagramAddress& like);
/// \brief One that receives what is sent to `at`, as a UNIX socket only from this user
/// (mode 0600). A former socket file there goes: the caller holds a lock of the path.
/// `what` is named in errors.
arrow::Result<UniqueFd> BindDatagrams(const DatagramAddress& at, const std::string& what);

/// \brief Send `bytes` if that can be done at once. What cannot be sent is lost.
void SendDatagram(int fd, const DatagramAddress& to, std::span<const uint8_t> bytes);

/// \brief Take one datagram that has arrived: how long it is, of which `room` has what
/// fits. Nothing if there is none (any more).
std::optional<size_t> TakeDatagram(int fd, std::span<uint8_t> room);

}  // namespace sheaf::platform
