"""A Ray program with four actors that serve as worker.py does. Does what it reads: "kill N" ends an actor by Ray's own means."""

import json
import sys

import ray
from worker import serve


@ray.remote(num_cpus=1)
class Actor:
    def serve(self, folder: str) -> None:
        serve(folder)


def main() -> None:
    folder, environment = sys.argv[1:]
    with open(environment, encoding="utf-8") as file:
        runtime_env = json.load(file)
    # The module `worker` is found by Ray's workers, too, since the driver's folder is in their path.
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env=runtime_env)
    actors = [Actor.remote() for _ in range(4)]
    calls = [actor.serve.remote(folder) for actor in actors]
    print("started", flush=True)
    for line in sys.stdin:
        number = int(line.split()[1])
        ray.kill(actors[number])
        try:
            ray.get(calls[number])
        except ray.exceptions.RayActorError:
            print("killed", flush=True)


main()
