// One suite for every backend: each type, however it lies in memory, put on node 0 and
// opened by another process on node 1, is the same table over the same bytes. Then each
// fault that the suite exists to find is planted, and the suite must find it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <ios>
#include <memory>
#include <ostream>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/array/data.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/plant.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "testing/peer.h"
#include "testing/tables.h"
#include "testing/test_cluster.h"

namespace sheaf::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

// ---- The reader's process.

std::string ToHex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::string FromHex(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

// Address ranges that files named like a data part (or a simulated node's image of one)
// are mapped to.
std::vector<std::pair<uintptr_t, uintptr_t>> DataMappings() {
  std::vector<std::pair<uintptr_t, uintptr_t>> ranges;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t slash = line.rfind('/');
    if (slash == std::string::npos || line.compare(slash, 5, "/data") != 0) continue;
    std::istringstream fields(line);
    uintptr_t begin = 0;
    uintptr_t end = 0;
    char dash = 0;
    fields >> std::hex >> begin >> dash >> end;
    ranges.emplace_back(begin, end);
  }
  return ranges;
}

bool AllInside(const arrow::ArrayData& array,
               const std::vector<std::pair<uintptr_t, uintptr_t>>& ranges) {
  for (const auto& buffer : array.buffers) {
    if (buffer == nullptr) continue;
    const auto begin = reinterpret_cast<uintptr_t>(buffer->data());
    const auto end = begin + static_cast<uintptr_t>(buffer->size());
    // Neighbouring mappings (an extent that was made writable) may share a buffer.
    uintptr_t covered = begin;
    for (const auto& [first, last] : ranges) {
      if (first <= covered && covered < last) covered = last;
    }
    const bool inside = buffer->size() == 0 ? covered > begin : covered >= end;
    if (!inside) return false;
  }
  for (const auto& child : array.child_data) {
    if (!AllInside(*child, ranges)) return false;
  }
  return array.dictionary == nullptr || AllInside(*array.dictionary, ranges);
}

std::string CheckOpened(const arrow::Table& expected, const arrow::Table& opened) {
  const auto identical = AreIdentical(expected, opened, /*layout=*/false);
  if (!identical) return std::string("differs: ") + identical.message();
  const auto ranges = DataMappings();
  for (const auto& column : opened.columns()) {
    for (const auto& chunk : column->chunks()) {
      if (!AllInside(*chunk->data(), ranges)) return "a buffer lies outside the mapping";
    }
  }
  return "ok";
}

// Where this process has the values of the first column.
std::string AddressOfData(const arrow::Table& table) {
  const auto& buffers = table.column(0)->chunk(0)->data()->buffers;
  return std::to_string(reinterpret_cast<uintptr_t>(buffers[1]->data()));
}

class Reader {
 public:
  // "connect <cluster> <node> <relocate>", "open <hex of handle> <index>", or
  // "address <hex of handle>"
  std::string Answer(const std::string& request) {
    std::istringstream words(request);
    std::string verb;
    words >> verb;
    if (verb == "connect") return Connect(&words);
    if (verb == "open") return Open(&words);
    if (verb == "address") return Address(&words);
    return "unknown request";
  }

 private:
  std::string Connect(std::istringstream* words) {
    ConnectOptions options;
    uint32_t node = 0;
    *words >> options.cluster >> node >> options.relocate;
    options.node = node;
    auto connected = Store::Connect(options);
    if (!connected.ok()) return connected.status().ToString();
    store_ = *connected;
    return "ok";
  }

  std::string Open(std::istringstream* words) {
    std::string hex;
    size_t index = 0;
    *words >> hex >> index;
    auto handle = Handle::Deserialize(FromHex(hex));
    if (!handle.ok()) return handle.status().ToString();
    const arrow::MemoryPool& pool = *arrow::default_memory_pool();
    const int64_t before = pool.bytes_allocated();
    auto opened = store_->Open(*handle);
    if (pool.bytes_allocated() != before) return "the default pool was used";
    if (!opened.ok()) return opened.status().ToString();
    return CheckOpened(*tables_[index].table, **opened);
  }

  std::string Address(std::istringstream* words) {
    std::string hex;
    *words >> hex;
    auto handle = Handle::Deserialize(FromHex(hex));
    if (!handle.ok()) return handle.status().ToString();
    auto opened = store_->Open(*handle);
    return opened.ok() ? AddressOfData(**opened) : opened.status().ToString();
  }

  std::vector<NamedTable> tables_ = AllTypesTableVariants();
  std::shared_ptr<Store> store_;
};

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "runs in the processes that other tests start";
  Reader reader;
  ServePeer([&](const std::string& request) { return reader.Answer(request); });
}

// ---- The suite.

struct Setting {
  const char* name;
  const char* config;
  uint64_t window_bytes = 0;
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.name; }

