#include "base/env.h"

#include <sys/auxv.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace gpuroom::env {
namespace {

// A variable as it was when the library was loaded. `original` lies in the block that the kernel gave the
// process.
struct Copy {
  const char* original;
  char* text;  // NAME=VALUE
};

constexpr int kMostCopies = 64;
Copy g_copies[kMostCopies];
int g_count = 0;

bool IsOurs(const char* entry) {
  return std::strncmp(entry, "GPUROOM_", 8) == 0 || std::strncmp(entry, "TMS_", 4) == 0;
}

// In that block, which is never freed and which titles are written over. It lies between the random bytes and
// the program's file name that the kernel put on the first stack. What the program set itself lies elsewhere.
bool IsFromKernel(const char* entry) {
  const auto address = reinterpret_cast<unsigned long>(entry);
  return address > getauxval(AT_RANDOM) && address < getauxval(AT_EXECFN);
}

// Libraries whose constructors run before this one find what is in the environment then.
__attribute__((constructor)) void CopyAtLoad() {
  for (char** entry = environ; entry != nullptr && *entry != nullptr && g_count < kMostCopies; ++entry) {
    if (!IsOurs(*entry) || !IsFromKernel(*entry)) continue;
    char* text = strdup(*entry);
    if (text != nullptr) g_copies[g_count++] = {*entry, text};
  }
}

// The value in NAME=VALUE; null where it is another variable's.
const char* ValueOf(const char* entry, const char* name) {
  const size_t length = std::strlen(name);
  return std::strncmp(entry, name, length) == 0 && entry[length] == '=' ? entry + length + 1 : nullptr;
}

}  // namespace

const char* Find(const char* name) {
  if (const char* value = std::getenv(name)) return value;
  for (int i = 0; i < g_count; ++i) {
    const char* value = ValueOf(g_copies[i].text, name);
    if (value == nullptr) continue;
    // Still there, so that the program took it out of its environment rather than writing over it.
    const bool unset = std::strcmp(g_copies[i].original, g_copies[i].text) == 0;
    return unset ? nullptr : value;
  }
  return nullptr;
}

}  // namespace gpuroom::env
