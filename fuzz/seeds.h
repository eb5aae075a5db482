// Seeds of the fuzz targets, made from what the program itself writes.

#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"

namespace sheaf::fuzz {

/// \brief The seeds of one target: files below `corpus`/`target`, which is emptied first.
class SeedFolder {
 public:
  SeedFolder(const std::filesystem::path& corpus, const std::string& target)
      : folder_(corpus / target) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  void Write(const std::string& name, std::string_view bytes) const {
    std::ofstream file(folder_ / name, std::ios::binary);
    file << bytes;
    SHEAF_CHECK(file.flush().good());
  }
  void Write(const std::string& name, std::span<const uint8_t> bytes) const {
    Write(name,
          std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  /// \brief Without the zeros at its end, which the targets add again.
  void WriteShort(const std::string& name, std::string_view bytes) const {
    Write(name, bytes.substr(0, bytes.find_last_not_of('\0') + 1));
  }

 private:
  std::filesystem::path folder_;
};

void WriteValueSeeds(const std::filesystem::path& corpus);    ///< seeds_of_values.cc
void WriteLineSeeds(const std::filesystem::path& corpus);     ///< seeds_of_lines.cc
void WriteMessageSeeds(const std::filesystem::path& corpus);  ///< seeds_of_messages.cc
void WriteFrameSeeds(const std::filesystem::path& corpus);    ///< seeds_of_frames.cc
void WriteRestartSeeds(const std::filesystem::path& corpus);  ///< seeds_of_restarts.cc

}  // namespace sheaf::fuzz
