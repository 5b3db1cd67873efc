// The node ledger's file, as any process of the same user may leave it, and this process's line in /proc. The
// input: 15 bytes that become the process's name, the file's length, then writes into it, each a place, a
// length and bytes.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>

#include "fuzz.h"
#include "scratch_folder.h"
#include "tier/ledger.h"

namespace gpuroom {
namespace {

constexpr uint64_t kClaim = uint64_t{1} << 20;

std::string FileOf(fuzz::Input* input) {
  std::string file(kLedgerBytes + kLedgerColumnBytes, '\0');
  LedgerHeader header{{}, kLedgerVersion, kLedgerSlots};
  std::memcpy(header.magic, kLedgerMagic, sizeof header.magic);
  std::memcpy(file.data(), &header, sizeof header);
  const auto cut = input->TakeNumber<uint16_t>();  // 0: the whole file
  while (!input->empty()) {
    const auto kind = input->TakeNumber<uint8_t>();
    const uint32_t slot = input->TakeNumber<uint16_t>() % kLedgerSlots;
    const std::string_view bytes = input->Take(kind % 32);
    size_t at = 0;
    std::string written(bytes);
    if (kind >= 128) {  // a share as its owner writes it
      uint64_t share = 0;
      bytes.copy(reinterpret_cast<char*>(&share), sizeof share);
      const uint64_t word = EncodeShare(slot, share & kMaxLedgerShare);
      written.assign(reinterpret_cast<const char*>(&word), sizeof word);
      at = kLedgerWords + slot * sizeof word;
    } else if (kind >= 64) {
      at = kLedgerOwners + slot * sizeof(LedgerOwner);
    } else if (kind >= 48) {
      at = kLedgerBytes + slot * sizeof(uint64_t);
    } else if (kind >= 32) {
      at = kLedgerWords + slot * sizeof(uint64_t);
    } else if (slot != 0) {
      at = kLedgerUuids + slot % kLedgerGpus * sizeof(GpuUuid);
    }
    file.replace(at, written.size(), written);
  }
  if (cut != 0) file.resize(cut);
  return file;
}

void WriteFile(const std::string& path, const std::string& bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  fuzz::Require(fd >= 0, "the scratch folder can be written");
  fuzz::Require(write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
                "there is room in it");
  close(fd);
}

void FuzzGpu(Ledger& ledger) {
  const Result<Ledger::Account> account = ledger.AccountOf({'G', 'P', 'U'});
  if (!account.ok()) return;
  fuzz::Require(ledger.Others(*account) <= kLedgerSlots * kMaxLedgerShare, "shares are within their bound");
  const bool claimed = ledger.Claim(kClaim, UINT64_MAX, *account).ok();
  fuzz::Require(ledger.Own(*account) == (claimed ? kClaim : 0), "what was claimed is held");
  ledger.Release(kClaim, *account);
}

void FuzzLedger(const std::string& path) {
  Result<std::unique_ptr<Ledger>> opened = Ledger::Open(path.c_str());
  if (!opened.ok()) return;
  Ledger& ledger = **opened;
  fuzz::Require(ledger.Own() == 0, "a new ledger holds nothing");
  fuzz::Require(ledger.Others() <= kLedgerSlots * kMaxLedgerShare, "shares are within their bound");
  const bool claimed = ledger.Claim(kClaim, UINT64_MAX).ok();
  fuzz::Require(ledger.Own() == (claimed ? kClaim : 0), "what was claimed is held");
  ledger.Release(kClaim);
  fuzz::Require(ledger.Own() == 0, "what was released is not");
  FuzzGpu(ledger);
}

void FuzzProcessName(std::string_view name) {
  prctl(PR_SET_NAME, "fuzz");
  const LedgerOwner plain = CurrentOwner();
  prctl(PR_SET_NAME, std::string(name).c_str());
  const LedgerOwner named = CurrentOwner();
  fuzz::Require(plain.start == named.start && plain.check == named.check,
                "a process's name is not its start");
}

}  // namespace
}  // namespace gpuroom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const gpuroom::fuzz::ScratchFolder folder;
  const std::string path = folder.path() + "/ledger";
  gpuroom::fuzz::Input input(data, size);
  gpuroom::FuzzProcessName(input.Take(15));
  gpuroom::WriteFile(path, gpuroom::FileOf(&input));
  gpuroom::FuzzLedger(path);
  return 0;
}
