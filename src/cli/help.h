// The help texts, written by hand so that they read the same with every version
// of the option parser. docs/cli.md repeats them word for word; a test compares.
#pragma once

#include <string_view>

namespace gpuroom {

inline constexpr std::string_view kGeneralHelp = R"(gpuroom: one GPU program, more memory than the GPU has

Usage:
  gpuroom run [options] -- CMD ...   run CMD with host memory added to its GPUs' memory
  gpuroom env [options]              what run would set, for Ray, Slurm, containers and shells
  gpuroom sleep PID... [options]     give a running program's GPU memory back; addresses stay
  gpuroom wake PID... [options]      take it again, contents and all
  gpuroom hint HINT PID... [options] say how a running program's memory is used
  gpuroom ps [options]               the programs under gpuroom, and what of them sleeps
  gpuroom top [options]              the same as it changes, and their GPUs
  gpuroom exporter [options]         their figures for Prometheus
  gpuroom demo [options]             see it work: a sample program that needs 1.75 times the HBM
  gpuroom doctor [options]           what this machine has, and what it means for gpuroom
  gpuroom plan MODEL [options]       whether a model fits, where it would lie and how fast it would be
  gpuroom trace FILE -o OUT          what run --trace wrote, for a viewer
  gpuroom bench tiers [options]      how fast each memory is that this GPU can use
  gpuroom bench sleep [options]      how fast GPU memory is given back and had again
  gpuroom help [COMMAND]             explain a command
  gpuroom --version                  print the version

Try first:
  gpuroom demo
  gpuroom doctor
  gpuroom run --dry-run -- python train.py

Exit status:
  0     success
  1     a check of doctor failed, the demo found wrong data, a measurement failed,
        a planned model does not fit, or a process could not do what it was asked for
  2     bad usage or bad input
  3     no usable GPU or driver
  4     there is no such process, or it is not under gpuroom
  5     the process is another user's
  6     a process has no room to sleep or to wake
  126   CMD cannot be run (not executable, set-uid, 32-bit, ...)
  127   CMD was not found
  130   Ctrl-C ended a measurement, or the waiting for a process
  Otherwise 'gpuroom run' becomes CMD, so its exit status and signals are CMD's own.
)";

inline constexpr std::string_view kRunHelp =
    R"(gpuroom run: run CMD with host memory added to its GPUs' memory

Usage:
  gpuroom run [options] -- CMD ...

CMD and every process it starts see one larger device memory: what fits stays in
the GPU's own memory (HBM), what does not is mapped from host memory. CMD itself
is unchanged. gpuroom replaces itself by CMD, so input, output, signals and the
exit status are CMD's own.

