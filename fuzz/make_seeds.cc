// Writes the seeds in fuzz/corpus/ anew, when a format has changed:
//   cmake --build --preset release --target make_fuzz_seeds
//   build/release/fuzz/make_fuzz_seeds fuzz/corpus
// Files of other names that a fuzzer found, and that stay for what they reach, go with
// that: bring them back with git.

#include <cstdio>

#include "fuzz/seeds.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  sheaf::fuzz::WriteValueSeeds(argv[1]);
  sheaf::fuzz::WriteLineSeeds(argv[1]);
  sheaf::fuzz::WriteMessageSeeds(argv[1]);
  sheaf::fuzz::WriteFrameSeeds(argv[1]);
  sheaf::fuzz::WriteRestartSeeds(argv[1]);
  return 0;
}
