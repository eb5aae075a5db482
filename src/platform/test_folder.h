// A folder of its own for a test. Not for other code.

#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/check.h"

namespace sheaf::platform {

/// \brief Made below the system's folder for temporary files, removed on destruction.
class TestFolder {
 public:
  TestFolder()
      : path_((std::filesystem::temp_directory_path() / "sheaf-XXXXXX").string()) {
    SHEAF_CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace sheaf::platform
