#include "region/segment_header.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ios>
#include <sstream>
#include <string>

#include <arrow/status.h>

#include "base/math.h"
#include "format/checksum.h"
#include "format/control_layout.h"
#include "format/layout.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "region/device_window.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

using format::ControlLayout;
using format::SegmentHeader;

constexpr int64_t kUnixSecondsOf2020 = 1577836800;
constexpr uint64_t kRandomEpochMask = 0xFF;

uint64_t HeaderChecksum(const SegmentHeader& header) {
  return format::Checksum(
      {reinterpret_cast<const uint8_t*>(&header), offsetof(SegmentHeader, checksum)});
}

/// A field that must be as the cluster file says, and what to do when it is not.
struct Field {
  const char* name;
  uint64_t found;
  uint64_t expected;
  const char* advice;
};

constexpr const char* kAdviceFolder =
    "give each cluster a memory_folder of its own, or remove this one";
constexpr const char* kAdviceReformat =
    "end the cluster and start it again with one cluster file for all nodes";
constexpr const char* kAdviceUser = "use the cluster as that user";

arrow::Status CheckField(const Field& field, const std::string& segment) {
  if (field.found == field.expected) return arrow::Status::OK();
  return arrow::Status::Invalid(segment, ": ", field.name, " is ", field.found,
                                ", expected ", field.expected, ": ", field.advice);
}

arrow::Status CheckState(const SegmentHeader& found, const ClusterConfig& config,
                         SegmentId id) {
  const std::string segment = SegmentText(config, id);
  switch (Inspect(found)) {
    case HeaderState::kGood:
      return arrow::Status::OK();
    case HeaderState::kBlank:
      return arrow::Status::Invalid(
          segment, ": its header is blank, it was not formatted: ", "start its node");
    case HeaderState::kForeign: {
      std::ostringstream text;
      text << std::hex << "magic is 0x" << found.magic << ", expected 0x"
           << format::kSegmentMagic;
      return arrow::Status::Invalid(segment, ": ", text.str(),
                                    ": these are not Sheaf's files: choose another "
                                    "cluster name or memory_folder, or ",
                                    RemoveByHand(config, id));
    }
    case HeaderState::kOtherVersion:
      return arrow::Status::Invalid(segment, ": format version is ", found.version,
                                    ", expected ", format::kFormatVersion,
                                    ": another version of Sheaf made it; end its cluster "
                                    "with that version, or ",
                                    RemoveByHand(config, id));
    case HeaderState::kTorn:
      return arrow::Status::Invalid(segment, ": header checksum is ", found.checksum,
                                    ", expected ", HeaderChecksum(found),
                                    ": it is damaged; ", GiveUpText(config));
  }
  return arrow::Status::Invalid(segment, ": unknown header state");
}

}  // namespace

HeaderState Inspect(const SegmentHeader& header) {
  if (header.magic == 0) return HeaderState::kBlank;
  if (header.magic != format::kSegmentMagic) return HeaderState::kForeign;
  // Before the checksum: another version may compute it in another way.
  if (header.version != format::kFormatVersion) return HeaderState::kOtherVersion;
  if (header.checksum != HeaderChecksum(header)) return HeaderState::kTorn;
  return HeaderState::kGood;
}

ControlLayout LayoutOf(const ClusterConfig& config) {
  return ControlLayout::Make(config.nodes_max, config.lease_pages_max,
                             config.grants_max(), config.slots_max,
                             config.records_size_bytes);
}

SegmentHeader MakeHeader(const ClusterConfig& config, SegmentId segment,
                         uint64_t format_epoch) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  SegmentHeader header{};
  header.magic = format::kSegmentMagic;
  header.version = format::kFormatVersion;
  header.segment = segment.value;
  header.cluster_id = config.cluster_id;
  header.format_epoch = format_epoch;
  header.base_address = config.segment_base_address(segment);
  header.control_size_bytes = LayoutOf(config).size_bytes;
  header.leases_size_bytes = config.lease_pages_max * format::kLeasePageBytes;
  header.data_size_bytes = config.size_bytes_of(segment);
  header.nodes_max = config.nodes_max;
  header.slots_max = config.slots_max;
  header.grants_max = config.grants_max();
  header.lease_pages_max = config.lease_pages_max;
  header.records_size_bytes = config.records_size_bytes;
  header.created_unix_seconds = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(now).count());
  header.user_id = platform::CurrentUserId();
  header.coherence = config.coherence == Coherence::kSoftware ? 1 : 0;
  header.agreement_hash = config.AgreementHash();
  header.checksum = HeaderChecksum(header);
  return header;
}

