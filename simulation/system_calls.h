// What the simulation itself asks of the real operating system.

#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

namespace sheaf::simulation {

int RealClose(int fd);
int RealUnmap(void* address, size_t size_bytes);
/// \brief How many are ready now.
int RealPoll(struct pollfd* fds, size_t count);

}  // namespace sheaf::simulation
