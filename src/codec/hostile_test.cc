// Descriptors that someone else wrote, or that lost bits: an error, or a table that stays
// inside its buffers. Never a crash, never a read outside.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/extension_type.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/checked_cast.h>
#include <gtest/gtest.h>

#include "codec/codec.h"
#include "format/descriptor_generated.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/codec_fixture.h"
#include "testing/random_array.h"
#include "testing/tables.h"
#include "testing/test_seed.h"

namespace sheaf::codec {
namespace {

using arrow::internal::checked_cast;
using testing::NamedTable;

/// Whether all elements of `data` lie in its buffers and children, judged by Arrow's own
/// layouts and not by the codec's.
bool IsInside(const arrow::ArrayData& data);

bool BuffersAreInside(const arrow::ArrayData& data, const arrow::DataTypeLayout& layout) {
  if (data.buffers.size() < layout.buffers.size()) return false;
  if (data.buffers.size() > layout.buffers.size() && !layout.variadic_spec) return false;
  const __int128 end = static_cast<__int128>(data.offset) + data.length;
  for (size_t i = 0; i < layout.buffers.size(); ++i) {
    const auto& spec = layout.buffers[i];
    __int128 needed = 0;
    if (spec.kind == arrow::DataTypeLayout::BITMAP) needed = (end + 7) / 8;
    if (spec.kind == arrow::DataTypeLayout::FIXED_WIDTH) needed = end * spec.byte_width;
    if (data.length == 0) needed = 0;
    if (spec.kind == arrow::DataTypeLayout::ALWAYS_NULL) {
      if (data.buffers[i] != nullptr) return false;
    } else if (data.buffers[i] == nullptr) {
      if (i == 0 ? data.null_count > 0 : needed > 0) return false;
    } else if (data.buffers[i]->size() < needed) {
      return false;
    }
  }
  return true;
}

bool ChildrenAreInside(const arrow::ArrayData& data, const arrow::DataType& storage) {
  if (data.child_data.size() != static_cast<size_t>(storage.num_fields())) return false;
  const __int128 end = static_cast<__int128>(data.offset) + data.length;
  for (size_t i = 0; i < data.child_data.size(); ++i) {
    const arrow::ArrayData& child = *data.child_data[i];
    if (!child.type->Equals(*storage.field(static_cast<int>(i))->type())) return false;
    __int128 needed = 0;
    switch (storage.id()) {
      case arrow::Type::STRUCT:
      case arrow::Type::SPARSE_UNION:
        needed = end;
        break;
      case arrow::Type::FIXED_SIZE_LIST:
        needed = end * checked_cast<const arrow::FixedSizeListType&>(storage).list_size();
        break;
      case arrow::Type::RUN_END_ENCODED:
        needed = i == 0 ? (data.length > 0 ? 1 : 0) : data.child_data[0]->length;
        break;
      default:
        break;
    }
    if (child.length < needed || !IsInside(child)) return false;
  }
  return true;
}

bool IsInside(const arrow::ArrayData& data) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  if (data.length < 0 || data.offset < 0 || data.offset > kMax - data.length ||
      data.null_count < -1 || data.null_count > data.length) {
    return false;
  }
  const arrow::DataType& storage =
      data.type->id() == arrow::Type::EXTENSION
          ? *checked_cast<const arrow::ExtensionType&>(*data.type).storage_type()
          : *data.type;
  const arrow::DataTypeLayout layout = storage.layout();
  if ((data.dictionary != nullptr) != layout.has_dictionary) return false;
  return BuffersAreInside(data, layout) && ChildrenAreInside(data, storage) &&
         (data.dictionary == nullptr || IsInside(*data.dictionary));
}

class Hostile : public testing::CodecFixture {
 protected:
  /// Descriptors of small tables of every type, sliced so that there are offsets.
  std::vector<std::shared_ptr<arrow::Buffer>> Samples() {
    std::vector<std::shared_ptr<arrow::Buffer>> samples;
    for (const NamedTable& named : testing::AllTypesTables({.num_rows = 40})) {
      const auto first = named.table->num_columns() > 3
                             ? named.table
                             : named.table->SelectColumns({0}).ValueOr(named.table);
      const auto table = arena_.CopyIn(*first->Slice(3, 30));
      samples.push_back(Encode(*table, Locate()).ValueOrDie());
      if (samples.size() % 16 == 0) {
        const auto sum = [](const GlobalRange& range) -> arrow::Result<uint64_t> {
          return range.size_bytes;
        };
        samples.push_back(Encode(*table, Locate(), sum).ValueOrDie());
      }
    }
    return samples;
  }