// Small control parts and memory: a suite of them runs at once. D is long enough that
// what was not settled is still on its way when the reader looks.
constexpr const char* kSmall =
    "segment_size = \"64MiB\"\nslots_max = 4096\nlease_pages_max = 16\nrecords_size = "
    "\"16MiB\"\n";
constexpr const char* kFile = "backend = \"file\"\ncoherence = \"software\"\n";
constexpr Setting kSettings[] = {
    {"Shm", ""},
    {"ShmSoftware", "coherence = \"software\"\n"},
    {"File", kFile},
    {"Window",
     "backend = \"file\"\ncoherence = \"software\"\nsettle_class = \"arrived\"\n",
     uint64_t{128} << 20},
    {"SimStale", "backend = \"sim\"\n"},
    {"SimStale128", "backend = \"sim\"\n[sim]\nline_bytes = 128\n"},
    {"SimChaos", "backend = \"sim\"\n[sim]\nchaos = true\n"},
    {"SimPosted", "backend = \"sim\"\nposted_delay_us = 20000\n[sim]\nposted = true\n"},
    {"SimPostedChaos",
     "backend = \"sim\"\nposted_delay_us = 20000\n[sim]\nposted = true\nchaos = true\n"},
};

struct Plants {
  std::string writer;
  std::string reader;
  std::string daemon;
};

// What went wrong, one line each; at most a few, and no more tables after them.
using Failures = std::vector<std::string>;
constexpr size_t kFailuresMax = 3;

class Suite {
 public:
  static arrow::Result<std::unique_ptr<Suite>> Start(const Setting& setting,
                                                     bool relocate,
                                                     const Plants& plants = {}) {
    auto suite = std::make_unique<Suite>();
    TestClusterOptions options;
    options.config_toml = std::string(kSmall) + setting.config;
    options.window_bytes = setting.window_bytes;
    options.memory_in_folder = std::string_view(setting.config).starts_with(kFile);
    options.daemon_plants = plants.daemon;
    options.daemon_path = SHEAFD_BINARY;
    ARROW_ASSIGN_OR_RAISE(suite->cluster_, TestCluster::Start(options));
    ARROW_ASSIGN_OR_RAISE(suite->store_, suite->cluster_->Connect(0));
    SetPlants(plants.writer);
    ARROW_ASSIGN_OR_RAISE(suite->peer_, Peer::Start({"SHEAF_PLANT=" + plants.reader}));
    ARROW_ASSIGN_OR_RAISE(const std::string answer,
                          suite->peer_->Ask("connect " + suite->cluster_->name() + " 1 " +
                                            (relocate ? "1" : "0")));
    if (answer != "ok") return arrow::Status::Invalid("the reader says: ", answer);
    return suite;
  }
  ~Suite() { SetPlants(""); }

  // Every table through Share and Open. `built`: made in the region, so that nothing may
  // be copied.
  Failures Run(bool built) {
    TableOptions options;
    if (built) options.pool = store_->memory_pool();
    const auto tables = AllTypesTableVariants(options);
    Failures failures;
    for (size_t i = 0; i < tables.size() && failures.size() < kFailuresMax; ++i) {
      const std::string failure = RunOne(*tables[i].table, i, built);
      if (failure != "ok") failures.push_back(tables[i].name + ": " + failure);
    }
    return failures;
  }

  // Writer and reader see the same bytes at the same address, or not if the reader
  // relocates.
  Failures RunAddresses(bool relocate) {
    arrow::Int64Builder builder(store_->memory_pool());
    SHEAF_CHECK(builder.AppendValues({1, 2, 3}).ok());
    const auto table = arrow::Table::Make(
        arrow::schema({arrow::field("x", arrow::int64())}), {*builder.Finish()});
    auto receipt = store_->Share(*table);
    if (!receipt.ok()) return {receipt.status().ToString()};
    auto answer = peer_->Ask("address " + ToHex(receipt->handle.Serialize()));
    if (!answer.ok()) return {answer.status().ToString()};
    const bool equal = *answer == AddressOfData(*table);
    if (equal != relocate) return {};
    return {"the reader has it at " + *answer + ", the writer at " +
            AddressOfData(*table)};
  }

  // A handle of an object that is gone must be refused, not opened over what lies there
  // now.
  Failures RunStale() {
    auto table = AllTypesTables()[0].table;
    auto receipt = store_->Share(*table);
    if (!receipt.ok()) return {receipt.status().ToString()};
    if (const auto dropped = store_->Drop(receipt->handle); !dropped.ok()) {
      return {dropped.ToString()};
    }
    const auto answer = AskToOpen(receipt->handle, 0);
    return answer.find(" is gone") == std::string::npos
               ? Failures{"opened a dropped object: " + answer}
               : Failures{};
  }

 private:
  std::string AskToOpen(const Handle& handle, size_t index) {
    auto answer =
        peer_->Ask("open " + ToHex(handle.Serialize()) + " " + std::to_string(index));
    return answer.ok() ? *answer : answer.status().ToString();
  }

