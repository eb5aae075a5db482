// The seed of a random test: printed, and settable to replay a failure.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

namespace sheaf::testing {

/// \brief The environment's SHEAF_TEST_SEED, else a new one at each run.
inline uint64_t TestSeed() {
  const char* text =
      std::getenv("SHEAF_TEST_SEED");  // NOLINT(concurrency-mt-unsafe): at start
  const uint64_t seed = text != nullptr ? std::stoull(text) : std::random_device{}();
  std::cout << "SHEAF_TEST_SEED=" << seed << '\n';
  return seed;
}

}  // namespace sheaf::testing
