"""What `gpuroom top --json` prints, made up: for the tests of its view."""

GIB = 1 << 30
BOUNDS = (0.0001, 0.001, 0.01, 0.1, 0.5, 1, 5, 30, None)


def uuid(gpu):
    return f"GPU-{gpu:036d}"


def gpu_stats(gpu, hbm=10, peer=0, host=2, displaced=0, to_hbm=0, to_host=0):
    """Sizes in GiB."""
    return {
        "device": gpu,
        "uuid": uuid(gpu),
        "hbm_bytes": {"current": hbm * GIB, "peak": hbm * GIB, "limit": 80 * GIB},
        "peer_bytes": {"current": peer * GIB, "limit": 0},
        "host_bytes": {"current": host * GIB, "peak": 0, "kept": 0, "limit": 0, "numa_node": 0, "numa_node_of_gpu": 0},
        "managed_bytes": {"current": 0, "peak": 0},
        "allocations": 1,
        "spilled": 0,
        "displaced_bytes": displaced * GIB,
        "moved_bytes": {"to_hbm": to_hbm * GIB, "to_peer": 0, "to_host": to_host * GIB},
    }


def process(pid, *gpus, command="python3 serve.py", asleep=0, standstills=0, refused=0, misplaced=(), backed_up=0):
    counts = [standstills if bound == 0.01 else 0 for bound in BOUNDS]
    buckets = [{"at_most_seconds": bound, "count": count} for bound, count in zip(BOUNDS, counts)]
    last = {"reason": "out_of_memory", "text": "host memory is used up", "device": 0, "bytes": 300 * GIB}
    bytes_by_state = {"ranges": 1, "awake_bytes": 0, "awake_on_gpu_bytes": 0, "kept_bytes": asleep * GIB,
                      "on_disk_bytes": 0, "dropped_bytes": 0}  # fmt: skip
    state = "asleep" if asleep else "awake"
    return {
        "pid": pid,
        "user": "anna",
        "command": command,
        "state": state,
        **bytes_by_state,
        "tags": [{"tag": "kv cache", "state": state, **bytes_by_state}],
        "stats": {
            "version": 1,
            "gpus": list(gpus),
            "standstills": {"seconds": 0.1, "buckets": buckets},
            "backed_up_bytes": backed_up * GIB,
            "restored_bytes": 0,
            "refusals": {"by_reason": {"out_of_memory": refused} if refused else {}, "last": last if refused else None},
        },
        "misplaced": list(misplaced),
    }


def silent(pid):
    return {"pid": pid, "user": None, "command": "?", "state": "no answer", "error": "it does not answer"}


def look(*processes, gpus=8, seconds=100.0, link=51e9, version=1):
    def sum_of(gpu, field):
        found = [stats for entry in processes for stats in entry.get("stats", {}).get("gpus", ()) if stats["uuid"] == uuid(gpu)]
        return sum(stats[field]["current"] for stats in found)

    return {
        "version": version,
        "seconds": seconds,
        "gpus": [
            {
                "uuid": uuid(gpu),
                "name": "NVIDIA H200",
                "hbm_bytes": {"used": sum_of(gpu, "hbm_bytes"), "total": 141 * GIB},
                "peer_bytes": sum_of(gpu, "peer_bytes"),
                "host_bytes": sum_of(gpu, "host_bytes"),
                "managed_bytes": 0,
                "link_bytes_per_second": link,
                "processes": 0,
            }
            for gpu in range(gpus)
        ],
        "host_bytes": {"limit": 256 * GIB, "used": 24 * GIB, "unclaimed": 200 * GIB},
        "processes": list(processes),
    }


def busy(seconds=100.0, more=0):
    """Eight GPUs and forty processes; `more` GiB have moved since the start, of each."""
    processes = [process(1000 + n, gpu_stats(n % 8, hbm=1 + n % 5, host=n % 3, displaced=more, to_host=more),
                         command=f"/opt/venv/bin/python3 worker.py --rank {n}", standstills=more) for n in range(40)]  # fmt: skip
    return look(*processes, seconds=seconds)
