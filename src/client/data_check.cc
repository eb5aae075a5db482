#include "client/data_check.h"

#include <cstdint>
#include <ios>
#include <optional>
#include <sstream>

#include <arrow/result.h>
#include <arrow/status.h>

#include "codec/codec.h"
#include "format/checksum.h"
#include "platform/bus_error.h"
#include "platform/cache.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

// The bytes of a range, which lies inside of the region, once memory was asked for them.
arrow::Result<platform::MemoryRange> Fetch(const region::Region& region,
                                           const GlobalRange& range) {
  const uint8_t* data = region.Resolve(range);
  if (data == nullptr) {
    return arrow::Status::Invalid("bytes at ", range.begin.segment.value, ":",
                                  range.begin.offset, "+", range.size_bytes,
                                  " are outside the region");
  }
  platform::CacheControl& cache = *region.segment(range.begin.segment)->data().cache();
  ARROW_RETURN_NOT_OK(cache.InvalidateGuarded(data, range.size_bytes));
  return platform::MemoryRange{data, range.size_bytes};
}

arrow::Status Differs(const GlobalRange& range, uint64_t expected, uint64_t actual) {
  std::ostringstream text;
  text << range.size_bytes << " bytes at " << range.begin.segment.value << ":"
       << range.begin.offset << " changed since they were put: their checksum is "
       << std::hex << actual << ", was " << expected;
  return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kDamaged, text.str());
}

}  // namespace

arrow::Result<uint64_t> ChecksumInMemory(const region::Region& region,
                                         const GlobalRange& range) {
  ARROW_ASSIGN_OR_RAISE(const auto memory, Fetch(region, range));
  uint64_t checksum = 0;
  ARROW_RETURN_NOT_OK(platform::GuardBusError({memory}, [&] {
    checksum = format::Checksum(
        {static_cast<const uint8_t*>(memory.address), memory.size_bytes});
  }));
  return checksum;
}

arrow::Status CheckData(const region::Region& region, const codec::Descriptor& descriptor,
                        const codec::Selection& selection) {
  const auto check = [&](const GlobalRange& range,
                         std::optional<uint64_t> expected) -> arrow::Status {
    if (!expected) {
      ARROW_ASSIGN_OR_RAISE(const auto memory, Fetch(region, range));
      return platform::CheckReadable(memory, platform::CacheLineBytes());
    }
    ARROW_ASSIGN_OR_RAISE(const uint64_t actual, ChecksumInMemory(region, range));
    return actual == *expected ? arrow::Status::OK() : Differs(range, *expected, actual);
  };
  return descriptor.VisitBuffers(check, selection);
}

}  // namespace sheaf::client
