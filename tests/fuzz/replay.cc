// In the place of libFuzzer's main: feeds a target every file of the folders that are named, and beginnings
// of each, as a file that was cut short has. So the corpus is a test of every build, whatever its compiler.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz.h"

namespace {

constexpr size_t kBeginnings = 64;  // of each file, at most

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A copy without a byte to spare, so that AddressSanitizer sees a read past the end.
void Feed(const std::string& text, size_t size) {
  const std::vector<uint8_t> bytes(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size));
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

size_t FeedFile(const std::filesystem::path& path) {
  const std::string text = ReadFile(path);
  const size_t step = std::max(text.size() / kBeginnings, size_t{1});
  size_t fed = 1;
  for (size_t size = 0; size < text.size(); size += step, ++fed) Feed(text, size);
  Feed(text, text.size());
  return fed;
}

}  // namespace

int main(int argc, char** argv) {
  size_t fed = 0;
  for (int i = 1; i < argc; ++i) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const std::filesystem::path& file : files) {
      std::printf("%s\n", file.c_str());
      std::fflush(stdout);  // the last line names the file that crashed
      fed += FeedFile(file);
    }
  }
  std::printf("%zu inputs\n", fed);
  return fed > 0 ? 0 : 1;
}
