// Seeds of what lies in control and leases parts: slots, index, leases, segment headers.
// Each is what a home, a leader or a session left in memory, as its target takes it
// apart.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "directory/directory.h"
#include "directory/test_cluster.h"
#include "directory/test_records.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "fuzz/control_lines.h"
#include "fuzz/seeds.h"
#include "lease/lease.h"
#include "platform/shared_word.h"
#include "region/region.h"
#include "ring/link.h"
#include "ring/ring.h"
#include "sheaf/types.h"
#include "testing/fake_segments.h"

namespace sheaf::fuzz {
namespace {

constexpr size_t kLine = format::kLineBytes;

std::string Bytes(const void* address, size_t size_bytes) {
  return {static_cast<const char*>(address), size_bytes};
}

// Slots.

constexpr testing::FakeOptions kSlotOptions = {
    .slots_max = 8, .lease_pages_max = 2, .records_size_bytes = 8192};

directory::Record SmallRecord(const std::string& name, uint32_t segment = 0) {
  return directory::MakeRecord(name, segment, 16);
}

std::string DumpSlots(const region::Segment& segment) {
  return Bytes(segment.SlotLine(0), 4 * kLine) +
         Bytes(segment.NodeLine(format::NodeLine::kIncarnation), kLine) +
         Bytes(segment.NodeLine(format::NodeLine::kIndexHeader), kLine) +
         Bytes(segment.ControlLine(segment.layout().records), 8192);
}

class SlotSeeds {
 public:
  explicit SlotSeeds(const std::filesystem::path& corpus) : seeds_(corpus, "slot") {}

  void Write() {
    WriteStates();
    WriteUpdatesCutShort();
    WriteMarksAndIndex();
  }

 private:
  using ChangeFn = std::function<void(directory::HomeDirectory*)>;

  /// What `change` leaves of a new segment; then what else is done to it.
  void Write(
      const std::string& name, const ChangeFn& change,
      const std::function<void(region::Segment*)>& damage = [](region::Segment*) {}) {
    const testing::FakeSegments segments(kSlotOptions);
    directory::HomeDirectory home(segments[0]);
    change(&home);
    damage(segments[0]);
    seeds_.WriteShort(name, DumpSlots(*segments[0]));
  }

  static ObjectId SealBound(directory::HomeDirectory* home, const std::string& name) {
    const ObjectId id = *home->Seal(SmallRecord(name), format::kSlotNamed);
    SHEAF_CHECK(home->SetVersion(id, 1, 1).ok() && home->Bind(id).ok());
    return id;
  }
  static ObjectId SealUnnamed(directory::HomeDirectory* home, uint8_t flags = 0) {
    return *home->Seal(SmallRecord(""), flags);
  }
  static void FillFour(directory::HomeDirectory* home) {
    SealBound(home, "a");
    SealBound(home, "bb");
    SealUnnamed(home, format::kSlotKept);
    SHEAF_CHECK(home->Retire(SealUnnamed(home)).ok());
  }

  void WriteStates() {
    Write("blank", [](directory::HomeDirectory*) {});
    Write("bound", [](auto* home) { SealBound(home, "a"); });
    Write("sealed", [](auto* home) {
      SHEAF_CHECK(home->Seal(SmallRecord("a"), format::kSlotNamed).ok());
    });
    Write("unnamed", [](auto* home) { SealUnnamed(home); });
    Write("kept", [](auto* home) { SealUnnamed(home, format::kSlotKept); });
    Write("retired",
          [](auto* home) { SHEAF_CHECK(home->Retire(SealBound(home, "a")).ok()); });
    Write("free", [](auto* home) {
      const ObjectId id = SealUnnamed(home);
      SHEAF_CHECK(home->Retire(id).ok() && home->Free(id).ok());
    });
    Write("used_again", [](auto* home) {
      const ObjectId id = SealUnnamed(home);
      SHEAF_CHECK(home->Retire(id).ok() && home->Free(id).ok());
      SealBound(home, "a");
    });
    Write("four", FillFour);
    Write("same_name_twice", [](auto* home) {
      const ObjectId first = SealBound(home, "a");
      const ObjectId second = *home->Seal(SmallRecord("a"), format::kSlotNamed);
      SHEAF_CHECK(home->SetVersion(second, 1, 2).ok() && home->Bind(second).ok());
      SHEAF_CHECK(first != second);
    });
  }

