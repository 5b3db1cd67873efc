#include "runtime/unserved.h"

#include <atomic>
#include <cstdio>

#include "base/log.h"
#include "runtime/runtime.h"

namespace gpuroom {
namespace {

enum class Note : int { kNone, kBeingWritten, kWritten, kLogged };

std::atomic<Note> g_note{Note::kNone};
char g_text[300];  // by who made kBeingWritten of kNone

}  // namespace

void NoteUnserved(const char* how, const char* name) {
  Note none = Note::kNone;
  if (!g_note.compare_exchange_strong(none, Note::kBeingWritten)) return;
  std::snprintf(g_text, sizeof g_text, "%.200s is opened %s", name, how);
  g_note.store(Note::kWritten);
  if (Runtime::Existing() != nullptr) LogUnserved();
}

void LogUnserved() {
  Note written = Note::kWritten;
  if (!g_note.compare_exchange_strong(written, Note::kLogged)) return;
  Log(LogLevel::kWarn, "%s: the GPU calls that it makes pass gpuroom by (docs/limits.md)", g_text);
}

}  // namespace gpuroom
