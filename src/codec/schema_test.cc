// What of a schema is carried, and what is refused: through whole descriptors, without
// rows.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "codec/codec.h"
#include "codec/field_flags.h"
#include "codec/layout.h"
#include "format/descriptor_generated.h"
#include "testing/arrow_test.h"
#include "testing/codec_fixture.h"
#include "testing/tables.h"

namespace sheaf::codec {
namespace {

using arrow::field;
using testing::AreIdentical;
using ::testing::HasSubstr;
using testing::TestExtension;
using testing::TestExtensionRegistration;

using TablePtr = std::shared_ptr<arrow::Table>;
using TypePtr = std::shared_ptr<arrow::DataType>;

TablePtr WithoutChunks(arrow::FieldVector fields) {
  arrow::ChunkedArrayVector columns;
  for (const auto& each : fields) {
    columns.push_back(
        std::make_shared<arrow::ChunkedArray>(arrow::ArrayVector{}, each->type()));
  }
  return arrow::Table::Make(arrow::schema(std::move(fields)), std::move(columns), 0);
}

/// A type that no version of this code knows.
class UnknownType : public arrow::DataType {
 public:
  UnknownType() : arrow::DataType(arrow::Type::MAX_ID) {}
  std::string ToString(bool) const override { return "unknown"; }
  std::string name() const override { return "unknown"; }
  arrow::DataTypeLayout layout() const override {
    return arrow::DataTypeLayout({arrow::DataTypeLayout::Bitmap()});
  }
};

class SchemaCodec : public testing::CodecFixture {
 protected:
  /// Field nodes that `Encode` would never make.
  struct Node {
    std::string format;
    uint32_t flags = kFieldNullable;
    uint32_t child_count = 0;
    std::string name = "f";
  };

  arrow::Result<std::shared_ptr<arrow::Schema>> Decode(const std::vector<Node>& nodes) {
    flatbuffers::FlatBufferBuilder builder;
    std::vector<flatbuffers::Offset<format::FieldNode>> offsets;
    uint32_t open = 0;
    uint32_t num_columns = 0;
    for (const Node& node : nodes) {
      num_columns += open == 0 ? 1 : 0;
      open = open == 0 ? node.child_count : open - 1 + node.child_count;
      open += (node.flags & kFieldHasDictionary) != 0 ? 1 : 0;
      offsets.push_back(format::CreateFieldNode(
          builder, builder.CreateString(node.format), builder.CreateString(node.name),
          node.flags, node.child_count));
    }
    const auto fields = builder.CreateVector(offsets);
    const auto counts = builder.CreateVector(std::vector<uint32_t>(num_columns));
    const auto arrays = builder.CreateVectorOfStructs(std::vector<format::ArrayNode>());
    const auto refs = builder.CreateVector(std::vector<uint32_t>());
    const auto buffers =
        builder.CreateVectorOfStructs(std::vector<format::BufferRange>());
    builder.Finish(format::CreateTableDescriptor(builder, 0, fields, 0, counts, arrays,
                                                 refs, buffers),
                   format::TableDescriptorIdentifier());
    const std::string bytes(reinterpret_cast<const char*>(builder.GetBufferPointer()),
                            builder.GetSize());
    ARROW_ASSIGN_OR_RAISE(auto descriptor, Describe(arrow::Buffer::FromString(bytes)));
    return descriptor->schema();
  }

