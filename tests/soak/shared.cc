#include "shared.h"

#include <dlfcn.h>

#include <chrono>
#include <cstdio>

#include "program.h"

namespace gpuroom::soak {
namespace {

template <typename Function>
void Find(Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

}  // namespace

Library FindLibrary() {
  Library library;
  Find(library.describe, "gpuroom_describe");
  Find(library.migrate_batch, "gpuroom_migrate_batch");
  Find(library.range_migrate, "gpuroom_range_migrate");
  Find(library.set_hint, "gpuroom_set_hint");
  Find(library.set_thread_hint, "gpuroom_set_thread_hint");
  Find(library.last_error, "gpuroom_last_error");
  return library;
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Weather::Begin(const std::string& rules) {
  epoch_.fetch_add(1);  // before the first call can fail
  shim_test::GetSim().fail(rules.c_str());
}

void Weather::End() {
  shim_test::GetSim().fail("");
  epoch_.fetch_add(1);
}

void Mailbox::Put(std::unique_ptr<Block> block, uint64_t device) {
  const std::lock_guard lock(mutex_);
  letters_.push_back({std::move(block), device});
}

std::unique_ptr<Block> Mailbox::Take(uint64_t device) {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < letters_.size(); ++i) {
    if (letters_[i].device != device) continue;
    std::unique_ptr<Block> block = std::move(letters_[i].block);
    letters_.erase(letters_.begin() + static_cast<std::ptrdiff_t>(i));
    return block;
  }
  return nullptr;
}

Shared::Shared(const Settings& chosen, size_t operation_kinds)
    : settings(chosen),
      library(FindLibrary()),
      end_(chosen.seconds > 0 ? Now() + chosen.seconds : 0),
      counters_(operation_kinds) {}

bool Shared::Next() {
  const uint64_t number = begun_.fetch_add(1);
  if (settings.operations > 0 && number >= settings.operations) return false;
  return end_ == 0 || Now() < end_;
}

void Shared::Count(size_t operation, Outcome outcome) {
  counters_[operation][static_cast<size_t>(outcome)].fetch_add(1, std::memory_order_relaxed);
  const uint64_t number = done_.fetch_add(1) + 1;
  if (settings.progress == 0 || number % settings.progress != 0) return;
  std::printf("%llu operations, %llu cells verified, %llu MiB migrated\n",
              static_cast<unsigned long long>(number), static_cast<unsigned long long>(verified.load()),
              static_cast<unsigned long long>(migrated.load() / kMiB));
  std::fflush(stdout);
}

uint64_t Shared::Counted(size_t operation, Outcome outcome) const {
  return counters_[operation][static_cast<size_t>(outcome)].load();
}

uint64_t Shared::Counted(Outcome outcome) const {
  uint64_t sum = 0;
  for (const Counters& counters : counters_) sum += counters[static_cast<size_t>(outcome)].load();
  return sum;
}

}  // namespace gpuroom::soak
