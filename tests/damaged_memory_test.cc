// Memory that fails under a table: its file is cut short while processes have it mapped.
// Calls of Sheaf give an error that names the table; nothing else suffers.

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/builder.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/math.h"
#include "platform/file.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "tests/command_line.h"
#include "tests/mapped_file.h"

namespace sheaf::testing {
namespace {

namespace fs = std::filesystem;
using arrow::Table;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int64_t kRows = 100'000;
constexpr uint64_t kPageBytes = 4096;

std::shared_ptr<Table> MakeTable(int64_t rows) {
  arrow::Int64Builder ids;
  arrow::StringBuilder names;
  for (int64_t i = 0; i < rows; ++i) {
    SHEAF_CHECK(ids.Append(i).ok());
    SHEAF_CHECK(names.Append("name " + std::to_string(i)).ok());
  }
  return Table::Make(arrow::schema({arrow::field("id", arrow::int64()),
                                    arrow::field("name", arrow::utf8())}),
                     {ids.Finish().ValueOrDie(), names.Finish().ValueOrDie()}, rows);
}

const uint8_t* DataOf(const Table& table, int column) {
  return table.column(column)->chunk(0)->data()->buffers[1]->data();
}

/// A file that is cut short, until this is destroyed: then it has its size again.
class Cut {
 public:
  Cut(std::string path, uint64_t size_bytes)
      : path_(std::move(path)), whole_bytes_(fs::file_size(path_)) {
    fs::resize_file(path_, size_bytes);
  }
  ~Cut() { fs::resize_file(path_, whole_bytes_); }
  Cut(const Cut&) = delete;
  Cut& operator=(const Cut&) = delete;

