#include "base/trace.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <type_traits>

#include "base/write_signals.h"

namespace gpuroom {
namespace {

uint32_t ThreadNumber() {
  __attribute__((tls_model("initial-exec"))) static thread_local uint32_t t_number = 0;
  if (t_number == 0) t_number = static_cast<uint32_t>(syscall(SYS_gettid));
  return t_number;
}

// Seen by others after all that was put before. A fence would do, but ThreadSanitizer knows none.
template <typename T>
void Put(T& place, std::type_identity_t<T> value) {
  std::atomic_ref(place).store(value, std::memory_order_release);
}

// Maps `file`, with memory behind every byte of it: one that is written later must not end the program
// because the disk is full.
Status Map(int file, void** out) {
  const int error = posix_fallocate(file, 0, static_cast<off_t>(kTraceBytes));
  if (error != 0) return Status(Code::kSystem, "there is no room for the trace", error);
  *out = mmap(nullptr, kTraceBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
  return *out != MAP_FAILED ? Status() : Status(Code::kSystem, "the trace cannot be mapped", errno);
}

void Fill(TraceHeader* header) {
  std::memcpy(header->magic, kTraceMagic, sizeof header->magic);
  header->capacity = kTraceCapacity;
  header->monotonic = NowNanoseconds();
  header->unix_time = ReadClock(CLOCK_REALTIME);
  header->process = static_cast<uint64_t>(getpid());
  // The process's name, not the thread's.
  const int file = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
  const ssize_t length = file < 0 ? 0 : read(file, header->program, sizeof header->program - 1);
  if (file >= 0) close(file);
  if (length > 0) header->program[length - 1] = '\0';  // in place of the end of the line
}

}  // namespace

constinit std::atomic<TraceHeader*> Trace::header_{nullptr};

Status Trace::Start(const char* path) {
  unlink(path);  // an older one; who still writes to it, in another container, keeps its own
  const int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (file < 0) return Status(Code::kSystem, "the trace cannot be created", errno);
  void* place = nullptr;
  const WriteSignalsBlocked blocked;
  const Status status = Map(file, &place);
  close(file);
  if (!status.ok()) {
    unlink(path);
    return status;
  }
  Fill(static_cast<TraceHeader*>(place));
  header_.store(static_cast<TraceHeader*>(place), std::memory_order_release);
  return Status();
}

void Trace::Write(TraceHeader* header, TraceKind kind, int device, uint64_t start,
                  std::initializer_list<uint64_t> values) {
  const uint64_t now = NowNanoseconds();
  const uint64_t number = std::atomic_ref(header->next).fetch_add(1, std::memory_order_relaxed);
  char* const records = reinterpret_cast<char*>(header) + kTraceRecordsAt;
  TraceRecord& record = reinterpret_cast<TraceRecord*>(records)[number % kTraceCapacity];
  // The process may be killed anywhere here, a reader may look, and a thread that was away for as long as
  // others took for the whole ring may write to the same record.
  Put(record.sequence, 0);
  Put(record.end, now);
  Put(record.duration, start != 0 ? now - start : 0);
  for (size_t i = 0; i < record.values.size(); ++i)
    Put(record.values[i], i < values.size() ? values.begin()[i] : 0);
  Put(record.thread, ThreadNumber());
  Put(record.kind, static_cast<uint16_t>(kind));
  Put(record.device, device >= 0 ? static_cast<uint16_t>(device) : kNoTraceDevice);
  Put(record.sequence, number + 1);
}

}  // namespace gpuroom
