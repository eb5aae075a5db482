// Checksums of buffers: stored when they are asked for, found again with their place.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "codec/codec.h"
#include "format/descriptor_generated.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/codec_fixture.h"
#include "testing/random_array.h"
#include "testing/tables.h"

namespace sheaf::codec {
namespace {

using arrow::field;
using testing::AreIdentical;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::NamedTable;
using testing::Nulls;

using TablePtr = std::shared_ptr<arrow::Table>;
using Sums = std::map<GlobalRange, uint64_t>;

class Checksums : public testing::CodecFixture {
 protected:
  /// A number for each range that none other has; notes what it was asked for.
  ChecksumFn SumOf(Sums* asked) {
    return [this, asked](const GlobalRange& range) -> arrow::Result<uint64_t> {
      const auto [entry, is_new] = asked->emplace(range, ++last_sum_);
      EXPECT_TRUE(is_new);
      return entry->second;
    };
  }

  arrow::Result<std::shared_ptr<const Descriptor>> DescribeSummed(
      const arrow::Table& table, Sums* asked) {
    ARROW_ASSIGN_OR_RAISE(auto bytes, Encode(table, Locate(), SumOf(asked)));
    return Describe(std::move(bytes));
  }

  static Sums VisitAll(const Descriptor& descriptor,
                       const std::optional<std::vector<int>>& columns = {}) {
    Sums visited;
    EXPECT_OK(descriptor.VisitBuffers(
        [&](const GlobalRange& range, std::optional<uint64_t> checksum) {
          EXPECT_TRUE(visited.emplace(range, checksum.value_or(0)).second);
          return arrow::Status::OK();
        },
        columns));
    return visited;
  }

  std::shared_ptr<arrow::Array> Array(const std::shared_ptr<arrow::DataType>& type,
                                      Nulls nulls = Nulls::kNone) {
    return arrow::MakeArray(
        testing::RandomArray(type, 100, nulls, &random_, arrow::default_memory_pool()));
  }