  /// The claim of this file, for one sequence of bytes.
  void Try(const std::string& bytes) {
    ++tried_;
    arena_.Protect(true);
    const auto descriptor = Describe(arrow::Buffer::FromString(bytes));
    if (!descriptor.ok()) {
      EXPECT_NE(descriptor.status().message(), "");
      return;
    }
    ++accepted_;
    for (const GlobalRange& range : (*descriptor)->Ranges()) {
      ASSERT_LE(range.end_offset(), *arena_.SegmentSize(range.begin.segment));
    }
    ASSERT_OK_AND_ASSIGN(const auto table, (*descriptor)->ToTable(MakeBuffer()));
    ASSERT_TRUE(arena_.Holds(*table));
    for (const auto& column : table->columns()) {
      for (const auto& chunk : column->chunks()) ASSERT_TRUE(IsInside(*chunk->data()));
    }
    ASSERT_OK(
        (*descriptor)->VisitBuffers([](const GlobalRange&, std::optional<uint64_t>) {
          return arrow::Status::OK();
        }));
    if (table->num_rows() > 1000) return;
    // What the data now means, Arrow may judge; it must get to a verdict, and then keep
    // to it.
    arena_.Protect(false);
    if (!table->ValidateFull().ok()) return;
    ++valid_;
    (void)table->ToString();
    (void)table->CombineChunks();
    (void)table->Slice(table->num_rows() / 2)->CombineChunks();
  }

  int64_t tried_ = 0;
  int64_t accepted_ = 0;
  int64_t valid_ = 0;
};

template <typename Word>
std::vector<Word> HostileValues(Word value) {
  using Limits = std::numeric_limits<Word>;
  return {0,
          1,
          2,
          static_cast<Word>(value + 1),
          static_cast<Word>(value - 1),
          static_cast<Word>(value * 2),
          static_cast<Word>(~value),
          Limits::max(),
          static_cast<Word>(Limits::max() - 1),
          static_cast<Word>(Limits::max() / 2),
          static_cast<Word>(Limits::max() / 2 + 1),
          static_cast<Word>(Limits::max() / 16)};
}

TEST_F(Hostile, EveryWordSetToHostileValues) {
  const auto samples = Samples();
  for (size_t i = 0; i < samples.size(); ++i) {
    const std::string good = samples[i]->ToString();
    if (good.size() > 4096) continue;  // All types at once: covered by their own samples.
    const auto try_words = [&]<typename Word>(Word) {
      for (size_t at = 0; at + sizeof(Word) <= good.size(); at += sizeof(Word)) {
        Word value = 0;
        std::memcpy(&value, good.data() + at, sizeof(Word));
        for (const Word hostile : HostileValues(value)) {
          std::string bytes = good;
          std::memcpy(bytes.data() + at, &hostile, sizeof(Word));
          Try(bytes);
          if (HasFatalFailure()) return;
        }
      }
    };
    if (i % 8 == 0) try_words(uint16_t{});  // Entries of vtables: much the same in all.
    try_words(uint32_t{});
    try_words(uint64_t{});
    ASSERT_FALSE(HasFatalFailure());
  }
  RecordProperty("tried", std::to_string(tried_));
  RecordProperty("accepted", std::to_string(accepted_));
  EXPECT_GT(accepted_, tried_ / 100);
  EXPECT_LT(accepted_, tried_ / 2);
}

TEST_F(Hostile, RandomBitFlips) {
  testing::Random random(testing::TestSeed());
  const auto samples = Samples();
  for (int i = 0; i < 100'000; ++i) {
    const auto& sample = samples[static_cast<size_t>(
        random.Below(static_cast<int64_t>(samples.size()) - 1))];
    std::string bytes = sample->ToString();
    for (int64_t flips = 1 + random.Below(3); flips > 0; --flips) {
      const auto bit = random.Below(static_cast<int64_t>(bytes.size()) * 8);
      char& byte = bytes[static_cast<size_t>(bit / 8)];
      byte = static_cast<char>(static_cast<uint8_t>(byte) ^ (1U << (bit % 8)));
    }
    ASSERT_NO_FATAL_FAILURE(Try(bytes));
  }
}

/// Trees that hang together but for a few numbers, of which most are small: what random
/// bits do not find. One column in two chunks, often without rows.
class Tampered {
 public:
  Tampered(std::string* bytes, testing::Random* random)
      : table_(*format::GetTableDescriptor(bytes->data())), random_(*random) {}

  void Tamper() {
    if (random_.OneIn(2)) DropRows();
    for (int64_t i = random_.Below(3); i > 0; --i) ChangeNode();
    for (int64_t i = random_.Below(3); i > 0; --i) ChangeBuffer();
  }

 private:
  using ArrayNode = format::ArrayNode;