 private:
  std::string path_;
  uint64_t whole_bytes_;
};

/// \brief Cuts the memory there, and the page goes too.
std::unique_ptr<Cut> CutAt(const FilePlace& place) {
  return std::make_unique<Cut>(place.path, RoundDown(place.offset, kPageBytes));
}

struct Memory {
  const char* name;
  const char* config_toml;
  bool coherent;
};
void PrintTo(const Memory& memory, std::ostream* stream) { *stream << memory.name; }
constexpr Memory kMemories[] = {
    {"Shm", "backend = \"shm\"\n", true},
    {"ShmSoftware", "backend = \"shm\"\ncoherence = \"software\"\n", false},
    {"Sim", "backend = \"sim\"\n", false},
};

class DamagedMemory : public ::testing::TestWithParam<Memory> {
 protected:
  void SetUp() override {
    TestClusterOptions options;
    options.config_toml = std::string("segment_size = \"64MiB\"\n") +
                          "slots_max = 4096\nlease_pages_max = 16\nrecords_size = "
                          "\"16MiB\"\n" +
                          GetParam().config_toml;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(node0_, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(node1_, cluster_->Connect(1));
    ASSERT_OK(node0_->Put("before", *MakeTable(1000), {.checksum = true}));
    ASSERT_OK(node0_->Put("t", *MakeTable(kRows), {.checksum = true}));
    ASSERT_OK(node0_->Put("plain", *MakeTable(kRows)));
    // Node 1's daemon has everything mapped from here on.
    ASSERT_OK(node1_->Put("other", *MakeTable(10)));
  }

  static void ExpectDamaged(const arrow::Status& status, const std::string& begins) {
    ASSERT_RAISES(IOError, status);
    EXPECT_TRUE(IsDamaged(status)) << status;
    EXPECT_THAT(status.message(), StartsWith(begins));
  }

  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> node0_;
  std::shared_ptr<Store> node1_;
};

TEST_P(DamagedMemory, IsAnErrorOfTheTableAndOfNothingElse) {
  ASSERT_OK_AND_ASSIGN(const auto opened, node0_->Get("t"));
  const auto* half = DataOf(*opened, 0) + kRows / 2 * 8;
  auto cut = CutAt(PlaceOf(half));
  GetOptions fully;
  fully.validate = Validation::kFull;
  for (Store* store : {node1_.get(), node0_.get()}) {
    const arrow::Status verified = store->Verify("t");
    ExpectDamaged(verified, "table 't': column 0 'id', chunk 0: buffer 1: memory fails");
    ExpectDamaged(store->Get("t", fully).status(), "table 't': ");
    ExpectDamaged(store->Get("plain", fully).status(), "table 'plain': ");
    EXPECT_OK(store->Verify("before"));
    EXPECT_EQ(store->Stat("plain").ValueOrDie().leases, 0U);
  }
  EXPECT_OK(node1_->Put("after", *MakeTable(1000), {.checksum = true}));
  EXPECT_OK(node0_->Verify("after"));
  EXPECT_OK(node1_->Remove("plain"));
  for (const NodeInfo& node : node1_->Nodes().ValueOrDie()) EXPECT_EQ(node.state, "up");
  cut.reset();
  // The bytes are zero now: memory again, but not what was put.
  ExpectDamaged(node1_->Verify("t"), "table 't': column 0 'id', chunk 0: buffer 1: ");
}

TEST_P(DamagedMemory, InvalidatingFindsItAtTheFirstOpenOfANode) {
  ASSERT_OK_AND_ASSIGN(const auto opened, node0_->Get("t"));
  // The column that lies last goes.
  const int gone = DataOf(*opened, 0) < DataOf(*opened, 1) ? 1 : 0;
  const auto cut = CutAt(PlaceOf(DataOf(*opened, gone) + kPageBytes));
  const arrow::Status status = node1_->Get("t").status();
  if (GetParam().coherent) {
    EXPECT_OK(status);  // No byte was looked at.
    return;
  }
  ExpectDamaged(status, "table 't': at 0:");
  GetOptions other;
  other.columns = {opened->field(1 - gone)->name()};
  EXPECT_OK(node1_->Get("t", other));
}

/// Node 1 copies what it can read of a table that was removed meanwhile, and whose home
/// cannot be asked (O4).
TEST_P(DamagedMemory, ACopyOfItIsAnErrorThatNamesTheColumn) {
  ASSERT_OK_AND_ASSIGN(const auto opened, node1_->Get("t"));
  ASSERT_OK(node0_->Remove("t"));
  ASSERT_OK(cluster_->KillDaemon(0));
  // As this node has it: a simulated one reads its own copy.
  auto cut = CutAt(MappedPlaceOf(DataOf(*opened, 0) + kRows / 2 * 8));
  ExpectDamaged(node1_->Put("copy", *opened).status(), "column 'id' cannot be copied: ");
  cut.reset();
  ASSERT_OK(cluster_->StartMissing());
  EXPECT_RAISES(KeyError, node1_->Get("copy"));
  EXPECT_OK(node1_->Put("copy", *opened));
}

INSTANTIATE_TEST_SUITE_P(Memories, DamagedMemory, ::testing::ValuesIn(kMemories),
                         [](const auto& memory) {
                           return std::string(memory.param.name);
                         });

/// Private memory that is a file's, as of a memory-mapped Arrow IPC file.
class DamagedSource : public DamagedMemory {
 protected:
  /// \brief A copy of `array` in a file that ends with buffer `last`, of which all but
  /// half is cut off.
  std::shared_ptr<Table> InCutFile(const arrow::Array& array, size_t last) {
    auto data = array.data()->Copy();
    std::vector<std::shared_ptr<arrow::Buffer>*> buffers;
    for (auto& buffer : data->buffers) {
      if (buffer != nullptr && &buffer != &data->buffers[last])
        buffers.push_back(&buffer);
    }
    buffers.push_back(&data->buffers[last]);
    const platform::UniqueFd fd(::memfd_create("source", 0));
    EXPECT_EQ(::ftruncate(fd.get(), kSourceBytes), 0);
    file_ = platform::Mapping::Map(fd.get(), kSourceBytes, platform::Access::kReadWrite)
                .ValueOrDie();
    uint8_t* to = file_.data();
    for (auto* buffer : buffers) {
      std::copy_n((*buffer)->data(), (*buffer)->size(), to);
      *buffer = std::make_shared<arrow::Buffer>(to, (*buffer)->size());
      to += RoundUp(static_cast<uint64_t>((*buffer)->size()), 64);
    }
    const int64_t half =
        data->buffers[last]->data() + data->buffers[last]->size() / 2 - file_.data();
    EXPECT_EQ(::ftruncate(fd.get(), half), 0);
    return Table::Make(arrow::schema({arrow::field("x", array.type())}),
                       {arrow::MakeArray(data)});
  }

