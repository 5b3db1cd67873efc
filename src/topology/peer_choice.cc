#include "topology/peer_choice.h"

#include <algorithm>
#include <optional>

#include "base/size.h"
#include "topology/sysroot.h"

namespace gpuroom {
namespace {

Status Invalid(const char* what) { return Status(Code::kInvalidArgument, what); }

Result<PeerLoan> ParseLoan(std::string_view word) {
  const size_t colon = word.find(':');
  const std::optional<uint64_t> ordinal = ParseNumber(word.substr(0, colon));
  if (!ordinal || *ordinal > PeerChoice::kMostOrdinal) {
    return Invalid("not a list of GPUs; write none, auto or numbers from 0 to 63, such as 1:20GiB,2");
  }
  PeerLoan loan{static_cast<int>(*ordinal), 0};
  if (colon == std::string_view::npos) return loan;
  const Result<uint64_t> bytes = ParseSize(word.substr(colon + 1));
  if (!bytes.ok()) return Invalid("without a size after ':'; write a number and a unit, such as 1:20GiB");
  if (*bytes < PeerChoice::kLeast) return Invalid("a loan of less than 2 MiB; add a unit, such as 1:20GiB");
  loan.bytes = *bytes;
  return loan;
}

}  // namespace

Result<PeerChoice> ParsePeerChoice(std::string_view text) {
  PeerChoice choice;
  if (text == "none") return choice;
  choice.kind = text == "auto" ? PeerChoice::Kind::kAuto : PeerChoice::Kind::kList;
  if (text == "auto") return choice;
  for (bool more = true; more;) {
    const size_t comma = text.find(',');
    const Result<PeerLoan> loan = ParseLoan(text.substr(0, comma));
    if (!loan.ok()) return loan.status();
    if (std::any_of(choice.list.begin(), choice.list.end(),
                    [&loan](const PeerLoan& other) { return other.ordinal == loan->ordinal; })) {
      return Invalid("a list that names a GPU twice; leave one out");
    }
    choice.list.push_back(*loan);
    more = comma != std::string_view::npos;
    if (more) text.remove_prefix(comma + 1);
  }
  return choice;
}

std::string FormatPeerChoice(const PeerChoice& choice) {
  if (choice.kind == PeerChoice::Kind::kNone) return "none";
  if (choice.kind == PeerChoice::Kind::kAuto) return "auto";
  std::string text;
  for (const PeerLoan& loan : choice.list) {
    if (!text.empty()) text += ',';
    text += std::to_string(loan.ordinal);
    if (loan.bytes != 0) text += ':' + std::to_string(loan.bytes);
  }
  return text;
}

}  // namespace gpuroom