  void ExpectRefused(const std::vector<Node>& nodes, const std::string& reason) {
    const auto decoded = Decode(nodes);
    ASSERT_FALSE(decoded.ok()) << (*decoded)->ToString();
    EXPECT_THAT(decoded.status().message(), HasSubstr(reason));
    EXPECT_THAT(decoded.status().message(), HasSubstr("column "));
  }
};

TEST_F(SchemaCodec, LayoutAgreesWithArrowsOwn) {
  for (const auto& [name, type] : testing::AllTypes()) {
    SCOPED_TRACE(name);
    const arrow::DataType& storage = StorageOf(*type);
    const arrow::DataTypeLayout expected = storage.layout();
    ASSERT_OK_AND_ASSIGN(const Layout layout, LayoutOf(storage));
    ASSERT_EQ(static_cast<size_t>(layout.buffer_count), expected.buffers.size());
    EXPECT_EQ(layout.variadic, expected.variadic_spec.has_value());
    EXPECT_EQ(layout.child_count,
              storage.num_fields() + (expected.has_dictionary ? 1 : 0));
    for (size_t i = 0; i < expected.buffers.size(); ++i) {
      switch (layout.buffers[i].kind) {
        case BufferKind::kValidity:
        case BufferKind::kBits:
          EXPECT_EQ(expected.buffers[i].kind, arrow::DataTypeLayout::BITMAP);
          break;
        case BufferKind::kFixed:
        case BufferKind::kOffsets:
          EXPECT_EQ(expected.buffers[i],
                    arrow::DataTypeLayout::FixedWidth(layout.buffers[i].width));
          break;
        case BufferKind::kBytes:
          EXPECT_EQ(expected.buffers[i].kind, arrow::DataTypeLayout::VARIABLE_WIDTH);
          break;
        case BufferKind::kAbsent:
          EXPECT_EQ(expected.buffers[i].kind, arrow::DataTypeLayout::ALWAYS_NULL);
      }
    }
  }
}

TEST_F(SchemaCodec, EveryTypeIdIsTested) {
  std::vector<bool> seen(arrow::Type::MAX_ID);
  for (const auto& [name, type] : testing::AllTypes()) seen[type->id()] = true;
  for (const auto id : arrow::AllTypeIds()) EXPECT_TRUE(seen[id]) << id;
}

TEST_F(SchemaCodec, UnknownTypeNamesItsColumn) {
  const auto unknown = std::make_shared<UnknownType>();
  for (const TypePtr& type :
       {TypePtr(unknown), arrow::list(unknown), TypePtr(TestExtension(unknown)),
        arrow::dictionary(arrow::int8(), unknown)}) {
    const TablePtr table =
        WithoutChunks({field("known", arrow::int8()), field("strange", type)});
    const auto encoded = Encode(*table, Locate());
    ASSERT_RAISES(NotImplemented, encoded);
    EXPECT_THAT(encoded.status().message(), HasSubstr("column 1 'strange'"));
  }
}

TEST_F(SchemaCodec, ExtensionOfAnExtensionNamesItsColumn) {
  const auto encoded =
      Encode(*WithoutChunks({field("x", TestExtension(TestExtension(arrow::int8())))}),
             Locate());
  ASSERT_RAISES(NotImplemented, encoded);
  EXPECT_THAT(encoded.status().message(), HasSubstr("column 0 'x'"));
}

TEST_F(SchemaCodec, TypeThatDoesNotSurviveItsFormatIsRefused) {
  const auto zone = arrow::timestamp(arrow::TimeUnit::SECOND, std::string("UT\0C", 4));
  const auto encoded = Encode(*WithoutChunks({field("x", zone)}), Locate());
  ASSERT_RAISES(NotImplemented, encoded);
  EXPECT_THAT(encoded.status().message(), HasSubstr("column 0 'x'"));
}

TEST_F(SchemaCodec, NestingEndsAtItsBound) {
  TypePtr type = arrow::null();
  for (int depth = 1; depth < kNestingMax; ++depth) {
    type = depth % 2 == 0 ? arrow::list(type) : arrow::dictionary(arrow::int8(), type);
  }
  const TablePtr deepest = WithoutChunks({field("x", type)});
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*deepest));
  EXPECT_TRUE(AreIdentical(*deepest, *decoded));
  const auto deeper = Encode(*WithoutChunks({field("x", arrow::list(type))}), Locate());
  ASSERT_RAISES(Invalid, deeper);
  EXPECT_THAT(deeper.status().message(), HasSubstr("column 0 'x'"));
}

TEST_F(SchemaCodec, RunEndsWithinRunEndsAreCarried) {
  const auto inner = arrow::run_end_encoded(arrow::int16(), arrow::int8());
  const TablePtr table =
      WithoutChunks({field("x", arrow::run_end_encoded(arrow::int32(), inner))});
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*table));
  EXPECT_TRUE(decoded->schema()->Equals(*table->schema(), true));
}

TEST_F(SchemaCodec, ExtensionUnknownToTheReaderIsStorageAndMetadata) {
  const auto own = arrow::key_value_metadata({{"own", "kept"}});
  const TablePtr table = WithoutChunks(
      {field("a", TestExtension(arrow::int8(), std::string("\0z", 2)), true, own),
       field("l", arrow::list(TestExtension(arrow::utf8())))});
  const TestExtensionRegistration unknown(false);
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*table));
  const auto& first = *decoded->field(0);
  EXPECT_TRUE(first.type()->Equals(arrow::int8()));
  EXPECT_EQ(first.metadata()->keys(),
            (std::vector<std::string>{"own", "ARROW:extension:name",
                                      "ARROW:extension:metadata"}));
  EXPECT_EQ(first.metadata()->values(),
            (std::vector<std::string>{"kept", "sheaf.test", std::string("\0z", 2)}));
  const auto& item = *decoded->field(1)->type()->field(0);
  EXPECT_TRUE(item.type()->Equals(arrow::utf8()));
  EXPECT_TRUE(item.metadata()->Contains("ARROW:extension:name"));
}

TEST_F(SchemaCodec, ExtensionComesBackAfterAReaderThatDidNotKnowIt) {
  const TablePtr table =
      WithoutChunks({field("a", TestExtension(arrow::int8()), true,
                           arrow::key_value_metadata({{"own", "kept"}}))});
  TablePtr between;
  {
    const TestExtensionRegistration unknown(false);
    ASSERT_OK_AND_ASSIGN(between, RoundTrip(*table));
  }
  const TestExtensionRegistration known;
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*between));
  EXPECT_TRUE(AreIdentical(*table, *decoded));
}

TEST_F(SchemaCodec, MetadataThatNamesAnExtensionItDoesNotFitStays) {
  const auto metadata = arrow::key_value_metadata(
      {{"ARROW:extension:name", "sheaf.test"}, {"ARROW:extension:metadata", "refuse"}});
  const TablePtr table = WithoutChunks({field("a", arrow::int8(), true, metadata)});
  const TestExtensionRegistration known;
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*table));
  EXPECT_TRUE(AreIdentical(*table, *decoded));
}

