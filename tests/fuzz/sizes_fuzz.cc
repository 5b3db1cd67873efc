// Sizes, ratios, lists of GPUs and link speeds, as options and variables have them.
#include <string>

#include "base/size.h"
#include "fuzz.h"
#include "range/managed_cap.h"
#include "topology/link_speeds.h"
#include "topology/peer_choice.h"
#include "topology/sysroot.h"

using gpuroom::fuzz::Require;

namespace {

void FuzzSize(std::string_view text) {
  const gpuroom::Result<uint64_t> bytes = gpuroom::ParseSize(text);
  if (!bytes.ok()) return;
  Require(*bytes <= INT64_MAX, "a size is at most 2^63-1 bytes");
  Require(!gpuroom::FormatSize(*bytes).empty(), "every size can be printed");
  const gpuroom::Result<uint64_t> again = gpuroom::ParseSize(std::to_string(*bytes));
  Require(again.ok() && *again == *bytes, "a size in bytes is read back");
}

void FuzzRatio(std::string_view text) {
  const gpuroom::Result<double> ratio = gpuroom::ParseRatio(text);
  if (ratio.ok()) Require(*ratio >= 0.1 && *ratio <= 100, "a ratio is from 0.1 to 100");
}

void FuzzPeers(std::string_view text) {
  const gpuroom::Result<gpuroom::PeerChoice> choice = gpuroom::ParsePeerChoice(text);
  if (!choice.ok()) return;
  const std::string written = gpuroom::FormatPeerChoice(*choice);
  const gpuroom::Result<gpuroom::PeerChoice> again = gpuroom::ParsePeerChoice(written);
  Require(again.ok() && gpuroom::FormatPeerChoice(*again) == written, "a list of GPUs is read back");
}

void FuzzSpeeds(std::string_view text) {
  const gpuroom::Result<gpuroom::LinkSpeeds> speeds = gpuroom::ParseLinkSpeeds(text);
  if (!speeds.ok()) return;
  Require(gpuroom::ArePlausible(*speeds), "link speeds that are read are plausible");
  const std::string written = gpuroom::FormatLinkSpeeds(*speeds);
  const gpuroom::Result<gpuroom::LinkSpeeds> again = gpuroom::ParseLinkSpeeds(written);
  Require(again.ok() && gpuroom::FormatLinkSpeeds(*again) == written, "link speeds are read back");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = gpuroom::fuzz::Input(data, size).TakeRest();
  FuzzSize(text);
  FuzzRatio(text);
  FuzzPeers(text);
  FuzzSpeeds(text);
  (void)gpuroom::ParseIdList(text);
  return 0;
}
