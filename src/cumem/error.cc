#include "cumem/error.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace gpuroom::cumem {

void Error::Set(const char* what, const char* file, int line, const char* format, ...) {
  if (set()) return;
  const char* slash = std::strrchr(file, '/');
  char detail[400];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(detail, sizeof detail, format, arguments);
  va_end(arguments);
  std::snprintf(text_, sizeof text_, "CUDA Error: %s at %s:%d (%s)", what,
                slash != nullptr ? slash + 1 : file, line, detail);
}

}  // namespace gpuroom::cumem