TEST_F(SchemaCodec, ExtensionThatRefusesItsDataIsAnError) {
  const TestExtensionRegistration known;
  const auto decoded =
      RoundTrip(*WithoutChunks({field("a", TestExtension(arrow::int8(), "refuse"))}));
  ASSERT_RAISES(Invalid, decoded);
  EXPECT_THAT(decoded.status().message(), HasSubstr("column 0, field 'a'"));
}

/// Whoever only checks what others wrote runs no code of an extension over it.
TEST_F(SchemaCodec, StorageAloneCanBeLookedAt) {
  const TestExtensionRegistration known;
  const auto type = TestExtension(arrow::int8(), "refuse");
  const auto table = WithoutChunks({field("a", type)});
  ASSERT_OK_AND_ASSIGN(const auto bytes, Encode(*table, Locate()));
  ASSERT_OK_AND_ASSIGN(const auto descriptor,
                       Descriptor::Make(bytes, SegmentSize(), Extensions::kStorageOnly));
  EXPECT_EQ(descriptor->schema()->field(0)->type(), arrow::int8());
}

TEST_F(SchemaCodec, TreesThatDoNotCloseAreRefused) {
  ExpectRefused({{"+l", 2, 1}}, "children of the field are missing");
  ExpectRefused({{"+s", 2, 3}, {"i"}, {"i"}}, "children of the field are missing");
  ExpectRefused({{"i", kFieldHasDictionary}}, "children of the field are missing");
  ExpectRefused({{"+s", 2, std::numeric_limits<uint32_t>::max()}, {"i"}},
                "children of the field are missing");
  ExpectRefused(std::vector<Node>(kNestingMax + 1, Node{"+l", 2, 1}), "levels deep");
}

TEST_F(SchemaCodec, ChildrenMustFitTheFormat) {
  ExpectRefused({{"i", 2, 1}, {"i"}}, "has 1 children, not 0");
  ExpectRefused({{"+l"}}, "has 0 children, not 1");
  ExpectRefused({{"+m", 2, 1}, {"i"}}, "entries of a map");
  ExpectRefused({{"+m", 2, 1}, {"+s", 0, 1}, {"i"}}, "entries of a map");
  ExpectRefused({{"+r", 2, 2}, {"f"}, {"i"}}, "run ends cannot be of type float");
  ExpectRefused({{"+us:1,2", 2, 1}, {"i"}}, "type codes");
  ExpectRefused({{"f", kFieldHasDictionary}, {"i"}}, "index type");
}

TEST_F(SchemaCodec, MalformedFormatsAreRefused) {
  for (const std::string format :
       {"", "+", "+q", "+w", "+w:", "+w:-1", "+w:1x", "+w:99999999999", "+ud:128",
        "+ud:x", "+us", "?", "w:", "w:-3", "d:0,1", "d:39,1", "d:5", "tsx:", "ii"}) {
    SCOPED_TRACE(format);
    EXPECT_FALSE(Decode({{format, 2, format.starts_with("+") ? 1U : 0U}, {"i"}}).ok());
  }
  ExpectRefused({{std::string("i\0", 2)}}, "zero byte");
}

TEST_F(SchemaCodec, FlagsMustFitTheFormat) {
  ExpectRefused({{"i", 16}}, "flags 16");
  ExpectRefused({{"i", kFieldDictionaryOrdered}}, "flags 1");
  ExpectRefused({{"i", kFieldMapKeysSorted}}, "flags 4");
  ExpectRefused({{"i", kFieldHasDictionary, 1}, {"i"}, {"i"}}, "flags 8");
}

TEST_F(SchemaCodec, TextThatIsUsedTwiceCannotBlowUp) {
  flatbuffers::FlatBufferBuilder builder;
  const auto format = builder.CreateString("n");
  const auto name = builder.CreateString(std::string(10'000, 'x'));
  const auto node = format::CreateFieldNode(builder, format, name);
  const auto fields = builder.CreateVector(
      std::vector(100, flatbuffers::Offset<format::FieldNode>(node)));
  const auto counts = builder.CreateVector(std::vector<uint32_t>(100));
  const auto arrays = builder.CreateVectorOfStructs(std::vector<format::ArrayNode>());
  const auto refs = builder.CreateVector(std::vector<uint32_t>());
  const auto buffers = builder.CreateVectorOfStructs(std::vector<format::BufferRange>());
  builder.Finish(
      format::CreateTableDescriptor(builder, 0, fields, 0, counts, arrays, refs, buffers),
      format::TableDescriptorIdentifier());
  const std::string bytes(reinterpret_cast<const char*>(builder.GetBufferPointer()),
                          builder.GetSize());
  const auto made = Describe(arrow::Buffer::FromString(bytes));
  ASSERT_RAISES(Invalid, made);
  EXPECT_THAT(made.status().message(), HasSubstr("text of the schema"));
}

}  // namespace
}  // namespace sheaf::codec