Options:
  --hbm-limit SIZE|N%     HBM that CMD may use on each GPU, a part of what the GPU
                          has in all included (default: all of it)
  --host-limit SIZE|auto  host memory that it may use in all (default: auto, what
                          the machine can spare after a reserve for the host)
  --host-part auto|equal|SIZE|N%
                          what each GPU may use of the host limit, promised to it:
                          auto (default: an equal part for each rank that torchrun
                          or Slurm started on this node, else no parts, and who
                          asks first gets it), equal (for each GPU that CMD sees)
  --reserve SIZE          HBM kept free for small allocations (default: 512MiB,
                          or 1/32 of --hbm-limit where that is less)
  --policy POLICY         what large data gets: gpu_first (default: HBM while it
                          has room), balanced (every link its share), cpu_first
                          (the host while it has room)
  --expect SIZE           GPU memory that CMD will take on a GPU in all: balanced, which
                          is the policy then, spreads it evenly over HBM and the rest,
                          so that both are read at once from the first byte to the last
  --resident-below SIZE   allocations under SIZE belong in HBM under every policy,
                          and large data gives way to them
                          (default: 2GiB, with --expect 64MiB, or 1/16 of
                          --hbm-limit where that is less)
  --peers none|auto|LIST  other GPUs whose HBM may be used: none (default), auto
                          (every GPU in reach that neither CMD nor another process
                          under gpuroom uses), or
                          numbers with a limit or without, such as 1:20GiB,2
  --rules FILE            policy, hint and backend by size or tag: a file in JSON, see below
  --host-ahead SIZE       host memory created in advance, in the background
                          (default: 0)
  --backend tiers|managed what serves large allocations: tiers (default), or the
                          driver's managed memory, which moves as it is used;
                          --policy says where it belongs
  --prefetch-below SIZE   with managed memory: under gpu_first, allocations under
                          SIZE are prefetched to the GPU (default: 2GiB)
  --oversubscription-ratio R
                          with managed memory: at most R times the HBM, never more
                          than HBM and host limit together (default: 5.0)
  --allow-oversubscription
                          with managed memory: more than the GPU has free also
                          without a hardware-coherent link to the host, where that
                          can hang the card
  --share                 take turns on the GPUs' memory with the other programs that
                          run with --share, as if each had it alone (docs/share.md)
  --share-group NAME      the same with the programs of this group alone
  --share-priority PRIORITY
                          whose memory gives way: batch, normal (default), interactive;
                          one with a higher priority does not wait for others' turns
  --share-reserve SIZE    HBM on each GPU that others leave to CMD (default: 0)
  --share-quantum T       a turn: for so long others of its priority do not take what CMD
                          has (default: six times what it takes to move it)
  --idle-after T          without a launch for so long, CMD counts as idle, and others
                          take its memory at once (default: 100ms)
  --no-control            'gpuroom sleep' and 'wake' do not reach these processes
  --no-plugins            Python programs do not find gpuroom's plug-ins (for vLLM)
  --report                print to standard error, as each process exits, what lay
                          where
  --stats-file FILE       append one line of JSON for each process to FILE
  --stats-interval T      and one more every T, such as 10s or 500ms, while the
                          process runs, so that one that is killed has some, too
  --trace FILE            write events (allocations, moves, sleeps and more) to FILE.PID
                          for each process, for 'gpuroom trace'
  --quiet                 do not say at the start what is offered (GPUROOM_QUIET=1
                          in the environment does the same)
  --dry-run               print what would be offered and set, and run nothing
  --json                  with --dry-run: print it as JSON
  --sysroot DIR           with --dry-run: of the machine whose /proc and /sys are
                          below DIR, such as a copy of another machine's
  --sim PROFILE           use the simulated driver: a machine's name (h200, gh200,
                          gh200-egm, gb200, gb10, rtx4090, 8xh200) or sizes such as
                          2x80GiB,host=256GiB
  -h, --help              print this text

SIZE is a number with a unit, such as 6GiB, 512MiB or 1.5T; units are powers of
1024. T is a whole number with ms, s, m or h. What is not given here is taken from
the environment, so that a run inside another keeps the outer one's:
GPUROOM_HBM_LIMIT, GPUROOM_HOST_LIMIT, GPUROOM_HOST_PART, GPUROOM_RESERVE,
GPUROOM_POLICY, GPUROOM_EXPECT, GPUROOM_RESIDENT_BELOW, GPUROOM_PEERS,
GPUROOM_RULES (the rules, not a file), GPUROOM_HOST_AHEAD, GPUROOM_BACKEND,
GPUROOM_PREFETCH_BELOW, GPUROOM_OVERSUBSCRIPTION_RATIO,
GPUROOM_ALLOW_OVERSUBSCRIPTION, GPUROOM_SHARE_GROUP, GPUROOM_SHARE_PRIORITY,
GPUROOM_SHARE_RESERVE, GPUROOM_SHARE_QUANTUM, GPUROOM_IDLE_AFTER,
GPUROOM_STATS_FILE, GPUROOM_STATS_INTERVAL.

The options of PyTorch's UVM patches are taken out of PYTORCH_CUDA_ALLOC_CONF and
PYTORCH_ALLOC_CONF, and CMD gets the rest of these as it is: use_uvm:True means
--backend managed, uvm_oversubscription_ratio:R --oversubscription-ratio R, and
uvm_access_pattern:POLICY --policy POLICY. The options above go before them.

A file of rules looks like this; the first rule that matches an allocation counts,
and goes before the options and what the program says. Each has one or more of
"policy", "hint" (hot, cold, stream or none) and "backend" (tiers or managed); "min"
and "max" (sizes, both included) and "tag" (given by the program) may be left out:
  {"rules": [{"min": "1GiB", "max": "8GiB", "tag": "kv_cache", "hint": "cold"},
             {"min": "1GiB", "policy": "balanced"}]}