  static constexpr int64_t kSourceBytes = int64_t{4} << 20;
  platform::Mapping file_;
};

TEST_P(DamagedSource, IsAnErrorThatNamesTheColumn) {
  const auto table = MakeTable(kRows);
  const auto ids = table->column(0)->chunk(0);
  const auto names = table->column(1)->chunk(0);
  const PutOptions replace = {.replace = true};
  for (const auto& [array, last] :
       {std::pair{ids, 1}, std::pair{names, 1}, std::pair{names, 2}}) {
    const auto source = InCutFile(*array, static_cast<size_t>(last));
    ExpectDamaged(node0_->Put("x", *source, replace).status(),
                  "column 'x' cannot be copied: ");
    // Of so small a part a compact copy is made, of what is there.
    EXPECT_OK(node0_->Put("x", *source->Slice(0, 100), replace));
    ExpectDamaged(node0_->Put("x", *source->Slice(kRows - 100), replace).status(),
                  "column 'x' cannot be copied: ");
  }
}

INSTANTIATE_TEST_SUITE_P(Memories, DamagedSource, ::testing::Values(kMemories[0]),
                         [](const auto& memory) {
                           return std::string(memory.param.name);
                         });

/// A command that has the cluster's memory mapped when that is cut, and has not yet
/// looked at any table: it stops before its first lease.
class DamagedCommands : public CommandLine {
 protected:
  void Prepare(const std::string& options) {
    Up("--nodes 2 " + options);
    ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", kRows) + " --checksum").code, 0);
    ASSERT_OK_AND_ASSIGN(store_, Store::Connect());
    ASSERT_OK_AND_ASSIGN(const auto table, store_->Get("t"));
    place_ = PlaceOf(DataOf(*table, 0));
  }

  Ran RunCut(const std::string& arguments) {
    std::FILE* pipe =
        ::popen(("echo $$; SHEAF_FAULT=client.lease.before-cell=pause exec " +
                 std::string(SHEAF_BINARY) + " --node 1 " + arguments + " 2>&1")
                    .c_str(),
                "r");
    EXPECT_NE(pipe, nullptr);
    int process_id = 0;
    EXPECT_EQ(std::fscanf(pipe, "%d", &process_id), 1);
    EXPECT_EQ(std::fgetc(pipe), '\n');
    EXPECT_TRUE(Eventually([&] { return IsStopped(process_id); }));
    Ran ran;
    {
      const auto cut = CutAt(place_);
      EXPECT_EQ(::kill(process_id, SIGCONT), 0);
      std::array<char, 4096> block;
      for (size_t size; (size = std::fread(block.data(), 1, block.size(), pipe)) > 0;) {
        ran.out.append(block.data(), size);
      }
    }
    const int status = ::pclose(pipe);
    ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    // The first line tells of the fault.
    const size_t end_of_line = ran.out.find('\n');
    EXPECT_THAT(ran.out, StartsWith("sheaf: fault: "));
    ran.out.erase(0, end_of_line == std::string::npos ? 0 : end_of_line + 1);
    return ran;
  }

  std::shared_ptr<Store> store_;
  FilePlace place_;

 private:
  static bool IsStopped(int process_id) {
    std::ifstream stat("/proc/" + std::to_string(process_id) + "/stat");
    std::string word;
    stat >> word >> word >> word;  // pid, name, state
    return word == "T";
  }
};

TEST_F(DamagedCommands, EndWithOneLineThatNamesTheTable) {
  for (const std::string options :
       {"--backend shm", "--backend shm --coherence software", "--backend sim"}) {
    SCOPED_TRACE(options);
    ASSERT_NO_FATAL_FAILURE(Prepare(options));
    const std::vector<std::string> commands = {"verify t", "head t",
                                               "get t -o " + Path("out.csv"),
                                               "get t -o " + Path("out.parquet")};
    for (const std::string& command : commands) {
      SCOPED_TRACE(command);
      const Ran ran = RunCut(command);
      EXPECT_EQ(ran.code, 1) << ran.out;
      EXPECT_THAT(ran.out, StartsWith("sheaf: table 't': "));
      EXPECT_THAT(ran.out, HasSubstr("bus error"));
      EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << ran.out;
    }
    for (const std::string file :
         {"out.csv", "out.csv.part", "out.parquet", "out.parquet.part"}) {
      EXPECT_FALSE(fs::exists(Path(file))) << file;
    }
    // All daemons live, and what the dead commands had leased is free.
    EXPECT_TRUE(Eventually([&] { return SheafJson("stat t")["leases"] == 0; }));
    EXPECT_EQ(Sheaf("--node 1 put u " + Path("t.parquet") + " --checksum").code, 0);
    EXPECT_EQ(Sheaf("verify u").code, 0);
    store_.reset();
    EXPECT_EQ(Sheaf("down").code, 0);
  }
}

}  // namespace
}  // namespace sheaf::testing
