#include "runtime/options.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "base/env.h"
#include "base/interval.h"
#include "base/log.h"
#include "base/size.h"
#include "range/names.h"

namespace gpuroom {
namespace {

constexpr uint64_t kDefaultThreshold = 16 * kMiB;
constexpr uint64_t kMostReserve = 512 * kMiB;
constexpr uint64_t kMostResidentBelow = 2 * kGiB;
// Where it is known how much is to be spread, weights are to be: what belongs in HBM is PyTorch's
// segments of 20 MiB, in which small tensors lie, and cuBLAS's workspace of 32 MiB.
constexpr uint64_t kSpreadResidentBelow = 64 * kMiB;

void Ignore(const char* name, const char* text, const char* why) {
  // Of a long text its beginning, so that the line has room for the reason.
  Log(LogLevel::kWarn, "%s is '%.64s': %s; it is ignored", name, text, why);
}

// Null where the variable is not set, or empty, which one line says: somebody meant to give it a value.
const char* Text(const char* name) {
  const char* text = env::Find(name);
  if (text == nullptr || *text != '\0') return text;
  Ignore(name, text, "empty");
  return nullptr;
}

std::optional<uint64_t> ReadBytes(const char* name) {
  const char* text = Text(name);
  if (text == nullptr) return std::nullopt;
  const Result<uint64_t> bytes = ParseSize(text);
  if (bytes.ok()) return *bytes;
  Ignore(name, text, bytes.status().what());
  return std::nullopt;
}

uint64_t ReadBytes(const char* name, uint64_t fallback) { return ReadBytes(name).value_or(fallback); }

Limit ReadLimit(const char* name) {
  const char* text = Text(name);
  if (text == nullptr) return Limit();
  const Result<Limit> limit = ParseLimit(text);
  if (limit.ok()) return *limit;
  Ignore(name, text, limit.status().what());
  return Limit();
}

uint64_t ReadPeriod(const char* name) {
  const char* text = Text(name);
  if (text == nullptr) return 0;
  const Result<uint64_t> interval = ParsePeriod(text);
  if (interval.ok()) return *interval;
  Ignore(name, text, interval.status().what());
  return 0;
}

Policy ReadPolicy(Policy fallback) {
  const char* text = Text(env::kPolicy);
  if (text == nullptr) return fallback;
  const std::optional<Policy> policy = ParsePolicy(text);
  if (!policy) Ignore(env::kPolicy, text, "not a policy; take gpu_first, balanced or cpu_first");
  return policy.value_or(fallback);
}

Backend ReadBackend() {
  const char* text = Text(env::kBackend);
  if (text == nullptr) return Backend::kTiers;
  const std::optional<Backend> backend = ParseBackend(text);
  if (!backend) Ignore(env::kBackend, text, "not a backend; take tiers or managed");
  return backend.value_or(Backend::kTiers);
}

double ReadRatio(double fallback) {
  const char* text = Text(env::kOversubscriptionRatio);
  if (text == nullptr) return fallback;
  const Result<double> ratio = ParseRatio(text);
  if (ratio.ok()) return *ratio;
  Ignore(env::kOversubscriptionRatio, text, ratio.status().what());
  return fallback;
}

PeerChoice ReadPeers() {
  const char* text = Text(env::kPeers);
  if (text == nullptr) return PeerChoice();
  Result<PeerChoice> peers = ParsePeerChoice(text);
  if (peers.ok()) return std::move(*peers);
  Ignore(env::kPeers, text, peers.status().what());
  return PeerChoice();
}

HostPart ReadHostPart() {
  const char* text = Text(env::kHostPart);
  if (text == nullptr) return HostPart();
  const Result<HostPart> part = ParseHostPart(text);
  if (part.ok()) return *part;
  Ignore(env::kHostPart, text, part.status().what());
  return HostPart();
}

// One rule that cannot be read makes all of them doubtful: their order decides.
Rules ReadRules() {
  const char* text = Text(env::kRules);
  if (text == nullptr) return Rules();
  RulesMistake mistake;
  Result<Rules> rules = Rules::Parse(text, &mistake);
  if (rules.ok()) return std::move(*rules);
  Log(LogLevel::kWarn, "%s: rule %zu, '%.*s': %s; all rules are ignored", env::kRules, mistake.rule,
      static_cast<int>(mistake.part.size()), mistake.part.data() == nullptr ? "" : mistake.part.data(),
      rules.status().what());
  return Rules();
}

LinkSpeeds ReadLinkSpeeds() {
  const char* text = Text(env::kLinkSpeeds);
  if (text == nullptr) return LinkSpeeds();
  const Result<LinkSpeeds> speeds = ParseLinkSpeeds(text);
  if (speeds.ok()) return *speeds;
  Ignore(env::kLinkSpeeds, text, speeds.status().what());
  return LinkSpeeds();
}

bool Flag(const char* name) {
  const char* text = env::Find(name);
  return text != nullptr && std::strcmp(text, "1") == 0;
}

ManagedOptions ReadManaged() {
  ManagedOptions managed;
  managed.prefetch_below = ReadBytes(env::kPrefetchBelow, managed.prefetch_below);
  managed.ratio = ReadRatio(managed.ratio);
  managed.allow_oversubscription = Flag(env::kAllowOversubscription);
  return managed;
}

}  // namespace

Options ReadOptions() {
  Options options;
  options.hbm_limit = ReadLimit(env::kHbmLimit);
  options.host_limit = ReadBytes(env::kHostLimit, 0);
  options.host_part = ReadHostPart();
  options.reserve = ReadBytes(env::kReserve);
  options.range_threshold = std::max(ReadBytes(env::kRangeThreshold, kDefaultThreshold), uint64_t{1});
  options.host_ahead = ReadBytes(env::kHostAhead, 0);
  // What was created ahead is used more than once: sleep after sleep.
  options.host_keep = ReadBytes(env::kHostKeep, std::max(options.host_limit / 4, options.host_ahead));
  options.expect = ReadBytes(env::kExpect, 0);
  options.policy = ReadPolicy(options.expect > 0 ? Policy::kBalanced : Policy::kGpuFirst);
  options.resident_below = ReadBytes(env::kResidentBelow);
  options.peers = ReadPeers();
  options.rules = ReadRules();
  options.link_speeds = ReadLinkSpeeds();
  options.backend = ReadBackend();
  options.managed = ReadManaged();
  if (const char* group = Text(env::kShareGroup)) options.share_group = group;
  if (const char* arbiter = Text(env::kShareArbiter)) options.share_arbiter = arbiter;
  options.kept_is_free = Flag(env::kKeptIsFree);
  options.report = Flag(env::kReport);
  if (const char* file = Text(env::kTrace)) options.trace = file;
  if (const char* file = Text(env::kStatsFile)) options.stats_file = file;
  options.stats_interval = ReadPeriod(env::kStatsInterval);
  return options;
}

uint64_t Options::AskedOf(uint64_t total) const {
  return hbm_limit.limited() ? hbm_limit.Of(total) : Budget::kUnlimited;
}

uint64_t Options::ReserveOf(uint64_t total) const {
  return reserve.value_or(std::min(kMostReserve, AskedOf(total) / 32));
}

uint64_t Options::ResidentBelow(uint64_t total) const {
  const uint64_t most = expect > 0 ? kSpreadResidentBelow : kMostResidentBelow;
  return std::max(resident_below.value_or(std::min(most, AskedOf(total) / 16)), range_threshold);
}

}  // namespace gpuroom
