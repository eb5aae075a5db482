// Runs a fuzz target without libFuzzer: on each file named on the command line or in a
// folder that is, on prefixes of it, and with single bytes changed. So that ctest finds a
// decoder that breaks.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;
using Paths = std::vector<std::filesystem::path>;

/// Prefixes and changed bytes, over all files: seconds, also under a sanitizer. Those of
/// larger files are sampled.
constexpr size_t kVariantsMax = 4096;

Bytes ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// The files at and below `path`, in the same order everywhere.
void AddFiles(const std::filesystem::path& path, Paths* files) {
  if (!std::filesystem::is_directory(path)) return files->push_back(path);
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    files->push_back(entry.path());
  }
  std::ranges::sort(*files);
}

// A copy of just that size, so that a sanitizer sees the first byte too many.
void Run(const Bytes& bytes, size_t size) {
  const Bytes exact(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

void RunVariants(Bytes bytes, size_t variants) {
  const size_t step = bytes.size() / variants + 1;
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
  Paths files;
  for (int i = 1; i < argc; ++i) AddFiles(argv[i], &files);
  if (files.empty()) {
    std::fprintf(stderr, "no seeds\n");
    return 1;
  }
  for (const auto& path : files) {
    const Bytes bytes = ReadFile(path);
    std::printf("%s: %zu bytes\n", path.c_str(), bytes.size());
    std::fflush(stdout);
    Run(bytes, bytes.size());
    RunVariants(bytes, kVariantsMax / files.size() + 1);
  }
  return 0;
}
