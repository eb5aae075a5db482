// Seeds of what a home leaves in its segment when it dies: grants, sessions and objects.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "daemon/home.h"
#include "daemon/node_lines.h"
#include "daemon/space.h"
#include "daemon/test_node.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "fuzz/control_lines.h"
#include "fuzz/message_world.h"
#include "fuzz/seeds.h"
#include "fuzz/world_daemon.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::fuzz {
namespace {

constexpr size_t kLine = format::kLineBytes;

std::string Bytes(const void* address, size_t size_bytes) {
  return {static_cast<const char*>(address), size_bytes};
}

/// As grant_fuzz.cc takes it apart.
std::string DumpGrants(const region::Segment& segment) {
  return Bytes(segment.GrantLine(0), 4 * kLine);
}

/// As restart_fuzz.cc takes it apart. The same in every process.
std::string DumpAll(region::Segment* own_segment) {
  region::UpdateIncarnation(
      own_segment, [](format::IncarnationLine* line) { line->daemon_process_id = 0; });
  const region::Segment& segment = *own_segment;
  return DumpGrants(segment) +
         Bytes(segment.ControlLine(segment.layout().page_table), 8 * sizeof(uint64_t)) +
         Bytes(segment.NodeLine(format::NodeLine::kIncarnation), kLine) +
         Bytes(segment.SlotLine(0), 4 * kLine) +
         Bytes(segment.ControlLine(segment.layout().records), 8192);
}

/// What one home of node 0 does.
struct Life {
  explicit Life(World* world)
      : region(world->Blank(0)),
        segment(&region->own_segment()),
        home(daemon::Home::Make(region, &clock,
                                daemon::NodeLines(segment).BeginLife(kWorldBoot))
                 .ValueOrDie()) {}

  uint64_t Open() { return home->OpenSession().ValueOrDie().id; }
  daemon::Granted Grant(uint64_t session, uint64_t size_bytes = 65536) {
    return home->Grant(session, size_bytes).ValueOrDie();
  }
  ObjectId Seal(uint64_t session, const std::vector<GlobalRange>& ranges,
                const std::string& name = "", bool keep = false,
                const std::vector<ObjectId>& parents = {}) {
    daemon::SealInput input;
    input.descriptor = daemon::DescribeRanges(*region, ranges);
    input.name = name;
    input.keep = keep;
    input.parents = parents;
    return home->Seal(session, input).ValueOrDie();
  }
  static std::vector<GlobalRange> In(const daemon::Granted& grant, uint64_t offset = 0,
                                     uint64_t size_bytes = 1024) {
    return {{{{0}, grant.extent.offset + offset}, size_bytes}};
  }

  region::Region* region;
  region::Segment* segment;
  daemon::FakeScheduler clock;
  std::unique_ptr<daemon::Home> home;
};

class RestartSeeds {
 public:
  explicit RestartSeeds(const std::filesystem::path& corpus)
      : grants_(corpus, "grant"), restarts_(corpus, "restart") {}

  void Write() {
    WriteGrants();
    WriteObjects();
    WriteDamage();
  }

 private:
  void Write(const std::string& name, const std::function<void(Life*)>& live) {
    Life life(&world_);
    live(&life);
    restarts_.WriteShort(name, DumpAll(life.segment));
    if (!IsBlank(life.segment->GrantLine(0)))
      grants_.WriteShort(name, DumpGrants(*life.segment));
  }

  void WriteGrants() {
    Write("blank", [](Life*) {});
    Write("session", [](Life* life) { life->Open(); });
    Write("grant", [](Life* life) { life->Grant(life->Open()); });
    Write("four_grants", [](Life* life) {
      for (int i = 0; i < 4; ++i) life->Grant(life->Open());
    });
    Write("returned", [](Life* life) {
      const uint64_t session = life->Open();
      const auto grant = life->Grant(session);
      life->Grant(session);
      SHEAF_CHECK(life->home->Return(session, grant.id).ok());
    });
    Write("granted_again", [](Life* life) {
      const uint64_t session = life->Open();
      for (int i = 0; i < 3; ++i) {
        SHEAF_CHECK(life->home->Return(session, life->Grant(session).id).ok());
      }
      life->Grant(session);
    });
    Write("ended", [](Life* life) {
      const uint64_t session = life->Open();
      life->Grant(session);
      SHEAF_CHECK(life->home->EndSession(session).ok());
    });
  }

