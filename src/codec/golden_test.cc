// The bytes of format version 1. A change that makes these tests fail needs a new
// version.

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <ios>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>
#include <gtest/gtest.h>

#include "base/math.h"
#include "codec/codec.h"
#include "format/checksum.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/tables.h"

namespace sheaf::codec {
namespace {

using arrow::field;
using testing::TestExtension;
using testing::TestExtensionRegistration;

using ArrayDataPtr = std::shared_ptr<arrow::ArrayData>;

const std::string kPlain = std::string(SHEAF_TEST_DATA_DIR) + "/descriptor_v1.bin";
const std::string kSummed =
    std::string(SHEAF_TEST_DATA_DIR) + "/descriptor_checksums_v1.bin";
const std::string kParted = std::string(SHEAF_TEST_DATA_DIR) + "/descriptor_parts_v1.bin";
const std::vector<Part> kParts = {{2, 0x0102030405060708, {5}}, {0, 9, {6}}, {1, 9, {5}}};

/// A table with a bit of everything. Its buffers are zero: a descriptor has none of their
/// bytes.
class GoldenTable {
 public:
  GoldenTable() {
    const auto words = arrow::dictionary(arrow::int8(), arrow::utf8(), /*ordered=*/true);
    const auto pair =
        arrow::struct_({field("k", arrow::utf8(), false), field("v", words)});
    const auto map = std::make_shared<arrow::MapType>(field("pairs", pair, false), true);
    const auto union_type = arrow::dense_union(
        {field("n", arrow::null()), field("d", arrow::decimal256(40, -2))}, {7, 3});
    const auto runs = arrow::run_end_encoded(arrow::int16(), arrow::utf8_view());
    const auto metadata =
        arrow::key_value_metadata({"z", "a"}, {std::string("\0", 1), ""});
    const auto schema = arrow::schema(
        {field("map", map), field("", union_type, false, metadata), field("runs", runs),
         field("ext",
               TestExtension(arrow::timestamp(arrow::TimeUnit::NANO, "UTC"), "unit"))},
        arrow::key_value_metadata({{"of", "schema"}}));
    const auto dictionary = Make(arrow::utf8(), 4, {nullptr, Bytes(20), Bytes(9)});
    auto values = Make(words, 5, {Bytes(1), Bytes(5)}, {}, 2);
    values->dictionary = dictionary;
    const auto entries =
        Make(pair, 5, {nullptr},
             {Make(arrow::utf8(), 5, {nullptr, Bytes(24), Bytes(0)}), values});
    const auto unions = Make(union_type, 3, {nullptr, Bytes(3), Bytes(12)},
                             {Make(arrow::null(), 1, {nullptr}, {}, 1),
                              Make(arrow::decimal256(40, -2), 2, {nullptr, Bytes(64)})});
    const auto views =
        Make(arrow::utf8_view(), 2, {nullptr, Bytes(32), Bytes(40), Bytes(0)});
    const auto times = Make(schema->field(3)->type(), 3, {Bytes(1), Bytes(24)}, {}, 1);
    table_ = arrow::Table::Make(
        schema,
        {Column(map, {Make(map, 3, {Bytes(1), Bytes(16)}, {entries}, 1)}),
         Column(union_type, {unions}),
         Column(runs, {Make(runs, 3, {nullptr},
                            {Make(arrow::int16(), 2, {nullptr, Bytes(4)}), views})}),
         Column(schema->field(3)->type(),
                {times->Slice(1, 2), times->Slice(0, 0), times->Slice(0, 1)})},
        3);
  }

  const arrow::Table& table() const { return *table_; }

  /// Buffers lie one after the other, in the order in which they are asked for.
  arrow::Result<GlobalAddress> Locate(int64_t size_bytes) {
    const GlobalAddress at{SegmentId{5}, next_};
    next_ += RoundUp(static_cast<uint64_t>(size_bytes), 64);
    return at;
  }

 private:
  static std::shared_ptr<arrow::Buffer> Bytes(size_t size) {
    return arrow::Buffer::FromString(std::string(size, '\0'));
  }

  static ArrayDataPtr Make(const std::shared_ptr<arrow::DataType>& type, int64_t length,
                           std::vector<std::shared_ptr<arrow::Buffer>> buffers,
                           std::vector<ArrayDataPtr> children = {},
                           int64_t null_count = 0) {
    return std::make_shared<arrow::ArrayData>(type, length, std::move(buffers),
                                              std::move(children), null_count);
  }