  testing::Random random_{5};
  uint64_t last_sum_ = 0;
};

TEST_F(Checksums, EveryBufferOfEveryTypeHasItsOwnAndNoDataIsRead) {
  for (const NamedTable& named : testing::AllTypesTableVariants()) {
    SCOPED_TRACE(named.name);
    arena_.Clear();
    const TablePtr table = arena_.CopyIn(*named.table);
    arena_.Protect(true);
    Sums asked;
    const auto described = DescribeSummed(*table, &asked);
    arena_.Protect(false);
    ASSERT_OK(described);
    const Descriptor& descriptor = **described;
    EXPECT_TRUE(descriptor.has_checksums());
    EXPECT_EQ(VisitAll(descriptor), asked);
    ASSERT_OK_AND_ASSIGN(const TablePtr decoded, descriptor.ToTable(MakeBuffer()));
    ASSERT_TRUE(AreIdentical(*named.table, *decoded));
  }
}

TEST_F(Checksums, NoneAreThereUnlessAskedFor) {
  const TablePtr table =
      arena_.CopyIn(*arrow::Table::Make(arrow::schema({field("x", arrow::int32())}),
                                        {Array(arrow::int32(), Nulls::kSome)}));
  ASSERT_OK_AND_ASSIGN(const auto descriptor, Describe(*table));
  EXPECT_FALSE(descriptor->has_checksums());
  int visits = 0;
  EXPECT_OK(descriptor->VisitBuffers(
      [&](const GlobalRange& /*range*/, std::optional<uint64_t> checksum) {
        EXPECT_EQ(checksum, std::nullopt);
        ++visits;
        return arrow::Status::OK();
      }));
  EXPECT_EQ(visits, 2);
}

TEST_F(Checksums, ATableWithoutBuffersHasThemToo) {
  const auto table = arrow::Table::Make(arrow::schema({field("n", arrow::null())}),
                                        {Array(arrow::null())});
  Sums asked;
  ASSERT_OK_AND_ASSIGN(const auto descriptor, DescribeSummed(*table, &asked));
  EXPECT_TRUE(descriptor->has_checksums());
  EXPECT_TRUE(asked.empty());
  EXPECT_TRUE(VisitAll(*descriptor).empty());
}

TEST_F(Checksums, ProjectionVisitsTheBuffersOfItsColumns) {
  const auto schema =
      arrow::schema({field("a", arrow::int32()), field("b", arrow::utf8())});
  const TablePtr table = arena_.CopyIn(
      *arrow::Table::Make(schema, {Array(arrow::int32()), Array(arrow::utf8())}));
  Sums asked;
  ASSERT_OK_AND_ASSIGN(const auto descriptor, DescribeSummed(*table, &asked));
  EXPECT_EQ(asked.size(), 3U);
  EXPECT_EQ(VisitAll(*descriptor, {{0}}).size(), 1U);
  EXPECT_EQ(VisitAll(*descriptor, {{1, 1}}).size(), 2U);
  EXPECT_EQ(VisitAll(*descriptor, {{1, 0}}), asked);
  EXPECT_TRUE(VisitAll(*descriptor, {std::vector<int>{}}).empty());
}

TEST_F(Checksums, AnErrorNamesColumnChunkFieldAndBuffer) {
  const auto pair = arrow::struct_(
      {field("k", arrow::int32()),
       field("v", arrow::list(
                      field("item", arrow::dictionary(arrow::int8(), arrow::utf8()))))});
  const auto shared = Array(arrow::int64());
  const auto schema = arrow::schema(
      {field("a", arrow::int64()), field("p", pair), field("b", arrow::int64())});
  const auto table = arena_.CopyIn(
      *arrow::Table::Make(schema, {shared, Array(pair, Nulls::kNone), shared}));
  Sums asked;
  ASSERT_OK_AND_ASSIGN(const auto descriptor, DescribeSummed(*table, &asked));
  const auto places = [&](const std::optional<std::vector<int>>& columns) {
    std::vector<std::string> found;
    for (size_t i = 0; i < asked.size(); ++i) {
      size_t visit = 0;
      const arrow::Status status = descriptor->VisitBuffers(
          [&](const GlobalRange&, std::optional<uint64_t>) {
            return visit++ == i ? arrow::Status::IOError("boom") : arrow::Status::OK();
          },
          columns);
      if (status.ok()) break;
      EXPECT_TRUE(status.IsIOError());
      found.push_back(status.message());
    }
    return found;
  };
  EXPECT_THAT(places(std::nullopt),
              ElementsAre("column 0 'a', chunk 0: buffer 1: boom",
                          "column 1 'p', chunk 0, field 'k': buffer 1: boom",
                          "column 1 'p', chunk 0, field 'v': buffer 1: boom",
                          "column 1 'p', chunk 0, field 'v.item': buffer 1: boom",
                          "column 1 'p', chunk 0, field 'v.item.dictionary': buffer 1: "
                          "boom",
                          "column 1 'p', chunk 0, field 'v.item.dictionary': buffer 2: "
                          "boom"));
  EXPECT_THAT(places({{2}}), ElementsAre("column 2 'b', chunk 0: buffer 1: boom"));
}

TEST_F(Checksums, AnErrorOfTheSumEndsEncodingAndNamesTheColumn) {
  const TablePtr table = arena_.CopyIn(*arrow::Table::Make(
      arrow::schema({field("x", arrow::int32())}), {Array(arrow::int32())}));
  const auto encoded =
      Encode(*table, Locate(), [](const GlobalRange&) -> arrow::Result<uint64_t> {
        return arrow::Status::IOError("unreadable");
      });
  ASSERT_RAISES(IOError, encoded);
  EXPECT_THAT(encoded.status().message(), HasSubstr("column 0 'x': unreadable"));
}

TEST_F(Checksums, AsManyAsBuffersAndNoneOfNoBytes) {
  // Two buffers; that of the text has no bytes.
  const auto empty = std::make_shared<arrow::ArrayData>(
      arrow::utf8(), 1,
      std::vector<std::shared_ptr<arrow::Buffer>>{
          nullptr, arrow::Buffer::FromString(std::string(8, '\0')),
          arrow::Buffer::FromString("")},
      0);
  const TablePtr table = arena_.CopyIn(*arrow::Table::Make(
      arrow::schema({field("x", arrow::utf8())}), {arrow::MakeArray(empty)}));
  Sums asked;
  ASSERT_OK_AND_ASSIGN(const auto encoded, Encode(*table, Locate(), SumOf(&asked)));
  EXPECT_EQ(asked.size(), 1U);
  const std::string good = encoded->ToString();
  const auto try_with = [&](const auto& change) {
    std::string bytes = good;
    const auto* sums = format::GetTableDescriptor(bytes.data())->checksums();
    change(const_cast<uint8_t*>(sums->Data()));
    return Describe(arrow::Buffer::FromString(bytes)).status();
  };
  EXPECT_OK(try_with([](uint8_t*) {}));
  const auto one_more = try_with([](uint8_t* sums) { sums[-4] = 3; });
  const auto one_less = try_with([](uint8_t* sums) { sums[-4] = 1; });
  const auto of_nothing = try_with([](uint8_t* sums) { sums[8] = 1; });
  EXPECT_RAISES(Invalid, one_more);
  ASSERT_RAISES(Invalid, one_less);
  EXPECT_THAT(one_less.message(), HasSubstr("1 checksums of 2 buffers"));
  ASSERT_RAISES(Invalid, of_nothing);
  EXPECT_THAT(of_nothing.message(), HasSubstr("has no bytes but a checksum"));
}

}  // namespace
}  // namespace sheaf::codec
