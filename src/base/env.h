// The environment variables by which `gpuroom run` speaks to the preloaded
// shim, in every process below it. Sizes are plain decimal bytes there; the
// command line's units are resolved before. README lists those meant for users.
#pragma once

namespace gpuroom::env {

// The value as the program's environment has it now, as getenv gives it: copy what is to be kept. Where the
// program has written over its environment, as those do that show a title in `ps`, the value that was there
// when this library was loaded. Null: not set, or unset by the program.
const char* Find(const char* name);

inline constexpr char kHbmLimit[] = "GPUROOM_HBM_LIMIT";    // bytes per device or "50%" of each; unset: all
inline constexpr char kHostLimit[] = "GPUROOM_HOST_LIMIT";  // bytes for the node's processes together
inline constexpr char kHostPart[] = "GPUROOM_HOST_PART";    // what each GPU may use of the host limit
inline constexpr char kReserve[] = "GPUROOM_RESERVE";       // HBM bytes kept for small allocations
inline constexpr char kRangeThreshold[] = "GPUROOM_RANGE_THRESHOLD";  // bytes; below: the driver's own
inline constexpr char kPolicy[] = "GPUROOM_POLICY";                   // gpu_first, balanced or cpu_first
inline constexpr char kResidentBelow[] = "GPUROOM_RESIDENT_BELOW";    // bytes; below: belongs in HBM
inline constexpr char kExpect[] = "GPUROOM_EXPECT";           // bytes that large data will take on a device
inline constexpr char kPeers[] = "GPUROOM_PEERS";             // none, auto, or ordinals: "1:21474836480,2"
inline constexpr char kRules[] = "GPUROOM_RULES";             // one line, as range/rules.h reads it
inline constexpr char kLinkSpeeds[] = "GPUROOM_LINK_SPEEDS";  // bytes/s: "device=...,peer=...,host=..."
inline constexpr char kHostAhead[] = "GPUROOM_HOST_AHEAD";    // bytes of host chunks created in advance
inline constexpr char kBackend[] = "GPUROOM_BACKEND";         // tiers or managed
// Of managed memory: bytes under which it is prefetched, the cap in times the HBM, and "1": more than
// the device has free also without a coherent link.
inline constexpr char kPrefetchBelow[] = "GPUROOM_PREFETCH_BELOW";
inline constexpr char kOversubscriptionRatio[] = "GPUROOM_OVERSUBSCRIPTION_RATIO";
inline constexpr char kAllowOversubscription[] = "GPUROOM_ALLOW_OVERSUBSCRIPTION";
inline constexpr char kReport[] = "GPUROOM_REPORT";                 // "1": print a report at exit
inline constexpr char kStatsFile[] = "GPUROOM_STATS_FILE";          // one JSON line per process is appended
inline constexpr char kStatsInterval[] = "GPUROOM_STATS_INTERVAL";  // and one more so often: "10000ms"
inline constexpr char kTrace[] = "GPUROOM_TRACE";                   // events go to FILE.PID
inline constexpr char kQuiet[] = "GPUROOM_QUIET";      // "1": gpuroom run does not say what it offers
inline constexpr char kLog[] = "GPUROOM_LOG";          // off, error, warn, info or debug
inline constexpr char kControl[] = "GPUROOM_CONTROL";  // "1": other processes may ask for sleep and wake
inline constexpr char kControlDir[] = "GPUROOM_CONTROL_DIR";  // folder of the control sockets
inline constexpr char kShareGroup[] =
    "GPUROOM_SHARE_GROUP";  // group of programs that take turns on their GPUs
inline constexpr char kShareArbiter[] = "GPUROOM_SHARE_ARBITER";  // path of the program that is their arbiter
inline constexpr char kSharePriority[] = "GPUROOM_SHARE_PRIORITY";  // batch, normal or interactive
inline constexpr char kShareReserve[] = "GPUROOM_SHARE_RESERVE";    // HBM bytes that others leave to it
inline constexpr char kShareQuantum[] = "GPUROOM_SHARE_QUANTUM";    // of a turn, at least, such as "2s"
inline constexpr char kIdleAfter[] = "GPUROOM_IDLE_AFTER";          // without launches, such as "100ms"
inline constexpr char kHostKeep[] = "GPUROOM_HOST_KEEP";  // bytes of released host chunks kept for reuse
inline constexpr char kLedger[] = "GPUROOM_LEDGER";       // path of the node ledger, for tests
inline constexpr char kSleepDir[] = "GPUROOM_SLEEP_DIR";  // where sleeping to disk writes its files
// "1": host memory that holds the contents of what sleeps is told as free.
inline constexpr char kKeptIsFree[] = "GPUROOM_KEPT_IS_FREE";
inline constexpr char kSim[] = "GPUROOM_SIM";                 // profile of the simulated driver
inline constexpr char kSimSeed[] = "GPUROOM_SIM_SEED";        // order of late stream work
inline constexpr char kSimMachine[] = "GPUROOM_SIM_MACHINE";  // file by which processes share its memory
inline constexpr char kSimFail[] = "GPUROOM_SIM_FAIL";        // which driver calls fail

}  // namespace gpuroom::env
