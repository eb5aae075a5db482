// FlatBuffers' verifier does not look at where structs begin; a hostile buffer may
// misalign them.

#pragma once

#include <cstdint>

#include <flatbuffers/flatbuffers.h>

namespace sheaf::format {

/// \brief True if the struct (or nothing) lies where the CPU may load its fields.
template <typename Struct>
bool IsAligned(const Struct* field) {
  return reinterpret_cast<uintptr_t>(field) % alignof(Struct) == 0;
}

/// \brief True if all structs of the vector (or nothing) do.
template <typename Struct>
bool IsAligned(const flatbuffers::Vector<const Struct*>* structs) {
  return structs == nullptr || structs->size() == 0 ||
         IsAligned(reinterpret_cast<const Struct*>(structs->Data()));
}

/// \brief The same of numbers, which nobody else checks.
inline bool IsAligned(const flatbuffers::Vector<uint64_t>* numbers) {
  return numbers == nullptr || numbers->size() == 0 ||
         reinterpret_cast<uintptr_t>(numbers->Data()) % alignof(uint64_t) == 0;
}

}  // namespace sheaf::format
