// Seeds of what is one value: descriptors, records, handles, cluster files.

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/table.h>  // IWYU pragma: keep
#include <arrow/type.h>

#include "client/staging.h"
#include "codec/codec.h"
#include "directory/directory.h"
#include "directory/test_records.h"
#include "fuzz/seeds.h"
#include "region/cluster_config.h"
#include "sheaf/handle.h"
#include "testing/arena.h"
#include "testing/tables.h"

namespace sheaf::fuzz {
namespace {

std::string FileName(std::string name) {
  std::ranges::replace_if(
      name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

/// One of each type id, and the special ones; with few rows, and without the largest.
void WriteDescriptors(const std::filesystem::path& corpus) {
  constexpr int64_t kSeedBytesMax = 4096;
  const SeedFolder seeds(corpus, "descriptor");
  const auto tables = testing::AllTypesTables({.num_rows = 9});
  const size_t num_types = testing::AllTypes().size();
  testing::Arena arena;
  std::set<arrow::Type::type> seen;
  for (size_t i = 0; i < tables.size(); ++i) {
    const auto& [name, table] = tables[i];
    if (i < num_types && !seen.insert(table->field(0)->type()->id()).second) continue;
    arena.Clear();
    const auto locate = [&](const uint8_t* address, int64_t size_bytes) {
      return arena.Locate(address, size_bytes);
    };
    const auto bytes = codec::Encode(*arena.CopyIn(*table), locate).ValueOrDie();
    if (bytes->size() > kSeedBytesMax) continue;
    seeds.Write(FileName(name), bytes->ToString());
    if (i != 0) continue;
    const std::vector<codec::Part> parts = {{4, 7, {3}}, {0, 7, {7}}, {5, 8, {3}}};
    seeds.Write("parts", codec::Encode(*arena.CopyIn(*table), locate, nullptr, parts)
                             .ValueOrDie()
                             ->ToString());
  }
}

void WriteRecords(const std::filesystem::path& corpus) {
  const SeedFolder seeds(corpus, "record");
  const auto write = [&](const char* name, const directory::Record& record) {
    seeds.Write(name, directory::EncodeRecord(record).ValueOrDie()->ToString());
  };
  directory::Record record = directory::MakeRecord("table", 0, 16);
  write("named", record);
  record.name = std::string(directory::kNameBytesMax, 'n');
  write("long_name", record);
  record.name = "ü\u3000\U0001F332";
  write("utf8_name", record);
  record.name.clear();
  write("unnamed", record);
  record.references.clear();
  record.reference_extents.clear();
  write("no_references", record);
  record.own_ranges.clear();
  write("no_ranges", record);
  record.own_ranges = {{{{7}, uint64_t{1} << 40}, uint64_t{1} << 30},
                       {{{7}, uint64_t{1} << 42}, 256}};
  write("large_ranges", record);
  record.num_rows = std::numeric_limits<int64_t>::max();
  write("many_rows", record);
  record.descriptor = arrow::Buffer::FromString("");
  write("empty_descriptor", record);
}

void WriteStagings(const std::filesystem::path& corpus) {
  const SeedFolder seeds(corpus, "staging");
  client::Staging staging{7, 4, false, 0, {}};
  seeds.Write("begun", client::EncodeStaging(staging));
  staging.Add({2, 30, {{1}, 5, 77}});
  staging.Add({0, 10, {{0}, 6, 78}});
  seeds.Write("two_of_four", client::EncodeStaging(staging));
  staging.append = true;
  staging.deadline_unix_ns = 1'700'000'000'000'000'000;
  staging.candidate = {{{1}, 9, 79}, 3};
  seeds.Write("append_until", client::EncodeStaging(staging));
  staging.state = client::StagingState::kComplete;
  staging.manifest = {{{2}, 8, 80}, 4};
  seeds.Write("complete", client::EncodeStaging(staging));
  staging.leftovers = {{{1}, 5, 77}, {{2}, 6, 78}};
  seeds.Write("with_leftovers", client::EncodeStaging(staging));
}

void WriteHandles(const std::filesystem::path& corpus) {
  const SeedFolder seeds(corpus, "handle");
  const Handle whole{.cluster_id = 0x5EAF, .object = {{1}, 5, (uint64_t{7} << 32) + 1}};
  seeds.Write("whole", whole.Serialize());
  seeds.Write("rows", whole.Slice(10, 100).Serialize());
  seeds.Write("to_end", whole.Slice(10).Serialize());
  seeds.Write("outside", whole.Slice(10, 100).Slice(101).Serialize());
  seeds.Write("columns", whole.Select({0, 2, 2})->Serialize());
  seeds.Write("no_columns", whole.Select({})->Serialize());
  Handle many = whole;
  many.row_offset = std::numeric_limits<int64_t>::max() - 5;
  many.num_rows = 7;
  seeds.Write("more_rows_than_count", many.Serialize());
}

void WriteConfigs(const std::filesystem::path& corpus) {
  const SeedFolder seeds(corpus, "config");
  region::ClusterConfig config;
  config.memory_folder = "/dev/shm/x";
  config.runtime_folder = "/tmp/x";
  seeds.Write("all_keys", config.ToToml());
  config.backend = region::Backend::kSim;
  config.sim = {.chaos = true, .posted = true, .seed = 5, .line_bytes = 128};
  config.ApplyDefaults();
  seeds.Write("simulator", config.ToToml());
  constexpr std::array<std::pair<const char*, const char*>, 14> kTexts = {{
      {"empty", ""},
      {"comments", "# a comment, with an ü\nnodes = 2 # and 'one' \"more\"\n"},
      {"file", "backend = \"file\"\nmemory_folder = '/mnt/famfs/x'\nnodes = 4\n"},
      {"sizes", "segment_size = \"1.5 GiB\"\nrecords_size = \"64 MiB\"\n"},
      {"numbers", "segment_size = 4194304\nbase_address = \"0x300000000000\"\n"},
      {"software", "coherence = \"software\"\nsettle_class = \"ordered\"\n"},
      {"posted",
       "coherence = \"software\"\nsettle_class = \"posted\"\n"
       "posted_delay_us = 500\n"},
      {"escapes", "memory_folder = \"/tmp/\\\"\\u00fc\\\\ \\t\"\n"},
      {"sim_table", "backend = \"sim\"\n[sim]\nchaos = true\nseed = \"0xff\"\n"},
      {"sim_inline", "backend = \"sim\"\nsim = { posted = true, line_bytes = 64 }\n"},
      {"limits",
       "nodes_max = 4096\nnodes = 4096\nslots_max = 4194304\n"
       "lease_pages_max = 1048576\nsegment_size = \"2MiB\"\n"},
      {"unknown_key", "node = 3\n"},
      {"wrong_type", "prealloc = \"yes\"\nnodes = 1.5\nname = 3\n"},
      {"size", "1.5GiB"},
  }};
  for (const auto& [name, text] : kTexts) seeds.Write(name, std::string_view(text));
  // What toml++ asserts not to see, or has the compiler assume.
  seeds.Write("header_without_name", std::string_view("[&"));
  seeds.Write("date", std::string_view("x=1115-02-ss 0\r4"));
  seeds.Write("ascii_key", std::string_view("\" =#\t\"\xef\xbb\xbe\xef\xbb\xbf#"));
  seeds.Write("ascii_value", std::string_view("x=0\"\xc5\xb2i\""));
}

}  // namespace

void WriteValueSeeds(const std::filesystem::path& corpus) {
  WriteDescriptors(corpus);
  WriteRecords(corpus);
  WriteHandles(corpus);
  WriteStagings(corpus);
  WriteConfigs(corpus);
}

}  // namespace sheaf::fuzz