Examples:
  gpuroom run -- python train.py
  gpuroom run --hbm-limit 20GiB --report -- python serve.py
  gpuroom run --policy balanced --resident-below 256MiB -- python generate.py
  gpuroom run --expect 30GiB -- python generate.py
  gpuroom run --backend managed --policy cpu_first -- python generate.py
  gpuroom run --share -- python serve.py
  gpuroom run --host-limit 64GiB --stats-file stats.jsonl -- ./simulate --steps 100
  gpuroom run --dry-run --json -- python train.py
  gpuroom run --sim 1GiB,host=4GiB -- ./my-driver-api-test
)";

inline constexpr std::string_view kEnvHelp =
    R"(gpuroom env: what run would set, for Ray, Slurm, containers and shells

Usage:
  gpuroom env [--format FORMAT] [options of run]

Prints the variables that 'gpuroom run' with these options would set for a program, and
gpuroom's own that are set here. Whatever starts the program can set them itself; the
program is then under gpuroom.
Paths, the host memory that can be spared and the variables in use are those of the
machine or container where this command runs: run it where the programs will run.

Options:
  --format FORMAT  sh (default: lines for a shell), json, docker (a file for
                   --env-file), k8s (a container's env list in YAML), ray (a
                   runtime_env in JSON), slurm (an #SBATCH line)
  --sysroot DIR    --host-limit auto is that of the machine whose /proc and /sys are
                   below DIR, such as a copy of another machine's
  -h, --help       print this text

All options of 'gpuroom run' are taken but --quiet, --dry-run and --json. A --host-limit that is
more than this machine has is taken, too, with a line that says so, and --stats-file is
not opened.

Examples:
  source <(gpuroom env --hbm-limit 20GiB); python train.py
  docker run --env-file <(gpuroom env --format docker) IMAGE
  gpuroom env --format ray > env.yaml; ray job submit --runtime-env env.yaml -- ...
  gpuroom env --format slurm --host-limit 64GiB
)";

inline constexpr std::string_view kSleepHelp =
    R"(gpuroom sleep: give a running program's GPU memory back; addresses stay

Usage:
  gpuroom sleep PID... [options]
  gpuroom sleep --all [options]

Asks processes that run under 'gpuroom run' to back their GPU memory up and to
give it back, all or nothing in each. Pointers, streams and CUDA graphs stay valid.
'gpuroom wake' undoes it. What sleeps: large allocations, 16 MiB and more, and from
2 MiB those with a tag; the rest stays awake and is counted.

Options:
  --tag TAG               put to sleep what has this tag, and nothing else; may be
                          repeated
  --action keep|disk|drop what becomes of the contents: kept in host memory
                          (default), in a file, or lost
  --disk DIR              --action disk, with the file in DIR (without it: in the
                          program's GPUROOM_SLEEP_DIR)
  --drop-tag TAG          the contents of this tag are lost, whatever --action says;
                          may be repeated
  --on-launch wait|fail|pass
                          what the program's launches and copies do until all is
                          awake: wait (default), fail, or go on, where the program
                          knows what is asleep
  --verify                the wake compares checksums
  --all                   every process of this user
  --json                  print the result as JSON
  -h, --help              print this text

Ctrl-C ends the waiting, not the sleep.

Exit status: 0 done; 1 a process could not (it captures a graph, a call failed);
2 bad usage, a tag that the process does not know, a folder that it cannot use;
4 no such process, or not under gpuroom; 5 another user's; 6 no room for the backup.
Several processes are asked at the same time; one that had no room beside the others
is asked again by itself. The first that failed, as they were named, counts.

Examples:
  gpuroom sleep 1234
  gpuroom sleep 1234 --drop-tag kv_cache
  gpuroom sleep 1234 --tag weights --disk /var/tmp
  gpuroom sleep --all --json
)";

inline constexpr std::string_view kWakeHelp = R"(gpuroom wake: give a sleeping program its GPU memory again

Usage:
  gpuroom wake PID... [options]
  gpuroom wake --all [options]

At the same addresses, with the contents that were backed up; what was dropped has
undefined contents. All or nothing in each process: where there is no room, it
stays asleep with its backup, and a later wake works.

