#include "tier/hbm_account.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace gpuroom {

std::unique_ptr<HbmAccount> HbmAccount::Open(Ledger& ledger, const Driver& driver, CUdevice device,
                                             const Budget& used) {
  CUuuid uuid{};
  size_t total = 0;
  if (driver.DeviceGetUuid(&uuid, device) != CUDA_SUCCESS) return nullptr;
  if (driver.DeviceTotalMem(&total, device) != CUDA_SUCCESS) return nullptr;
  GpuUuid name;
  std::memcpy(name.data(), uuid.bytes, name.size());
  const Result<Ledger::Account> account = ledger.AccountOf(name);
  if (account.ok()) return std::unique_ptr<HbmAccount>(new HbmAccount(ledger, *account, total, used));
  Log(LogLevel::kInfo, "what other processes use of GPU %d is not known: %s", device,
      account.status().what());
  return nullptr;
}

void HbmAccount::MarkInUse() {
  in_use_.store(true, std::memory_order_relaxed);
  Tell();
}

uint64_t HbmAccount::Free() {
  const uint64_t used = used_.used() + Others();
  return total_ > used ? total_ - used : 0;
}

// In half steps: a program that allocates and frees around a multiple of them does not tell the ledger each
// time.
uint64_t HbmAccount::ToTell() const {
  constexpr uint64_t kHalf = kStep / 2;
  const uint64_t rounded = (used_.used() + kHalf - 1) / kHalf * kHalf;
  return std::max(rounded, in_use_.load(std::memory_order_relaxed) ? kStep : 0);
}

// Where the ledger fails it is asked again at the next step; until then the others see what it showed last.
void HbmAccount::Tell() {
  MutexLock lock(mutex_);
  // Other threads allocate and free meanwhile.
  for (uint64_t want = ToTell(); want != told_.load(std::memory_order_relaxed); want = ToTell()) {
    told_.store(want, std::memory_order_relaxed);
    const uint64_t shown = ledger_.Own(account_);
    if (want < shown) ledger_.Release(shown - want, account_);
    if (want > shown) (void)ledger_.Claim(want - shown, UINT64_MAX, account_).ok();
  }
}

}  // namespace gpuroom