  /// Word 0 is Busy, the others are old or new.
  void WriteUpdatesCutShort() {
    const auto bound = [](auto* home) { SealBound(home, "a"); };
    const auto make_busy = [](region::Segment* segment) {
      *segment->SlotLine(0) = format::kBusyWord;
    };
    Write("busy_bound", bound, make_busy);
    Write("busy_four", FillFour, [](region::Segment* segment) {
      for (uint32_t i = 0; i < 4; ++i) *segment->SlotLine(i) = format::kBusyWord;
    });
    Write("busy_mixed", bound, [&](region::Segment* segment) {
      make_busy(segment);
      segment->SlotLine(0)[4] += 1;  // version
    });
    Write("busy_no_record", bound, [&](region::Segment* segment) {
      make_busy(segment);
      segment->SlotLine(0)[2] = 4096;  // record_offset
    });
    Write("last_generation", bound, [](region::Segment* segment) {
      MakeLast(segment, format::LineState::kRetired);
    });
    Write("last_generation_free", bound,
          [](region::Segment* segment) { MakeLast(segment, format::LineState::kFree); });
    Write("overlap", FillFour, [](region::Segment* segment) {
      std::memcpy(segment->SlotLine(1), segment->SlotLine(0), kLine);
    });
  }

  static void MakeLast(region::Segment* segment, format::LineState state) {
    uint64_t* line = segment->SlotLine(0);
    const auto old = std::bit_cast<format::Slot>(platform::LoadLine(line));
    format::Slot slot{};
    if (state != format::LineState::kFree) slot = old;
    slot.state = static_cast<uint8_t>(state);
    slot.generation = old.generation | format::kGenerationLowMask;
    StoreLine(line, slot);
  }

  void WriteMarksAndIndex() {
    const auto bound = [](auto* home) { SealBound(home, "a"); };
    Write("marks_blank", bound, [](region::Segment* segment) {
      std::memset(segment->NodeLine(format::NodeLine::kIncarnation), 0, kLine);
    });
    Write("marks_too_high", bound,
          [](region::Segment* segment) { StoreMarks(segment, 9, 3); });
    Write("marks_torn", bound, [](region::Segment* segment) {
      segment->NodeLine(format::NodeLine::kIncarnation)[0] ^= 2;
    });
    const auto write_index = [&](const char* name, uint64_t offset, uint64_t capacity) {
      Write(name, bound, [=](region::Segment* segment) {
        format::IndexHeaderLine header{};
        header.epoch = 1;
        header.table_offset = offset;
        header.capacity_entries = capacity;
        StoreLine(segment->NodeLine(format::NodeLine::kIndexHeader), header);
      });
    };
    write_index("index", 4096, 64);
    write_index("index_outside", 8192, 64);
    write_index("index_on_record", 0, 64);
    write_index("index_odd", 4096, 3);
  }