  void WriteObjects() {
    Write("object", [](Life* life) {
      const uint64_t session = life->Open();
      life->Seal(session, Life::In(life->Grant(session)));
    });
    Write("kept", [](Life* life) {
      const uint64_t session = life->Open();
      life->Seal(session, Life::In(life->Grant(session)), "", /*keep=*/true);
      SHEAF_CHECK(life->home->EndSession(session).ok());
    });
    Write("named", [](Life* life) {
      const uint64_t session = life->Open();
      const ObjectId id = life->Seal(session, Life::In(life->Grant(session)), "a");
      SHEAF_CHECK(life->home->directory().SetVersion(id, 1, 1).ok());
      SHEAF_CHECK(life->home->directory().Bind(id).ok());
    });
    Write("retired", [](Life* life) {
      const uint64_t session = life->Open();
      const ObjectId id = life->Seal(session, Life::In(life->Grant(session)));
      SHEAF_CHECK(life->home->Retire(id, "").ok());
    });
    Write("shared", [](Life* life) {
      const uint64_t session = life->Open();
      const auto grant = life->Grant(session);
      const ObjectId id = life->Seal(session, Life::In(grant, 0, 4096), "", true);
      SHEAF_CHECK(life->home->Return(session, grant.id).ok());
      life->Seal(life->Open(), Life::In(grant, 512, 1024), "", false, {id});
    });
    Write("of_peer", [](Life* life) {
      const ObjectId peer{{1}, 0, format::FirstGeneration(7)};
      life->Seal(life->Open(), {{{{1}, 0}, 4096}}, "", true, {peer});
    });
  }

  void WriteDamage() {
    const auto granted = [](Life* life) { life->Grant(life->Open()); };
    Write("busy", [&](Life* life) {
      granted(life);
      *life->segment->GrantLine(0) = format::kBusyWord;
    });
    Write("torn", [&](Life* life) {
      granted(life);
      life->segment->GrantLine(0)[5] ^= 1;
    });
    const auto write = [&](const char* name, auto change) {
      Write(name, [&](Life* life) {
        const uint64_t session = life->Open();
        life->Grant(session);
        life->Grant(session);
        uint64_t* line = life->segment->GrantLine(0);
        auto grant = std::bit_cast<format::Grant>(platform::LoadLine(line));
        change(&grant);
        StoreLine(line, grant);
      });
    };
    write("overlap", [](auto* grant) { grant->extent_offset = 65536; });
    write("outside", [](auto* grant) { grant->extent_offset = uint64_t{1} << 50; });
    write("no_bytes", [](auto* grant) { grant->extent_size_bytes = 0; });
    write("other_epoch", [](auto* grant) { grant->generation += uint64_t{1} << 32; });
    write("last_generation",
          [](auto* grant) { grant->generation |= format::kGenerationLowMask; });
    write("no_session", [](auto* grant) { grant->owner_session = 0; });
    write("strange_session",
          [](auto* grant) { grant->owner_session = format::kLeasePageActive; });
    Write("many_starts", [&](Life* life) {
      granted(life);
      uint64_t* line = life->segment->NodeLine(format::NodeLine::kIncarnation);
      auto marks = std::bit_cast<format::IncarnationLine>(platform::LoadLine(line));
      marks.daemon_starts = ~uint64_t{0};
      StoreLine(line, marks);
    });
  }

  World world_;
  SeedFolder grants_;
  SeedFolder restarts_;
};

}  // namespace

void WriteRestartSeeds(const std::filesystem::path& corpus) {
  RestartSeeds(corpus).Write();
}

}  // namespace sheaf::fuzz
