#include "runtime/gate.h"

#include <cxxabi.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <new>
#include <optional>

extern "C" void* __dso_handle;  // this library's, from its start-up file

namespace gpuroom {

__attribute__((tls_model("initial-exec"))) thread_local int t_depth = 0;

namespace {

// One per thread that ever passed; a thread that ends leaves its slot to the next.
// They are never freed: a thread may pass until its very end.
struct alignas(64) Slot {
  std::atomic<bool> inside{false};
  std::atomic<bool> taken{true};
  Slot* next = nullptr;
};

__attribute__((tls_model("initial-exec"))) thread_local Slot* t_slot = nullptr;

std::atomic<Slot*> g_slots{nullptr};
constexpr uint32_t kClosed = 1;
constexpr uint32_t kHoldShift = 1;
constexpr uint32_t kHoldBits = 7;
constexpr uint32_t kWatched = 16;  // nothing was submitted since Watch()

std::atomic<uint32_t> g_state{
    0};  // kClosed, the Hold above it and kWatched; the first two are changed by who holds g_closing
std::atomic<uint32_t> g_holds{0};
std::atomic<void (*)()> g_ask{nullptr};
std::mutex g_closing;  // held while the gate is closed; who finds it closed waits for it
__attribute__((tls_model("initial-exec"))) thread_local bool t_never_waits = false;

Hold HoldOf(uint32_t state) { return static_cast<Hold>(state >> kHoldShift & kHoldBits); }

bool Waits(Hold hold) { return hold == Hold::kWait || hold == Hold::kAsk; }

void LeaveSlot(void* slot) {
  t_slot = nullptr;
  static_cast<Slot*>(slot)->taken.store(false, std::memory_order_release);
}

// Nothing where the program has used all keys up.
std::optional<pthread_key_t> SlotKey() {
  static const std::optional<pthread_key_t> key = [] {
    pthread_key_t made = 0;
    return pthread_key_create(&made, LeaveSlot) == 0 ? std::optional(made) : std::nullopt;
  }();
  return key;
}

// A key's destructor runs last of all, also after those of thread_local variables, in which a program may
// still call the driver. Second best, and without a key, is what those use themselves.
void LeaveWhenThreadEnds(Slot* slot) {
  const std::optional<pthread_key_t> key = SlotKey();
  if (key && pthread_setspecific(*key, slot) == 0) return;
  abi::__cxa_thread_atexit(LeaveSlot, slot, &__dso_handle);
}

Slot* TakeSlot() {
  for (Slot* slot = g_slots.load(std::memory_order_acquire); slot != nullptr; slot = slot->next) {
    bool taken = false;
    if (slot->taken.compare_exchange_strong(taken, true)) return slot;
  }
  Slot* slot = new Slot;
  slot->next = g_slots.load(std::memory_order_relaxed);
  while (!g_slots.compare_exchange_weak(slot->next, slot, std::memory_order_release)) {
  }
  return slot;
}

Slot* MySlot() {
  if (t_slot == nullptr) {
    t_slot = TakeSlot();
    LeaveWhenThreadEnds(t_slot);
  }
  return t_slot;
}

// Short at first: most calls last microseconds.
void Pause(int round) {
  if (round < 100) {
    sched_yield();
  } else {
    usleep(100);
  }
}

bool AllOutside(const Slot* closer, uint64_t deadline) {
  for (Slot* slot = g_slots.load(std::memory_order_acquire); slot != nullptr; slot = slot->next) {
    if (slot == closer) continue;
    for (int round = 0; slot->inside.load(std::memory_order_seq_cst); ++round) {
      if (NowNanoseconds() > deadline) return false;
      Pause(round);
    }
  }
  return true;
}

// The state as it was when this thread came in.
uint32_t ComeIn(Slot* slot) {
  for (;;) {
    // Sequentially consistent on both sides: either we see the gate closed, or who
    // closes it sees us inside.
    slot->inside.store(true, std::memory_order_seq_cst);
    const uint32_t state = g_state.load(std::memory_order_seq_cst);
    if ((state & kClosed) == 0) return state;
    slot->inside.store(false, std::memory_order_release);
    const std::lock_guard wait(g_closing);
  }
}

}  // namespace

void Gate::Enter() { ComeIn(MySlot()); }

Hold Gate::EnterToSubmit() {
  Slot* slot = MySlot();
  for (;;) {
    const uint32_t state = ComeIn(slot);
    if (state == 0) return Hold::kNone;
    if ((state & kWatched) != 0) g_state.fetch_and(~kWatched, std::memory_order_relaxed);
    const Hold hold = HoldOf(state);
    if (!Waits(hold)) return hold;
    if (t_never_waits) return Hold::kFail;
    // Outside: a wake closes the gate.
    slot->inside.store(false, std::memory_order_release);
    AwaitHold();
  }
}

void Gate::AwaitHold() {
  for (;;) {
    const uint32_t state = g_state.load(std::memory_order_acquire);
    if (!Waits(HoldOf(state))) return;
    void (*const ask)() = g_ask.load(std::memory_order_acquire);
    if (HoldOf(state) == Hold::kAsk && ask != nullptr) ask();
    g_state.wait(state, std::memory_order_acquire);
  }
}

void Gate::RefuseForGood() {
  const uint32_t closed = g_state.load(std::memory_order_relaxed) & kClosed;
  g_state.store(closed | (static_cast<uint32_t>(Hold::kLost) << kHoldShift), std::memory_order_seq_cst);
  g_state.notify_all();
}

void Gate::SetHold(Hold hold) {
  if (Gate::hold() == Hold::kLost) return;
  if (hold != Hold::kNone) g_holds.fetch_add(1, std::memory_order_relaxed);
  const uint32_t watched = g_state.load(std::memory_order_relaxed) & kWatched;
  g_state.store(kClosed | watched | (static_cast<uint32_t>(hold) << kHoldShift), std::memory_order_seq_cst);
  g_state.notify_all();
}

void Gate::EndHold() {
  if (hold() == Hold::kLost) return;
  g_state.fetch_and(kClosed | kWatched, std::memory_order_seq_cst);
  g_state.notify_all();
}

Hold Gate::hold() { return HoldOf(g_state.load(std::memory_order_acquire)); }

uint32_t Gate::holds() { return g_holds.load(std::memory_order_relaxed); }

void Gate::AskBy(void (*ask)()) { g_ask.store(ask, std::memory_order_release); }

void Gate::Watch() { g_state.fetch_or(kWatched, std::memory_order_relaxed); }

bool Gate::SubmittedSinceWatch() { return (g_state.load(std::memory_order_relaxed) & kWatched) == 0; }

void Gate::NeverWaitHere() { t_never_waits = true; }

bool Gate::NeverWaits() { return t_never_waits; }

void Gate::Leave() { MySlot()->inside.store(false, std::memory_order_release); }

bool Gate::Close(uint64_t timeout) {
  Slot* slot = MySlot();
  // Outside while another thread closes: it would wait for us.
  slot->inside.store(false, std::memory_order_release);
  g_closing.lock();
  slot->inside.store(true, std::memory_order_relaxed);
  g_state.fetch_or(kClosed, std::memory_order_seq_cst);
  if (AllOutside(slot, NowNanoseconds() + timeout)) return true;
  Open();
  return false;
}

void Gate::Open() {
  g_state.fetch_and(~kClosed, std::memory_order_seq_cst);
  g_closing.unlock();
}

void Gate::ForgetAfterFork() {
  g_state.store(0);
  new (&g_closing) std::mutex;  // a thread that is not here may have held it
  for (Slot* slot = g_slots.load(); slot != nullptr; slot = slot->next) {
    if (slot == t_slot) continue;
    slot->inside.store(false);
    slot->taken.store(false);
  }
}

}  // namespace gpuroom
