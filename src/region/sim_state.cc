#include "region/sim_state.h"

#include <pthread.h>

#include <cerrno>
#include <cstdint>
#include <new>  // IWYU pragma: keep
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/math.h"
#include "platform/file.h"

namespace sheaf::region {

using platform::Access;

struct SimState::Header {
  uint64_t magic;
  uint64_t num_nodes;
  pthread_mutex_t mutex;
};

namespace {

constexpr uint64_t kMagic = 0x4D4953464145485F;  // "_HEAFSIM"
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kNodeBytes = RoundUp(sizeof(SimNode), kPageBytes);

uint64_t StateBytes(uint64_t num_nodes) { return kPageBytes + num_nodes * kNodeBytes; }

void InitMutex(pthread_mutex_t* mutex) {
  pthread_mutexattr_t attributes;
  SHEAF_CHECK(::pthread_mutexattr_init(&attributes) == 0);
  SHEAF_CHECK(::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
  SHEAF_CHECK(::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
  SHEAF_CHECK(::pthread_mutex_init(mutex, &attributes) == 0);
  ::pthread_mutexattr_destroy(&attributes);
}

}  // namespace

SimState::SimState(platform::Mapping mapping) : mapping_(std::move(mapping)) {}

SimState::Header& SimState::header() const {
  return *reinterpret_cast<Header*>(mapping_.data());
}

uint32_t SimState::num_nodes() const { return CheckedCast<uint32_t>(header().num_nodes); }

SimNode& SimState::node(uint32_t index) const {
  SHEAF_CHECK(index < num_nodes());
  return *reinterpret_cast<SimNode*>(mapping_.data() + kPageBytes + index * kNodeBytes);
}

arrow::Status SimState::Create(const std::string& path, uint32_t num_nodes) {
  static_assert(sizeof(Header) <= kPageBytes);
  const uint64_t size_bytes = StateBytes(num_nodes);
  ARROW_ASSIGN_OR_RAISE(const auto fd, platform::CreateFile(path, size_bytes));
  ARROW_RETURN_NOT_OK(platform::AllocateFileRange(fd.get(), 0, size_bytes));
  ARROW_ASSIGN_OR_RAISE(const auto mapping,
                        platform::Mapping::Map(fd.get(), size_bytes, Access::kReadWrite));
  auto* header = new (mapping.data()) Header{};
  header->num_nodes = num_nodes;
  InitMutex(&header->mutex);
  header->magic = kMagic;
  return arrow::Status::OK();
}

arrow::Result<SimState> SimState::Open(const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(const auto fd, platform::OpenFile(path, Access::kReadWrite));
  ARROW_ASSIGN_OR_RAISE(const uint64_t size_bytes, platform::FileSize(fd.get()));
  if (size_bytes < kPageBytes) {
    return arrow::Status::Invalid(path, ": ", size_bytes, " bytes, at least ",
                                  kPageBytes);
  }
  ARROW_ASSIGN_OR_RAISE(auto mapping,
                        platform::Mapping::Map(fd.get(), size_bytes, Access::kReadWrite));
  SimState state(std::move(mapping));
  const Header& header = state.header();
  if (header.magic != kMagic || StateBytes(header.num_nodes) != size_bytes) {
    return arrow::Status::Invalid(path, ": not a simulator's state for ",
                                  header.num_nodes,
                                  " nodes: give the cluster up with: sheaf down");
  }
  return state;
}

SimState::Guard::Guard(const SimState& state) : mutex_(&state.header().mutex) {
  const int result = ::pthread_mutex_lock(mutex_);
  SHEAF_CHECK(result == 0 || result == EOWNERDEAD);
  if (result != EOWNERDEAD) return;
  previous_holder_died_ = true;
  SHEAF_CHECK(::pthread_mutex_consistent(mutex_) == 0);
}

SimState::Guard::~Guard() { SHEAF_CHECK(::pthread_mutex_unlock(mutex_) == 0); }

}  // namespace sheaf::region
