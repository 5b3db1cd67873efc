#include "error_names.h"

#include <cstdlib>
#include <cstring>

namespace gpuroom::sim {
namespace {

struct Entry {
  CUresult result;
  const char* name;
  const char* text;
};

constexpr Entry kEntries[] = {
#define SIM_RESULT(name, text) {name, #name, text},
#include "error_names.def"
};

const Entry* Find(CUresult result) {
  for (const Entry& entry : kEntries) {
    if (entry.result == result) return &entry;
  }
  return nullptr;
}

}  // namespace

const char* ResultName(CUresult result) {
  const Entry* entry = Find(result);
  return entry != nullptr ? entry->name : nullptr;
}

const char* ResultText(CUresult result) {
  const Entry* entry = Find(result);
  return entry != nullptr ? entry->text : nullptr;
}

bool ParseResult(const char* text, CUresult* out) {
  for (const Entry& entry : kEntries) {
    if (std::strcmp(text, entry.name) == 0) {
      *out = entry.result;
      return true;
    }
  }
  char* end = nullptr;
  const long number = std::strtol(text, &end, 10);
  *out = static_cast<CUresult>(number);
  return *text != 0 && *end == 0 && number > 0 && Find(*out) != nullptr;
}

}  // namespace gpuroom::sim