  static std::shared_ptr<arrow::ChunkedArray> Column(
      const std::shared_ptr<arrow::DataType>& type,
      const std::vector<ArrayDataPtr>& chunks) {
    arrow::ArrayVector arrays;
    for (const ArrayDataPtr& chunk : chunks) arrays.push_back(arrow::MakeArray(chunk));
    return std::make_shared<arrow::ChunkedArray>(std::move(arrays), type);
  }

  uint64_t next_ = 4096;
  std::shared_ptr<arrow::Table> table_;
};

std::string ReadGolden(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void ExpectGoldenBytes(const std::string& path, const ChecksumFn& checksum,
                       const std::vector<Part>& parts = {}) {
  GoldenTable golden;
  const LocateFn locate = [&](const uint8_t*, int64_t size) {
    return golden.Locate(size);
  };
  ASSERT_OK_AND_ASSIGN(const auto bytes, Encode(golden.table(), locate, checksum, parts));
  if (std::getenv("SHEAF_WRITE_GOLDEN") != nullptr) {  // NOLINT(concurrency-mt-unsafe)
    std::ofstream(path, std::ios::binary) << bytes->ToString();
  }
  ASSERT_TRUE(bytes->ToString() == ReadGolden(path))
      << "the descriptor's bytes changed: that needs a new format version "
         "(docs/format.md)";
}

uint64_t SumOfZeros(uint64_t size_bytes) {
  const std::vector<uint8_t> zeros(size_bytes);
  return format::Checksum(zeros);
}

TEST(GoldenDescriptor, BytesAreThoseOfVersion1) { ExpectGoldenBytes(kPlain, nullptr); }

TEST(GoldenDescriptor, BytesWithChecksumsAreThoseOfVersion1) {
  ExpectGoldenBytes(kSummed, [](const GlobalRange& range) -> arrow::Result<uint64_t> {
    return SumOfZeros(range.size_bytes);
  });
}

TEST(GoldenDescriptor, BytesWithPartsAreThoseOfVersion1) {
  ExpectGoldenBytes(kParted, nullptr, kParts);
}

TEST(GoldenDescriptor, Version1WithPartsIsStillRead) {
  const TestExtensionRegistration known;
  ASSERT_OK_AND_ASSIGN(const auto descriptor,
                       Descriptor::Make(arrow::Buffer::FromString(ReadGolden(kParted)),
                                        [](SegmentId) { return uint64_t{1} << 20; }));
  EXPECT_EQ(descriptor->parts(), kParts);
}

TEST(GoldenDescriptor, Version1IsStillRead) {
  const TestExtensionRegistration known;
  const GoldenTable golden;
  ASSERT_OK_AND_ASSIGN(const auto descriptor,
                       Descriptor::Make(arrow::Buffer::FromString(ReadGolden(kPlain)),
                                        [](SegmentId) { return uint64_t{1} << 20; }));
  EXPECT_TRUE(descriptor->schema()->Equals(*golden.table().schema(), true))
      << descriptor->schema()->ToString(true);
  EXPECT_EQ(descriptor->num_rows(), 3);
  EXPECT_EQ(descriptor->num_chunks(), 6);
  EXPECT_EQ(descriptor->data_bytes(),
            20 + 9 + 1 + 5 + 24 + 3 + 12 + 64 + 32 + 40 + 1 + 24 + 1 + 16 + 4);
  EXPECT_EQ(descriptor->Ranges().front(), (GlobalRange{{SegmentId{5}, 4096}, 1}));
  EXPECT_FALSE(descriptor->has_checksums());
}

TEST(GoldenDescriptor, Version1WithChecksumsIsStillRead) {
  const TestExtensionRegistration known;
  ASSERT_OK_AND_ASSIGN(const auto descriptor,
                       Descriptor::Make(arrow::Buffer::FromString(ReadGolden(kSummed)),
                                        [](SegmentId) { return uint64_t{1} << 20; }));
  EXPECT_TRUE(descriptor->has_checksums());
  int visits = 0;
  EXPECT_OK(descriptor->VisitBuffers(
      [&](const GlobalRange& range, std::optional<uint64_t> checksum) {
        EXPECT_EQ(checksum, SumOfZeros(range.size_bytes));
        ++visits;
        return arrow::Status::OK();
      }));
  EXPECT_EQ(visits, 15);
}

}  // namespace
}  // namespace sheaf::codec