Options:
  --tag TAG   wake what has this tag, and nothing else; may be repeated, and what is
              named first wakes first
  --lazy      the program goes on sooner, with most of its data in host memory, which
              then moves to the GPU in the background
  --all       every process of this user
  --json      print the result as JSON
  -h, --help  print this text

Exit status: as for 'gpuroom sleep'; 6: the GPU has no room.

Examples:
  gpuroom wake 1234
  gpuroom wake 1234 --tag weights --tag kv_cache
  gpuroom wake 1234 --lazy
)";

inline constexpr std::string_view kHintHelp = R"(gpuroom hint: say how a running program's memory is used

Usage:
  gpuroom hint HINT PID... [options]
  gpuroom hint HINT --all [options]

HINT is hot (the last to give way when HBM is short), cold (the first to give way), stream
(read from front to back) or none. It moves nothing by itself: what gives way next, and
what comes back to HBM, goes by it. It is for the large allocations that are there now.

Options:
  --tag TAG   only what has this tag; may be repeated
  --all       every process of this user
  --json      print the result as JSON
  -h, --help  print this text

Exit status: as for 'gpuroom sleep'.

Examples:
  gpuroom hint cold 1234
  gpuroom hint hot 1234 --tag kv_cache
)";

inline constexpr std::string_view kPsHelp =
    R"(gpuroom ps: the programs under gpuroom, and what of them sleeps

Usage:
  gpuroom ps [options]

One line a process, and one for each tag: bytes on the GPU, asleep in host memory,
on disk, and dropped. Of this user; root sees everybody's. A process appears when it
has used a GPU. Counted is what can sleep, not the program's small allocations.

Options:
  --json      print it as JSON, with bytes by GPU and tier, peaks, moves, standstills
              and refusals of each process (docs/metrics.md)
  -h, --help  print this text

Examples:
  gpuroom ps
  gpuroom ps --json
)";

inline constexpr std::string_view kTopHelp =
    R"(gpuroom top: the programs under gpuroom and their GPUs, as they change

Usage:
  gpuroom top [options]

Shows on a terminal, for each GPU and each program, what lies in HBM, on other GPUs, on
the host and asleep; the node's host memory; what gpuroom moves over the links; what gave
way, standstills and the last refusal; in red, host memory on the wrong NUMA node. Of this
user's programs; root sees everybody's. 'h' lists the keys: sort, filter, tree, sleep,
wake and hint. The view needs python3 with Textual: pip install 'gpuroom[top]'.

Options:
  --interval SECONDS  time between two looks, 1 to 3600 (default: 2)
  --once              print one look as text, without Textual, and end
  --json              print one line of JSON for each look; with --once, one look
  -h, --help          print this text

Examples:
  gpuroom top
  gpuroom top --once
  gpuroom top --once --json
)";

inline constexpr std::string_view kExporterHelp =
    R"(gpuroom exporter: the figures of the programs under gpuroom, for Prometheus

Usage:
  gpuroom exporter --listen ADDRESS:PORT
  gpuroom exporter --textfile FILE

Hands out what every program tells of itself, in Prometheus' text format: memory
by tier, tag and GPU, peaks, what gave way and moved, standstills, sleeps, wakes and
refusals (docs/metrics.md). Of this user's programs; root sees everybody's.
With --listen it serves them at /metrics until a signal ends it, each scrape anew.
With --textfile it writes them once: FILE is replaced at once, so that node_exporter's
textfile collector never reads half of it; a timer calls this as often as wanted.

Options:
  --listen ADDRESS:PORT
                   serve at this address of the machine, such as 127.0.0.1:9400 or
                   [::1]:9400; a port alone is 127.0.0.1's. Whoever reaches another
                   address can read the programs' command lines there
  --textfile FILE  write FILE; - prints
  -h, --help       print this text

Examples:
  gpuroom exporter --listen 127.0.0.1:9400
  gpuroom exporter --textfile -
  gpuroom exporter --textfile /var/lib/node_exporter/gpuroom.prom
)";

inline constexpr std::string_view kDemoHelp = R"(gpuroom demo: a sample program that needs 1.75 times the HBM

Usage:
  gpuroom demo [options]

