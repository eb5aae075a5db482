#include "platform/datagram.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"

namespace sheaf::platform {
namespace {

const struct sockaddr* Generic(const DatagramAddress& address) {
  return reinterpret_cast<const struct sockaddr*>(&address.storage);
}

}  // namespace

arrow::Result<DatagramAddress> UnixDatagramAddress(const std::string& path) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return arrow::Status::Invalid("socket path of ", path.size(), " bytes: 1 to ",
                                  sizeof(address.sun_path) - 1, " are possible: ", path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  DatagramAddress result;
  std::memcpy(&result.storage, &address, sizeof(address));
  result.size = sizeof(address);
  return result;
}

arrow::Result<DatagramAddress> UdpAddress(const std::string& host_and_port) {
  const size_t colon = host_and_port.rfind(':');
  if (colon == std::string::npos) {
    return arrow::Status::Invalid("'", host_and_port, "' has no port");
  }
  std::string host = host_and_port.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  struct addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICSERV;
  struct addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(host.c_str(), host_and_port.c_str() + colon + 1, &hints, &found);
  if (error != 0) {
    return arrow::Status::IOError("cannot tell where '", host_and_port,
                                  "' is: ", ::gai_strerror(error));
  }
  const std::unique_ptr<struct addrinfo, decltype(&::freeaddrinfo)> owner(
      found, &::freeaddrinfo);
  DatagramAddress result;
  std::memcpy(&result.storage, found->ai_addr, found->ai_addrlen);
  result.size = found->ai_addrlen;
  return result;
}

arrow::Result<UniqueFd> OpenDatagrams(const DatagramAddress& like) {
  UniqueFd fd(
      ::socket(like.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return OsError("cannot make", "a datagram socket");
  return fd;
}

arrow::Result<UniqueFd> BindDatagrams(const DatagramAddress& at,
                                      const std::string& what) {
  ARROW_ASSIGN_OR_RAISE(UniqueFd fd, OpenDatagrams(at));
  if (at.storage.ss_family == AF_UNIX) {
    // The file gets the mode of the socket: at no moment may others send.
    if (::fchmod(fd.get(), 0600) != 0) return OsError("cannot set the mode of", what);
    struct stat status = {};
    const char* path = reinterpret_cast<const struct sockaddr_un*>(&at.storage)->sun_path;
    if (::lstat(path, &status) == 0 && S_ISSOCK(status.st_mode)) ::unlink(path);
  }
  if (::bind(fd.get(), Generic(at), at.size) != 0) return OsError("cannot bind", what);
  return fd;
}

void SendDatagram(int fd, const DatagramAddress& to, std::span<const uint8_t> bytes) {
  DatagramAddress target = to;
  struct iovec part = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  struct msghdr message = {};
  message.msg_name = &target.storage;
  message.msg_namelen = target.size;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  while (::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

// UDP has errors of what was sent before (nobody listens there): they end nothing.
std::optional<size_t> TakeDatagram(int fd, std::span<uint8_t> room) {
  constexpr int kErrorsMax = 64;
  for (int i = 0; i < kErrorsMax; ++i) {
    const ssize_t size = ::recv(fd, room.data(), room.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (size >= 0) return static_cast<size_t>(size);
    if (errno == EAGAIN || errno == EBADF) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace sheaf::platform
