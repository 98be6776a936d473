"""Hosts of a cluster on one machine: network namespaces with addresses of their own on one bridge.

They share the disk, as hosts with a network file system do. Each runs a Ray node with its own
folder of temporary files. A host can be killed, cut off, and started again.

    python -m tests.cluster.hosts 3 1 -- COMMAND    # on the first of 3 hosts with 1 CPU each;
                                                    # {address} in it is the cluster's
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.conftest import ROOT

PORT = 6379
SYSTEM = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 4,
    "gcs_rpc_server_reconnect_timeout_s": 20,
}
"""A dead host is noticed within 12 s; nodes without a head end within 20 s."""
RAY = Path(sys.executable).with_name("ray")


def missing() -> str:
    """What this machine lacks for such hosts; empty for nothing."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    if shutil.which("ip") is None:
        return "needs the command ip"
    if not RAY.exists():
        return "needs pip install 'alignlab[ray]'"
    name = f"alprobe{os.getpid() % 10000}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return f"ip netns: {made.stderr.strip()}" if made.returncode else ""


class Hosts:
    """A cluster of hosts; leaving the block ends their processes and removes all traces."""

    def __init__(self, number: int = 3, cpus: int = 1, network: str = "10.77.0") -> None:
        self.prefix = f"al{os.getpid()}"  # names of cables have at most 15 characters
        self.names = [f"{self.prefix}h{i}" for i in range(number)]
        self.addresses = [f"{network}.{i + 1}" for i in range(number)]
        self.address = f"{self.addresses[0]}:{PORT}"
        self._cpus = cpus
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="alh-"))

    def __enter__(self) -> Hosts:
        sweep()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            self._connect()
            for host in range(len(self.names)):
                self.start(host)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _connect(self) -> None:
        """Make the bridge, and a namespace with a cable to it for each host."""
        bridge = f"{self.prefix}b"
        _ip("link", "add", bridge, "type", "bridge")
        _ip("link", "set", bridge, "up")
        for i, (name, address) in enumerate(zip(self.names, self.addresses, strict=True)):
            _ip("netns", "add", name)
            _ip(
                "link", "add", self._cable(i), "type", "veth", "peer", "name", "eth0", "netns", name
            )
            _ip("link", "set", self._cable(i), "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "route", "add", "default", "dev", "eth0")

    def _cable(self, host: int) -> str:
        return f"{self.prefix}v{host}"

    def start(self, host: int) -> None:
        """Start the Ray node of a host (0 is the head), and wait until it is in."""
        place = self._folder / f"{host}-{time.monotonic_ns()}"
        place.mkdir()
        address = self.addresses[host]
        role = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        role += [f"--system-config={json.dumps(SYSTEM)}"]
        if host:
            role = [f"--address={self.address}"]
        argv = [
            *(str(RAY), "start", *role, f"--node-ip-address={address}", "--block"),
            *(f"--num-cpus={self._cpus}", "--num-gpus=0", "--memory=3000000000"),
            *("--object-store-memory=80000000", "--disable-usage-stats", f"--temp-dir={place}"),
        ]
        log = self._folder / f"{host}.log"
        self._nodes[host] = self.run(host, argv, log)
        deadline = time.monotonic() + 240
        while "Ray runtime started" not in log.read_text():
            if self._nodes[host].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"host {host} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.3)

    def run(self, host: int, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a command on a host; what it prints goes to a file."""
        with log.open("wb") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.names[host], *argv],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, host: int) -> None:
        """Kill every process of a host at once, as a power cut does."""
        for pid in self.pids(host):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if node := self._nodes.pop(host, None):
            node.wait()

    def pids(self, host: int) -> list[int]:
        """Processes of a host."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.names[host]], capture_output=True, text=True
        )
        return [int(pid) for pid in found.stdout.split()]

    def is_up(self, host: int) -> bool:
        """Whether the node of a host still runs."""
        return host in self._nodes and self._nodes[host].poll() is None

    def cut(self, host: int) -> None:
        """Pull the cable of a host."""
        _ip("link", "set", self._cable(host), "down")

    def mend(self, host: int) -> None:
        """Put the cable back."""
        _ip("link", "set", self._cable(host), "up")

    def close(self) -> None:
        """End everything, whatever state it is in."""
        for host, name in enumerate(self.names):
            for _ in range(5):
                self.kill(host)
                if not self.pids(host):
                    break
                time.sleep(0.2)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
            subprocess.run(["ip", "link", "del", self._cable(host)], capture_output=True)
        subprocess.run(["ip", "link", "del", f"{self.prefix}b"], capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def sweep() -> None:
    """Remove hosts whose process was killed before it could."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    for name in (line.split()[0] for line in listed.splitlines() if line.strip()):
        owner = re.fullmatch(r"al(\d+)h(\d+)", name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for pid in map(int, pids.stdout.split()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for thing in (("netns", name), ("link", f"al{owner[1]}v{owner[2]}")):
                subprocess.run(["ip", thing[0], "del", thing[1]], capture_output=True)
            subprocess.run(["ip", "link", "del", f"al{owner[1]}b"], capture_output=True)


def environment() -> dict[str, str]:
    """Variables of the hosts' processes: this checkout's source, one thread, nothing reported."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_worker_niceness": "0",  # else they starve on a busy machine
    }


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def main() -> int:
    """The command above; its exit code is the command's."""
    number, cpus, dashes, *command = sys.argv[1:]
    assert dashes == "--", __doc__
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    with Hosts(int(number), int(cpus)) as hosts:
        log = Path(tempfile.mkstemp(prefix="alh-", suffix=".log")[1])
        code = hosts.run(0, [w.replace("{address}", hosts.address) for w in command], log).wait()
        print(log.read_text(), end="")
        log.unlink()
    return code


if __name__ == "__main__":
    sys.exit(main())