Allocates 1.75 times the HBM in one unchanged CUDA program, fills it, verifies
every word, and prints what lay where and how fast each part was read. Without a
GPU it runs on the simulated driver and says so; the speeds are then this
machine's, not a GPU's.

Options:
  --hbm-limit SIZE  HBM to use (default: 4GiB on a real GPU, so that it takes
                    seconds; all of it on the simulated driver)
  --sim PROFILE     use the simulated driver even where there is a GPU (default
                    without a GPU: 1GiB,host=4GiB)
  --json            print the result as JSON
  -h, --help        print this text

Exit status: 0 if every word was right, 1 if not.

Examples:
  gpuroom demo
  gpuroom demo --hbm-limit 16GiB
  gpuroom demo --sim 2GiB,host=4GiB --json
)";

inline constexpr std::string_view kDoctorHelp =
    R"(gpuroom doctor: what this machine has, and what it means for gpuroom

Usage:
  gpuroom doctor [options]

Problems first, failures before warnings, each with its fix, and the next step;
then what is as it should be, GPUs that are alike in one line: driver, GPUs and
their links, host memory and NUMA nodes, limits, whether every driver feature works
(tried, not assumed), and the memory that 'gpuroom run' would offer.

Options:
  --problems      print the problems and the next step alone
  --json          print all facts as JSON
  --bundle FILE   write what can be sent to others into FILE: the facts, measured
                  link speeds and versions, without names, addresses or serial
                  numbers
  --sysroot DIR   read /proc and /sys below DIR, such as a copy of another machine's
  --sim PROFILE   look at a simulated machine
  -h, --help      print this text

Exit status: 0 if nothing failed, 1 if something did, 3 without a usable GPU.

Examples:
  gpuroom doctor
  gpuroom doctor --problems
  gpuroom doctor --bundle machine.json
  gpuroom doctor --sim gh200-egm
)";

inline constexpr std::string_view kTraceHelp =
    R"(gpuroom trace: what 'gpuroom run --trace' wrote, for a viewer

Usage:
  gpuroom trace FILE ... -o OUT [options]

Makes one file in the Trace Event Format, which ui.perfetto.dev and chrome://tracing
show, of what processes did over time: allocations, plans, what gave way, moves,
standstills, sleeps, wakes and refusals (docs/trace.md). FILE is what --trace named,
for which all of FILE.PID are read, or one of these. It may be read while its process
runs, and after it was killed.

Options:
  -o, --output OUT  write OUT; - prints
  --beside JSON     put the events into a copy of JSON, a trace of PyTorch's profiler,
                    in its time
  -h, --help        print this text

Examples:
  gpuroom run --trace /tmp/t -- python train.py && gpuroom trace /tmp/t -o t.json
  gpuroom trace /tmp/t --beside profiler.json -o both.json
)";

inline constexpr std::string_view kPlanHelp =
    R"(gpuroom plan: whether a model fits, where it would lie and how fast it would be

Usage:
  gpuroom plan MODEL [options]

MODEL is a folder of Hugging Face's files, its config.json alone, or a .gguf file. Read
are config.json and the headers of weights, never the weights, and no network. Printed
are what weights, experts and KV cache take, how much of each lies in HBM and on the
host, what a step reads of either, tokens a second for decoding and for prompts with
all that they rest on, and the command to run.

Options:
  --context N             tokens of each sequence (default: 8192, or the model's most)
  --batch N               sequences at a time (default: 1)
  --engine vllm|transformers
                          what runs the model (default: vllm)
  --tp N                  GPUs among which the model is split (default: 1)
  --dtype TYPE            of weights that are not quantised: auto (default: as they are
                          stored), bfloat16, float16, float32
  --kv-dtype TYPE         of the KV cache: auto (default: as --dtype), bfloat16, float16,
                          float32, fp8, fp8_e4m3, fp8_e5m2
  --target-tps X          how much HBM it takes to make X tokens a second in all
  --machine MACHINE       the machine: here (default), a profile (h200, gh200, gh200-egm,
                          gb200, gb10, rtx4090, 8xh200, or 2x80GiB,host=256GiB), or a file
                          with the machine of 'gpuroom plan --json'
  --sysroot DIR           the machine whose /proc and /sys are below DIR, such as a copy of
                          another machine's
  --hbm-limit SIZE|N%     HBM that may be used on each GPU (default: all of it)
  --host-limit SIZE       host memory that may be used in all (default: what the machine
                          can spare)
  --json                  print it as JSON
  -h, --help              print this text

Exit status: 0 it fits; 1 it does not; 2 bad usage, or a model that cannot be read;
3 this machine has no usable GPU and no other was named.

Examples:
  gpuroom plan models/Qwen3-235B-A22B
  gpuroom plan model.gguf --context 32768 --batch 4 --engine transformers
  gpuroom plan models/gpt-oss-120b --machine gh200-egm --json
  gpuroom plan models/Llama-3.1-70B --hbm-limit 80GiB --target-tps 20
)";

