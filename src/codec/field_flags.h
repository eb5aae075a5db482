// Bits of `format::FieldNode::flags`. The first three are those of the Arrow C data
// interface.

#pragma once

#include <cstdint>

namespace sheaf::codec {

constexpr uint32_t kFieldDictionaryOrdered = 1;
constexpr uint32_t kFieldNullable = 2;
constexpr uint32_t kFieldMapKeysSorted = 4;
constexpr uint32_t kFieldHasDictionary = 8;
constexpr uint32_t kFieldFlagsAll = 15;

}  // namespace sheaf::codec