  SeedFolder seeds_;
};

// Index.

uint64_t HashLength(std::string_view name) { return name.size(); }

/// As index_fuzz.cc takes it apart. The table lies at the beginning of node 0's records.
std::string DumpIndex(const testing::FakeSegments& segments) {
  const region::Segment& leader = *segments[0];
  const region::Segment& other = *segments[1];
  std::string bytes = Bytes(leader.ControlLine(leader.layout().records), 8 * kLine) +
                      Bytes(leader.NodeLine(format::NodeLine::kIndexHeader), kLine);
  for (const region::Segment* segment : {&leader, &other}) {
    bytes += Bytes(segment->NodeLine(format::NodeLine::kCatalogEpoch), 8);
  }
  for (const region::Segment* segment : {&leader, &other}) {
    bytes += Bytes(segment->SlotLine(0), 2 * kLine);
  }
  bytes += Bytes(other.ControlLine(other.layout().records), 2048);
  return bytes + Bytes(leader.ControlLine(leader.layout().records + 4096), 2048);
}

void WriteIndexes(const std::filesystem::path& corpus) {
  const SeedFolder seeds(corpus, "index");
  const auto write = [&](const std::string& name, auto change) {
    directory::TestCluster cluster({.segments = 2,
                                    .slots_max = 8,
                                    .lease_pages_max = 2,
                                    .records_size_bytes = 16384},
                                   HashLength);
    SHEAF_CHECK(cluster.Claim(1).ok());
    change(&cluster);
    seeds.WriteShort(name, DumpIndex(cluster.segments()));
  };
  using Cluster = directory::TestCluster;
  write("empty", [](Cluster*) {});
  write("one", [](Cluster* cluster) { SHEAF_CHECK(cluster->Publish("a", 0).ok()); });
  write("of_other_node",
        [](Cluster* cluster) { SHEAF_CHECK(cluster->Publish("a", 1).ok()); });
  write("two_nodes", [](Cluster* cluster) {
    SHEAF_CHECK(cluster->Publish("a", 1).ok() && cluster->Publish("bb", 0).ok());
  });
  write("same_hash", [](Cluster* cluster) {
    SHEAF_CHECK(cluster->Publish("a", 1).ok() && cluster->Publish("b", 0).ok());
  });
  write("replaced", [](Cluster* cluster) {
    SHEAF_CHECK(cluster->Publish("a", 1).ok() && cluster->Publish("a", 0, true).ok());
  });
  write("removed", [](Cluster* cluster) {
    SHEAF_CHECK(cluster->Publish("a", 1).ok() && cluster->Remove("a").ok());
  });
  write("sealed", [](Cluster* cluster) { cluster->Seal("a", 1); });
  write("two_bound", [](Cluster* cluster) {
    SHEAF_CHECK(cluster->Publish("a", 1).ok());
    SHEAF_CHECK(cluster->MakeBound(cluster->Seal("a", 0), {1, 5}).ok());
  });
  write("last_version", [](Cluster* cluster) {
    SHEAF_CHECK(cluster->MakeBound(cluster->Seal("a", 1), {1, UINT32_MAX}).ok());
  });
  write("higher_epoch", [](Cluster* cluster) {
    SHEAF_CHECK(cluster->Publish("a", 1).ok());
    *cluster->segments()[1]->NodeLine(format::NodeLine::kCatalogEpoch) = 2;
  });
}

// Leases.

std::string DumpLeases(const region::Segment& segment, uint32_t pages) {
  constexpr size_t kEdge = 4 * sizeof(uint64_t);
  std::string bytes =
      Bytes(segment.ControlLine(segment.layout().page_table), pages * sizeof(uint64_t)) +
      Bytes(segment.NodeLine(format::NodeLine::kIncarnation), kLine);
  for (uint32_t page = 0; page < pages; ++page) {
    const uint64_t* words = segment.LeasePage(page);
    const uint64_t* cells = words + lease::kPageHeaderWords;
    bytes += Bytes(words, 2 * sizeof(uint64_t)) + Bytes(cells, kEdge) +
             Bytes(cells + format::kLeaseCellsPerPage - 4, kEdge);
  }
  return bytes;
}

void WriteLeases(const std::filesystem::path& corpus) {
  constexpr uint32_t kPages = 4;
  const SeedFolder seeds(corpus, "lease");
  const auto write = [&](const std::string& name, auto change) {
    const testing::FakeSegments segments(
        {.slots_max = 8, .lease_pages_max = kPages, .records_size_bytes = 4096});
    lease::PageTable pages(segments[0]);
    change(&pages, segments[0]);
    seeds.WriteShort(name, DumpLeases(*segments[0], kPages));
  };
  const auto lease_some = [](lease::PageTable* pages, region::Segment* segment,
                             uint64_t session, uint32_t count) {
    lease::CellTable cells(segment, {*pages->Activate(session)},
                           [=] { return pages->Activate(session); });
    for (uint32_t i = 0; i < count; ++i) {
      SHEAF_CHECK(cells.Write({{i % 3}, i, (uint64_t{7} << 32) + 1 + i}).ok());
    }
  };
  write("blank", [](auto*, auto*) {});
  write("one", [&](auto* pages, auto* segment) { lease_some(pages, segment, 9, 1); });
  write("three", [&](auto* pages, auto* segment) { lease_some(pages, segment, 9, 3); });
  write("full", [&](auto* pages, auto* segment) { lease_some(pages, segment, 9, 504); });
  write("two_pages",
        [&](auto* pages, auto* segment) { lease_some(pages, segment, 9, 505); });
  write("sessions", [&](auto* pages, auto* segment) {
    for (const uint64_t session : {5, 6, 7, 8}) lease_some(pages, segment, session, 2);
  });
  write("released", [&](auto* pages, auto* segment) {
    lease_some(pages, segment, 5, 2);
    lease_some(pages, segment, 6, 2);
    pages->Release(5);
  });
  write("mark_too_high", [&](auto* pages, auto* segment) {
    lease_some(pages, segment, 5, 2);
    segment->LeasePage(0)[lease::kPageMarkWord] = ~uint64_t{0};
  });
  write("no_session", [&](auto* pages, auto* segment) {
    lease_some(pages, segment, 5, 2);
    *segment->ControlLine(segment->layout().page_table) = format::kLeasePageActive;
  });
  write("marks_too_high", [&](auto* pages, auto* segment) {
    lease_some(pages, segment, 5, 2);
    StoreMarks(segment, 9, kPages + 1);
  });
  // The incarnation that is certified off comes last.
  std::string off(kPages * 8 + kLine + kPages * 80, '\0');
  off[0] = 5;       // the session of page 0, which is
  off[7] = '\x80';  // active
  const size_t page = kPages * 8 + kLine;
  off[page] = 1;       // its mark
  off[page + 16] = 1;  // a cell
  seeds.Write("certified_off", off + '\x01');
}

// Segment headers: what differs from the right one, see segment_header_fuzz.cc.

void WriteHeaders(const std::filesystem::path& corpus) {
  const SeedFolder seeds(corpus, "segment_header");
  seeds.Write("right", std::string_view());
  const auto write = [&](const std::string& name, size_t offset) {
    std::string bytes(offset + 1, '\0');
    bytes[offset] = 1;
    seeds.Write(name, bytes);
  };
  write("magic", offsetof(format::SegmentHeader, magic));
  write("version", offsetof(format::SegmentHeader, version));
  write("segment", offsetof(format::SegmentHeader, segment));
  write("cluster_id", offsetof(format::SegmentHeader, cluster_id));
  write("format_epoch", offsetof(format::SegmentHeader, format_epoch));
  write("format_epoch_high", offsetof(format::SegmentHeader, format_epoch) + 4);
  write("base_address", offsetof(format::SegmentHeader, base_address));
  write("control_size", offsetof(format::SegmentHeader, control_size_bytes));
  write("data_size", offsetof(format::SegmentHeader, data_size_bytes));
  write("nodes_max", offsetof(format::SegmentHeader, nodes_max));
  write("slots_max", offsetof(format::SegmentHeader, slots_max));
  write("records_size", offsetof(format::SegmentHeader, records_size_bytes));
  write("created", offsetof(format::SegmentHeader, created_unix_seconds));
  write("user_id", offsetof(format::SegmentHeader, user_id));
  write("coherence", offsetof(format::SegmentHeader, coherence));
  write("reserved", offsetof(format::SegmentHeader, reserved));
  write("control_file_long", sizeof(format::SegmentHeader));
  write("leases_file_long", sizeof(format::SegmentHeader) + 1);
  write("data_file_long", sizeof(format::SegmentHeader) + 2);
  std::string no_control(sizeof(format::SegmentHeader), '\0');
  seeds.Write("control_file_empty", no_control + '\x80');
}

// Rings: what node 1 has said to node 0.

std::string DumpRing(const region::Segment& segment, uint64_t lines) {
  const uint64_t* end = segment.ControlLine(segment.layout().ring_ends);
  return std::string(1, '\0') + Bytes(end, kLine) + Bytes(end, kLine) +
         Bytes(segment.ControlLine(segment.layout().rings), lines * kLine);
}

void WriteRings(const std::filesystem::path& corpus) {
  const SeedFolder seeds(corpus, "ring");
  const auto write = [&](const std::string& name, const std::vector<size_t>& sizes,
                         uint64_t lines) {
    const testing::FakeSegments segments({.segments = 2, .has_rings = true});
    ring::Link receiver(ring::Channel::Open(segments[0], segments[1]).ValueOrDie(),
                        40'000);
    ring::Link sender(ring::Channel::Open(segments[1], segments[0]).ValueOrDie(), 40'000);
    for (int i = 0; i < 2; ++i) {
      SHEAF_CHECK(sender.Advance().ok() && receiver.Advance().ok());
    }
    for (const size_t size : sizes) sender.Queue(std::vector<uint8_t>(size, 'x'));
    SHEAF_CHECK(sizes.empty() || sender.SendQueued());
    seeds.WriteShort(name, DumpRing(*segments[1], lines));
  };
  write("nothing", {}, 0);
  write("small", {0, 1, 48, 49, 200}, 16);
  write("cut-short", {200}, 3);
  write("two-frames", {35'000}, 640);
  write("too-long", {41'000}, 750);
}

}  // namespace

void WriteLineSeeds(const std::filesystem::path& corpus) {
  SlotSeeds(corpus).Write();
  WriteIndexes(corpus);
  WriteLeases(corpus);
  WriteHeaders(corpus);
  WriteRings(corpus);
}

}  // namespace sheaf::fuzz