arrow::Status CheckHeader(const SegmentHeader& found, const ClusterConfig& config,
                          SegmentId segment, uint32_t user_id) {
  const std::string text = SegmentText(config, segment);
  ARROW_RETURN_NOT_OK(CheckState(found, config, segment));
  const SegmentHeader wanted = MakeHeader(config, segment, found.format_epoch);
  const std::array fields = {
      Field{"cluster id", found.cluster_id, wanted.cluster_id, kAdviceFolder},
      Field{"segment", found.segment, wanted.segment, kAdviceFolder},
      Field{"user id", found.user_id, user_id, kAdviceUser},
      Field{"base address", found.base_address, wanted.base_address, kAdviceReformat},
      Field{"nodes_max", found.nodes_max, wanted.nodes_max, kAdviceReformat},
      Field{"slots_max", found.slots_max, wanted.slots_max, kAdviceReformat},
      Field{"grants_max", found.grants_max, wanted.grants_max, kAdviceReformat},
      Field{"lease_pages_max", found.lease_pages_max, wanted.lease_pages_max,
            kAdviceReformat},
      Field{"records size", found.records_size_bytes, wanted.records_size_bytes,
            kAdviceReformat},
      Field{"control size", found.control_size_bytes, wanted.control_size_bytes,
            kAdviceReformat},
      Field{"leases size", found.leases_size_bytes, wanted.leases_size_bytes,
            kAdviceReformat},
      Field{"coherence", found.coherence, wanted.coherence, kAdviceReformat},
      Field{
          "hash over backend, settle_class, posted_delay_us, segment_size, messages and "
          "[sim]",
          found.agreement_hash, wanted.agreement_hash, kAdviceReformat},
  };
  for (const Field& field : fields) ARROW_RETURN_NOT_OK(CheckField(field, text));
  // Each node's file may say another size of it.
  const uint64_t data_bytes = found.data_size_bytes;
  if (data_bytes == 0 || data_bytes > config.segment_size_bytes ||
      !IsAligned(data_bytes, format::kExtentBytes)) {
    return arrow::Status::Invalid(text, ": data size is ", data_bytes,
                                  ", expected a multiple of 2 MiB up to ",
                                  config.segment_size_bytes, ": ", kAdviceReformat);
  }
  if (found.format_epoch != 0 && found.format_epoch <= kFormatEpochMax) {
    return arrow::Status::OK();
  }
  return arrow::Status::Invalid(text, ": format epoch is ", found.format_epoch,
                                ", expected 1 .. ", kFormatEpochMax, ": ", kAdviceFolder);
}

std::string SegmentText(const ClusterConfig& config, SegmentId segment) {
  if (config.UsesDevices()) {
    const Window window = WindowOf(config, segment);
    return "segment " + std::to_string(segment.value) + " at " +
           FormatSize(window.offset) + " of " + window.path;
  }
  return "segment " + std::to_string(segment.value) + " in " +
         config.segment_folder(segment);
}

std::string RemoveByHand(const ClusterConfig& config, SegmentId segment) {
  if (config.UsesDevices()) {
    return "overwrite what is there, which is lost then: sheaf format --force --config "
           "FILE --node " +
           std::to_string(segment.value);
  }
  return "remove it by hand: rm -r " + config.segment_folder(segment);
}

std::string GiveUpText(const ClusterConfig& config) {
  return "its tables are lost, and the cluster cannot go on with it; give all of it up "
         "with: sheaf --cluster " +
         config.name + " down";
}

uint64_t NextFormatEpoch(uint64_t old_epoch, int64_t unix_seconds, uint64_t random_bits) {
  const auto seconds =
      static_cast<uint64_t>(std::max<int64_t>(unix_seconds - kUnixSecondsOf2020, 1));
  if (old_epoch != 0) return std::max(old_epoch + 1, seconds);
  // Two lives within a few minutes, the first one forgotten, differ by chance.
  return std::max<uint64_t>(
      (seconds & ~kRandomEpochMask) | (random_bits & kRandomEpochMask), 1);
}

}  // namespace sheaf::region
