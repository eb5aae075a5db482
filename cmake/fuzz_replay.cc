// Runs a fuzz target without libFuzzer: on each file named on the command line, on every
// prefix of it, and with each byte changed. So that ctest finds a decoder that breaks.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <ios>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

/// Large files are sampled: about this many prefixes and changed bytes of each.
constexpr size_t kVariantsMax = 4096;

Bytes ReadFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A copy of just that size, so that a sanitizer sees the first byte too many.
void Run(const Bytes& bytes, size_t size) {
  const Bytes exact(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

void RunVariants(Bytes bytes) {
  Run(bytes, bytes.size());
  const size_t step = bytes.size() / kVariantsMax + 1;
  for (size_t i = 0; i < bytes.size(); i += step) {
    Run(bytes, i);
    for (const uint8_t change : {uint8_t{0x01}, uint8_t{0x80}, uint8_t{0xff}}) {
      bytes[i] = static_cast<uint8_t>(bytes[i] ^ change);
      Run(bytes, bytes.size());
      bytes[i] = static_cast<uint8_t>(bytes[i] ^ change);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const Bytes bytes = ReadFile(argv[i]);
    std::printf("%s: %zu bytes\n", argv[i], bytes.size());
    RunVariants(bytes);
  }
  return 0;
}
