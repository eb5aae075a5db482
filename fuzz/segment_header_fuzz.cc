// A control file that begins with any 256 bytes, and parts of other sizes: Attach gives
// an error or a segment whose arrays lie inside of its files; the home's daemon takes the
// segment over with a later format epoch, or leaves it as it is.
//
// Input: 256 bytes, first as the header itself, then as what differs from the right one,
// with the checksum made right; then for control, leases and data by how many pages their
// files are too long or too short.
//
// Decoders: src/region/segment_header.cc src/region/segment_format.cc
// src/region/region.cc

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ios>
#include <string>

#include "base/check.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "fuzz/input.h"
#include "platform/process.h"
#include "platform/test_folder.h"
#include "region/cluster_config.h"
#include "region/part_set.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "sheaf/types.h"

namespace {

namespace fs = std::filesystem;
using sheaf::NodeId;
using sheaf::SegmentId;
using sheaf::format::SegmentHeader;
using sheaf::region::ClusterConfig;
using sheaf::region::PartKind;
using sheaf::region::Region;

using HeaderBytes = std::array<uint8_t, sizeof(SegmentHeader)>;

constexpr uint64_t kFormatEpoch = uint64_t{1} << 30;  // later than the clock's
constexpr std::array kParts = {PartKind::kControl, PartKind::kLeases, PartKind::kData};

/// What the files of the segment are to be.
struct Files {
  SegmentHeader header;
  std::array<int8_t, kParts.size()> pages_too_many;
};

ClusterConfig MakeConfig(const std::string& folder) {
  ClusterConfig config;
  config.name = "fuzz";
  config.cluster_id = 0x5EAF;
  config.backend = sheaf::region::Backend::kFile;
  config.nodes_max = 2;
  config.memory_folder = folder + "/memory";
  config.runtime_folder = folder + "/run";
  config.segment_size_bytes = sheaf::format::kExtentBytes;
  config.slots_max = 64;
  config.lease_pages_max = 2;
  config.records_size_bytes = 8192;
  return config;
}

class HeaderFuzz {
 public:
  HeaderFuzz() : config_(MakeConfig(folder_.path())) {
    // Also makes the folder.
    SHEAF_CHECK(sheaf::region::FormatSegment(config_, NodeId{0}).ok());
  }

  SegmentHeader Right() const {
    return sheaf::region::MakeHeader(config_, SegmentId{0}, kFormatEpoch);
  }

  void Try(const Files& files) {
    Write(files);
    Attach(files);
    TakeOver(files);
  }

 private:
  std::string Path(PartKind kind) const {
    return sheaf::region::PartPath(config_, SegmentId{0}, kind);
  }

  std::array<uint64_t, kParts.size()> Sizes() const {
    const SegmentHeader right = Right();
    return {right.control_size_bytes, right.leases_size_bytes, right.data_size_bytes};
  }

  void Write(const Files& files) const {
    std::fstream control(Path(PartKind::kControl),
                         std::ios::binary | std::ios::in | std::ios::out);
    control.write(reinterpret_cast<const char*>(&files.header), sizeof(files.header));
    SHEAF_CHECK(control.flush().good());
    for (size_t i = 0; i < kParts.size(); ++i) {
      const int64_t size =
          static_cast<int64_t>(Sizes()[i]) + int64_t{files.pages_too_many[i]} * 4096;
      fs::resize_file(Path(kParts[i]), static_cast<uint64_t>(std::max<int64_t>(size, 0)));
    }
  }

  void Attach(const Files& files) const {
    const auto region = Region::Attach(config_, {.node = NodeId{0}, .relocate = true});
    if (!region.ok()) return;
    SHEAF_CHECK(files.pages_too_many == decltype(files.pages_too_many){});
    const sheaf::region::Segment& segment = *(*region)->segment(SegmentId{0});
    const SegmentHeader& header = segment.header();
    SHEAF_CHECK(std::memcmp(&header, &files.header, sizeof(header)) == 0);
    SHEAF_CHECK(segment.control().size_bytes() == Sizes()[0]);
    SHEAF_CHECK(segment.leases().size_bytes() == Sizes()[1]);
    SHEAF_CHECK(segment.data().size_bytes() == Sizes()[2]);
    SHEAF_CHECK(segment.layout().size_bytes == segment.control().size_bytes());
    SHEAF_CHECK(header.lease_pages_max * sheaf::format::kLeasePageBytes ==
                segment.leases().size_bytes());
    SHEAF_CHECK(header.format_epoch >= 1 &&
                header.format_epoch <= sheaf::region::kFormatEpochMax);
  }

  SegmentHeader ReadHeader() const {
    HeaderBytes bytes{};
    std::ifstream file(Path(PartKind::kControl), std::ios::binary);
    file.read(reinterpret_cast<char*>(bytes.data()), bytes.size());
    SegmentHeader header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    return header;
  }

  void TakeOver(const Files& files) const {
    const SegmentHeader old = ReadHeader();  // of a short file less than was written
    const auto state = sheaf::region::Inspect(old);
    if (sheaf::region::FormatSegment(config_, NodeId{0}).ok()) {
      const SegmentHeader header = ReadHeader();
      SHEAF_CHECK(sheaf::region::CheckHeader(header, config_, SegmentId{0},
                                             sheaf::platform::CurrentUserId())
                      .ok());
      if (state == sheaf::region::HeaderState::kGood &&
          old.format_epoch <= sheaf::region::kFormatEpochMax) {
        SHEAF_CHECK(header.format_epoch > old.format_epoch);
      }
      return;
    }
    const SegmentHeader header = ReadHeader();
    SHEAF_CHECK(std::memcmp(&header, &old, sizeof(header)) == 0);
    SHEAF_CHECK(static_cast<int64_t>(fs::file_size(Path(PartKind::kData))) ==
                static_cast<int64_t>(Sizes()[2]) +
                    int64_t{files.pages_too_many[2]} * 4096);
  }

  sheaf::platform::TestFolder folder_;
  ClusterConfig config_;
};

/// The right header, but for what `difference` says.
SegmentHeader Changed(const SegmentHeader& right, const HeaderBytes& difference) {
  HeaderBytes bytes;
  std::memcpy(bytes.data(), &right, sizeof(right));
  std::ranges::transform(bytes, difference, bytes.begin(), std::bit_xor<uint8_t>());
  SegmentHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  header.checksum =
      sheaf::format::Checksum({bytes.data(), offsetof(SegmentHeader, checksum)});
  return header;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static HeaderFuzz fuzz;
  sheaf::fuzz::Input input(data, size);
  const auto bytes = input.Next<HeaderBytes>();
  const auto pages_too_many = input.Next<std::array<int8_t, kParts.size()>>();
  SegmentHeader raw;
  std::memcpy(&raw, bytes.data(), sizeof(raw));
  fuzz.Try({raw, pages_too_many});
  fuzz.Try({Changed(fuzz.Right(), bytes), pages_too_many});
  return 0;
}
