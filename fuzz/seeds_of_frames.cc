// Seeds of streams of frames.

#include <cstdint>
#include <filesystem>
#include <string>

#include "fuzz/seeds.h"
#include "platform/unix_socket.h"

namespace sheaf::fuzz {
namespace {

std::string FrameOf(const std::string& payload) {
  platform::FrameHeader header;
  header.payload_size_bytes = static_cast<uint32_t>(payload.size());
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) + payload;
}

}  // namespace

void WriteFrameSeeds(const std::filesystem::path& corpus) {
  const SeedFolder seeds(corpus, "frame");
  const auto write = [&](const char* name, char fds, char step,
                         const std::string& bytes) {
    seeds.Write(name, std::string{fds, step} + bytes);
  };
  const std::string hello = FrameOf("hello");
  write("one", 0, 63, hello);
  write("bytewise", 0, 0, hello + hello);
  write("with_descriptor", 1, 63, hello);
  write("most_descriptors", 4, 3, hello + hello);
  write("too_many_descriptors", 5, 63, hello);
  write("without_payload", 0, 63, FrameOf("") + FrameOf("") + hello);
  write("cut_short", 0, 63, hello.substr(0, 10));
  write("half_header", 0, 63, hello.substr(0, 4));
  write("wrong_magic", 0, 63, "x" + hello);
  write("long_payload", 0, 127, FrameOf(std::string(2000, 'x')) + hello);
  std::string too_large = hello;
  too_large[7] = 0x7F;
  write("too_large", 0, 63, too_large);
  std::string large = hello;
  large[7] = 0x04;  // just below the limit
  write("announces_much", 0, 63, large);
}

}  // namespace sheaf::fuzz