inline constexpr std::string_view kBenchHelp =
    R"(gpuroom bench: measurements on this machine

Usage:
  gpuroom bench tiers [options]   how fast each memory is that this GPU can use
  gpuroom bench sleep [options]   how fast GPU memory is given back and had again

'gpuroom help bench tiers' and 'gpuroom help bench sleep' say more.
)";

inline constexpr std::string_view kBenchTiersHelp =
    R"(gpuroom bench tiers: how fast each memory is that this GPU can use

Usage:
  gpuroom bench tiers [options]

Measures, on the first GPU, how fast a kernel reads and writes one range of which
0 to 100% lie on the host, and with a second GPU in reach, on that one: interleaved
in 2 MiB pieces, and with the slow part at the end. Beside it stand the ideal (the
most that both links together could give), managed memory (host pages read
directly, and moved by faults), copies of pinned memory, and how fast host memory
is created. All contents are checked.

The speeds are kept in ${XDG_CACHE_HOME:-~/.cache}/gpuroom/links.json for
'gpuroom run'. Nothing is kept on the simulated driver, whose figures are this
machine's, not a GPU's. Use an idle machine.

Options:
  --size SIZE     size of each range (default: 4GiB, or what is free; below 1GiB the
                  GPU's cache flatters)
  --host-limit SIZE|auto
                  host memory that may be used (default: auto, what the machine can
                  spare after a reserve for the host)
  --rounds N      the best of N timings counts (default: 5)
  --plot FILE     draw a figure into FILE.svg, .png or .pdf (needs python3 with
                  matplotlib)
  --json          print the result as JSON
  -v, --verbose   say what is being measured, also where standard error is no
                  terminal
  --sim PROFILE   use the simulated driver (default size: 64MiB)
  -h, --help      print this text

Examples:
  gpuroom bench tiers
  gpuroom bench tiers --json --plot tiers.svg > tiers.json
  gpuroom bench tiers --size 8GiB --rounds 10
)";

inline constexpr std::string_view kBenchSleepHelp =
    R"(gpuroom bench sleep: how fast GPU memory is given back and had again

Usage:
  gpuroom bench sleep [options]

Makes allocations on the first GPU, fills them, puts them to sleep and wakes them:
with host memory created ahead, with none, lazily, and, where a folder is named, to
disk. Beside it stand one synchronous copy per allocation into fresh pinned memory,
which is what others do, and what the link can do. All contents are checked. A
speed is that of the slowest round. Between a sleep and its wake 0.2 s pass, since
the driver first clears what was given back. Use an idle machine.

Options:
  --size SIZES      bytes that sleep, in turn (default: 1GiB,8GiB,40GiB; a size that
                    does not fit is skipped)
  --host-limit SIZE|auto
                    host memory that may be used (default: auto, what the machine
                    can spare after a reserve for the host)
  --allocations N   in so many allocations, of 2 MiB or more each (default: 200)
  --rounds N        with host memory created ahead, so many times (default: 5)
  --disk DIR        measure backups in DIR, too
  --plot FILE       draw a figure into FILE.svg, .png or .pdf (needs python3 with
                    matplotlib)
  --json            print the result as JSON
  -v, --verbose     say what is being measured, also where standard error is no
                    terminal
  --sim PROFILE     use the simulated driver (default size: 32MiB)
  -h, --help        print this text

Examples:
  gpuroom bench sleep
  gpuroom bench sleep --size 40GiB --host-limit 100GiB --rounds 10 --disk /mnt/nvme
  gpuroom bench sleep --json --plot sleep.svg > sleep.json
)";

}  // namespace gpuroom
