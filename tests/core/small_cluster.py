"""A real Ray cluster of several nodes on this machine, with a token, that can lose a node."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from core.processes import kill_with_children

RAY = Path(sys.executable).with_name("ray")
SMALL = (
    "--block", "--node-ip-address=127.0.0.1", "--num-cpus=1", "--object-store-memory=80000000",
    "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats",
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class SmallCluster:
    """A head and the nodes that were added to it, each a process with all that it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_hex(16)
        self.port, self.dashboard = free_port(), free_port()
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.add(
            "--head", f"--port={self.port}", f"--temp-dir={folder}", "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.dashboard}", f"--ray-client-server-port={free_port()}",
        )  # fmt: skip

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"

    @property
    def environment(self) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def add(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a node; without options, one that joins the head."""
        quiet = {"RAY_memory_monitor_refresh_ms": "0", "RAY_ENABLE_METRICS_COLLECTION": "0"}
        joins = options or (f"--address=127.0.0.1:{self.port}",)
        command = [str(RAY), "start", *SMALL, f"--dashboard-agent-listen-port={free_port()}"]
        with (self.folder / "nodes.log").open("ab") as log:
            node = subprocess.Popen(
                [*command, *joins], env={**os.environ, **quiet, **self.environment},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.nodes.append(node)
        return node

    def lose(self, node: subprocess.Popen[bytes]) -> None:
        """End a node at once, with its workers."""
        kill_with_children(node.pid)
        node.wait()

    def alive(self) -> int:
        """How many nodes the head believes to be alive: a lost one is missed after seconds."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.get(f"{self.address}/api/v0/nodes", headers=headers).raise_for_status()
        nodes = answer.json()["data"]["result"]["result"]
        return sum(node["state"] == "ALIVE" for node in nodes)

    def end(self) -> None:
        """End all nodes, and whatever of them is left."""
        for node in self.nodes:
            self.lose(node)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.folder) in " ".join(process.cmdline()):
                    process.kill()


@contextmanager
def started() -> Iterator[SmallCluster]:
    """A cluster of one node that answers; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # Names of sockets are short.
    cluster = SmallCluster(folder)
    try:
        end = time.monotonic() + 120
        while socket.socket().connect_ex(("127.0.0.1", cluster.dashboard)):
            alive = cluster.nodes[0].poll() is None
            assert alive and time.monotonic() < end, (folder / "nodes.log").read_text()
            time.sleep(0.2)
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)
