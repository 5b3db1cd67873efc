"""Processes with the real control socket and a core that only counts (control_double.cc)."""

import subprocess

from conftest import BUILD, clean_environment

DOUBLE = BUILD / "tests" / "cli" / "gpuroom_control_double"
LONG = 60


class Double:
    """One of them, which can be asked in `folder`; `gpu` is the number of its GPU."""

    def __init__(self, folder, gpu=0, **variables):
        env = clean_environment(GPUROOM_CONTROL="1", GPUROOM_CONTROL_DIR=folder, **variables)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([DOUBLE, str(gpu)], env=env, text=True, **pipes)
        self.pid = int(self.process.stdout.readline())
        self.socket = f"{folder}/{self.pid}.sock"

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self):
        self.process.communicate(timeout=LONG)
        return self.process.returncode

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=LONG)