  std::string RunOne(const arrow::Table& table, size_t index, bool built) {
    auto receipt = store_->Share(table);
    if (!receipt.ok()) return receipt.status().ToString();
    if (built && receipt->bytes_copied != 0) {
      return std::to_string(receipt->bytes_copied) +
             " bytes were copied of a table built in the region";
    }
    if (receipt->bytes_shared + receipt->bytes_copied != receipt->bytes)
      return "the receipt does not add up";
    std::string answer = AskToOpen(receipt->handle, index);
    if (const auto dropped = store_->Drop(receipt->handle);
        answer == "ok" && !dropped.ok()) {
      answer = dropped.ToString();
    }
    return answer;
  }

  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> store_;
  std::unique_ptr<Peer> peer_;
};

std::string Joined(const Failures& failures) {
  std::string text;
  for (const std::string& failure : failures) text += failure + "\n";
  return text;
}

class Conformance : public ::testing::TestWithParam<std::tuple<Setting, bool>> {};

TEST_P(Conformance, CopiedTablesArriveIdentical) {
  const auto& [setting, relocate] = GetParam();
  ASSERT_OK_AND_ASSIGN(auto suite, Suite::Start(setting, relocate));
  const Failures failures = suite->Run(/*built=*/false);
  EXPECT_TRUE(failures.empty()) << Joined(failures);
}

TEST_P(Conformance, BuiltTablesArriveIdenticalAndUncopied) {
  const auto& [setting, relocate] = GetParam();
  ASSERT_OK_AND_ASSIGN(auto suite, Suite::Start(setting, relocate));
  const Failures failures = suite->Run(/*built=*/true);
  EXPECT_TRUE(failures.empty()) << Joined(failures);
}

// The paper's pointers: equal in every process, unless one had to map elsewhere.
TEST_P(Conformance, PointersAreEqualAtTheCommonBaseOnly) {
  const auto& [setting, relocate] = GetParam();
  ASSERT_OK_AND_ASSIGN(auto suite, Suite::Start(setting, relocate));
  const Failures failures = suite->RunAddresses(relocate);
  EXPECT_TRUE(failures.empty()) << Joined(failures);
}

TEST_P(Conformance, GoneObjectsAreRefused) {
  const auto& [setting, relocate] = GetParam();
  ASSERT_OK_AND_ASSIGN(auto suite, Suite::Start(setting, relocate));
  const Failures failures = suite->RunStale();
  EXPECT_TRUE(failures.empty()) << Joined(failures);
}

INSTANTIATE_TEST_SUITE_P(
    Backends, Conformance,
    ::testing::Combine(::testing::ValuesIn(kSettings), ::testing::Bool()),
    [](const ::testing::TestParamInfo<std::tuple<Setting, bool>>& test) {
      return std::string(std::get<0>(test.param).name) +
             (std::get<1>(test.param) ? "Relocated" : "CommonBase");
    });

// ---- The faults that the suite must find. `no-fence` has a test of its own beside the
// lease cells.

struct Fault {
  const char* name;
  const char* setting;
  Plants plants;
  bool stale_run;       ///< Found by RunStale, not by Run.
  const char* symptom;  ///< What the suite says of it.
};

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

const Setting& SettingNamed(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kSettings), std::end(kSettings),
                   [&](const Setting& setting) { return name == setting.name; });
  SHEAF_CHECK(found != std::end(kSettings));
  return *found;
}

class PlantedFault : public ::testing::TestWithParam<Fault> {};

TEST_P(PlantedFault, MakesTheSuiteFail) {
  const Fault& fault = GetParam();
  ASSERT_OK_AND_ASSIGN(auto suite, Suite::Start(SettingNamed(fault.setting),
                                                /*relocate=*/false, fault.plants));
  const Failures failures =
      fault.stale_run ? suite->RunStale() : suite->Run(/*built=*/true);
  ASSERT_FALSE(failures.empty()) << "the suite did not notice " << fault.name;
  EXPECT_THAT(failures, Each(HasSubstr(fault.symptom)));
}

INSTANTIATE_TEST_SUITE_P(
    Each, PlantedFault,
    ::testing::Values(
        Fault{"NoFlushOfData", "SimStale", {"no-flush-data", "", ""}, false, "differs"},
        Fault{"NoInvalidateOfData",
              "SimStale",
              {"", "no-invalidate-data", ""},
              false,
              "differs"},
        Fault{
            "NoSettleOfData", "SimPosted", {"no-settle-data", "", ""}, false, "differs"},
        Fault{"NoRecheckOfLease",
              "Shm",
              {"", "no-lease-recheck", ""},
              true,
              "opened a dropped object"},
        Fault{
            "NoFlushOfRecord", "SimStale", {"", "", "no-flush-record"}, false, "record"}),
    [](const ::testing::TestParamInfo<Fault>& test) { return test.param.name; });

}  // namespace
}  // namespace sheaf::testing