  ArrayNode& Node(uint32_t i) { return *const_cast<ArrayNode*>(table_.arrays()->Get(i)); }
  ArrayNode& AnyNode() { return Node(static_cast<uint32_t>(Below(table_.arrays()))); }
  template <typename Vector>
  int64_t Below(const Vector* vector) {
    return random_.Below(static_cast<int64_t>(vector->size()));
  }

  void DropRows() {
    for (const uint32_t root : {0U, table_.arrays()->size() / 2}) {
      const ArrayNode& node = Node(root);
      Node(root) = {0, 0, random_.OneIn(2) ? 0 : node.offset(), node.buffer_count(),
                    node.child_count()};
    }
    auto& fields = const_cast<flatbuffers::Table&>(
        reinterpret_cast<const flatbuffers::Table&>(table_));
    (void)fields.SetField<int64_t>(format::TableDescriptor::VT_NUM_ROWS, 0, -1);
  }

  void ChangeNode() {
    ArrayNode& node = AnyNode();
    int64_t length = node.length();
    int64_t nulls = node.null_count();
    int64_t offset = node.offset();
    const int64_t small = random_.Below(3);
    switch (random_.Below(6)) {
      case 0:
        length = small;
        nulls = std::min(nulls, length);
        break;
      case 1:
        length = std::max<int64_t>(length - small, 0);
        break;
      case 2:
        nulls = -1;
        break;
      case 3:
        nulls = random_.OneIn(2) ? 0 : length;
        break;
      case 4:
        offset = small;
        break;
      default:
        offset = int64_t{1} << random_.Below(63);
    }
    node = {length, nulls, offset, node.buffer_count(), node.child_count()};
  }

  void ChangeBuffer() {
    if (table_.buffer_refs()->size() == 0 || table_.buffers()->size() == 0) return;
    if (random_.OneIn(4)) {
      const auto i = static_cast<uint32_t>(Below(table_.buffers()));
      *const_cast<format::BufferRange*>(table_.buffers()->Get(i)) = {};
      return;
    }
    auto* refs = const_cast<uint32_t*>(table_.buffer_refs()->data());
    refs[Below(table_.buffer_refs())] =
        random_.OneIn(2) ? 0 : static_cast<uint32_t>(1 + Below(table_.buffers()));
  }

  const format::TableDescriptor& table_;
  testing::Random& random_;
};

TEST_F(Hostile, TreesWithAFewWrongNumbers) {
  testing::Random random(testing::TestSeed());
  std::vector<std::string> samples;
  for (const auto& [name, type] : testing::AllTypes()) {
    for (const testing::Nulls nulls : {testing::Nulls::kNone, testing::Nulls::kSome}) {
      const auto data =
          testing::RandomArray(type, 12, nulls, &random, arrow::default_memory_pool());
      const auto array = arrow::MakeArray(data);
      const auto column = std::make_shared<arrow::ChunkedArray>(
          arrow::ArrayVector{array->Slice(2, 3), array->Slice(7)});
      const auto table =
          arrow::Table::Make(arrow::schema({arrow::field("x", type)}), {column});
      samples.push_back(
          Encode(*arena_.CopyIn(*table), Locate()).ValueOrDie()->ToString());
    }
  }
  for (int i = 0; i < 30'000; ++i) {
    std::string bytes =
        samples[static_cast<size_t>(random.Below(static_cast<int64_t>(samples.size())))];
    Tampered(&bytes, &random).Tamper();
    ASSERT_NO_FATAL_FAILURE(Try(bytes));
  }
  EXPECT_GT(valid_, tried_ / 20);
}

TEST_F(Hostile, EveryTruncation) {
  const auto samples = Samples();
  for (size_t i = 0; i < samples.size(); i += 7) {
    const std::string good = samples[i]->ToString();
    for (size_t size = 0; size < good.size() && size < 2000; ++size) {
      Try(good.substr(0, size));
      Try(good.substr(good.size() - size));
    }
  }
}

TEST_F(Hostile, PartsOfTwoDescriptorsSewnTogether) {
  testing::Random random(testing::TestSeed());
  const auto samples = Samples();
  const auto count = static_cast<int64_t>(samples.size());
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = samples[static_cast<size_t>(random.Below(count - 1))]->ToString();
    const std::string other =
        samples[static_cast<size_t>(random.Below(count - 1))]->ToString();
    const auto begin = static_cast<size_t>(
        random.Below(static_cast<int64_t>(std::min(bytes.size(), other.size())) / 4) * 4);
    const size_t size = std::min<size_t>(static_cast<size_t>(4 + random.Below(16) * 4),
                                         std::min(bytes.size(), other.size()) - begin);
    bytes.replace(begin, size, other, begin, size);
    ASSERT_NO_FATAL_FAILURE(Try(bytes));
  }
}

}  // namespace
}  // namespace sheaf::codec
