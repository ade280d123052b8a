"""The services of compose.yaml as processes on this machine: their own commands, variables, secrets, mounts and users.

docker-compose reads the file, so what is started is what it says. Images are not there: PostgreSQL, Redis and Python
are this machine's, and PostgreSQL is set up as its image would do it.
"""

from __future__ import annotations

import json
import os
import platform
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers import container
from tests.servers.container import Spec
from tests.servers.database import find_programs
from tests.servers.missing import report_missing
from tests.servers.pod import Pod
from tests.servers.process import Process, tail

ROOT = Path(__file__).parents[2]
APP = "/app"
WITHIN = 180.0
POSTGRES_PORT = 5432
NSENTER = shutil.which("nsenter") or "nsenter"


def find_compose() -> str:
    """The program that reads compose files; the Makefile puts it beside Python where there is one for the machine."""
    found = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None and (sys.platform, platform.machine()) == ("linux", "x86_64"):
        return report_missing("docker-compose", "make .venv/.test puts it into .venv")
    return found or report_missing("docker-compose", "it comes with Docker, or as a file from its releases")


def read_compose(folder: Path) -> dict[str, Any]:
    """What docker-compose makes of the files in a folder; it fails where they are not as they should be."""
    files = [
        word for name in ("compose.yaml", "compose.override.yaml") for word in ("-f", name) if (folder / name).exists()
    ]
    command = [find_compose(), *files, "config", "--format", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # What would be a variable of compose's own is written twice, also here.
    read: dict[str, Any] = json.loads(done.stdout.replace("$$", "$"))
    return read


def words_of(service: Mapping[str, Any]) -> list[str]:
    """Its command line; what an image would put before it, compose.yaml says itself."""
    return [*(service.get("entrypoint") or []), *service["command"]]


@dataclass
class Stack:
    """The services, as far as they are started."""

    folder: Path
    pod: Pod
    model: Mapping[str, Any]
    processes: dict[str, Process] = field(default_factory=dict)

    def up(self) -> None:
        """Start every service when those are ready on which it depends, and wait until each one is healthy."""
        for name in self.services:
            self.start(name)
        for name in self.services:
            self.wait_healthy(name)

    @property
    def services(self) -> Mapping[str, Any]:
        services: Mapping[str, Any] = self.model["services"]
        return services

    def start(self, name: str) -> None:
        """Start a service, and before it those on which it depends."""
        if name in self.processes:
            return
        for other, how in (self.services[name].get("depends_on") or {}).items():
            self.start(other)
            if how["condition"] == "service_completed_successfully":
                assert self.processes[other].exit_code(within=WITHIN) == 0, self.log(other)
            else:
                self.wait_healthy(other)
        command = postgres(self) if name == "postgres" else self.inside(name, words_of(self.services[name]))
        log = self.folder / f"{name}.log"
        self.processes[name] = Process.start(command, log=log, patience=60.0, stop_signal=stop_signal(name))

    def wait_healthy(self, name: str) -> None:
        """Ask its own health check until that is content; a service without one has nothing to say."""
        check = self.services[name].get("healthcheck")
        if check is None:
            return
        kind, *words = check["test"]
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        deadline = time.monotonic() + WITHIN
        while (done := self.run(name, command)).returncode != 0:
            assert self.processes[name].alive, self.log(name)
            assert time.monotonic() < deadline, f"{done.stdout}{done.stderr}\n{self.log(name)}"
            time.sleep(0.5)

    def run(self, name: str, command: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
        """What `docker compose exec` would do: a command in the container that runs, as its user."""
        spec = self.spec(name)
        words, environ = self.pod.enter(command), {**os.environ, "PGHOST": "127.0.0.1"}
        if name != "postgres":
            own = [f"--target={self.processes[name].pid}", "--mount", "--uts", "--net", "--root", "--wd"]
            words = [NSENTER, *own, f"--setuid={spec.user}", f"--setgid={spec.user}", *command]
            environ = spec.environ
        return subprocess.run(
            words, input=stdin, capture_output=True, text=True, timeout=WITHIN, check=False, env=environ
        )

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """The command line that becomes a service's process."""
        spec = self.spec(name).write(self.folder / f"{name}.json")
        return self.pod.enter([sys.executable, "-P", container.__file__, spec, *command], alone=True)

    def spec(self, name: str) -> Spec:
        """What the service is made of."""
        service = self.services[name]
        sources = {key: value["file"] for key, value in self.model["secrets"].items()}
        binds = [(str(hosts(self.folder, self.services)), "/etc/hosts")]
        binds += [(sources[each["source"]], each["target"]) for each in service.get("secrets", [])]
        for volume in service.get("volumes", []):
            named = self.folder / "volumes" / volume["source"]
            binds.append((str(named) if volume["type"] == "volume" else volume["source"], volume["target"]))
        # What the image would hold: the houses, and the Python that runs them, wherever this machine has it.
        binds += [(str(ROOT), APP), (sys.prefix, sys.prefix), (sys.base_prefix, sys.base_prefix)]
        for source, target in binds:
            if str(self.folder / "volumes") in source and not Path(source).exists():
                Path(source).mkdir(parents=True)
                shutil.chown(source, int(service.get("user", "0").partition(":")[0]))
            assert Path(source).exists(), f"{name}: {source} for {target} is not there"
        root = self.folder / "roots" / name
        root.mkdir(parents=True, exist_ok=True)
        tmpfs = [(place, options) for place, _, options in (each.partition(":") for each in service.get("tmpfs", []))]
        return Spec(
            name=name,
            root=str(root),
            workdir=APP,
            environ={
                "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
                "PYTHONPATH": APP,
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                **(service.get("environment") or {}),
            },
            binds=list(dict.fromkeys(binds)),
            tmpfs=[(place, options or "mode=1777") for place, options in tmpfs],
            user=int(service.get("user", "0").partition(":")[0]),
            read_only=bool(service.get("read_only")),
        )

    def log(self, name: str) -> str:
        """The last that a service wrote."""
        return f"{name}:\n{tail(self.folder / f'{name}.log')}"

    def stop(self, *names: str) -> dict[str, int | None]:
        """SIGTERM, and each one's exit code when its grace is over; None for who had to be killed."""
        for name in names:
            self.processes[name].send(signal.SIGTERM)
        return {name: self.processes[name].exit_code(within=grace(self.services[name])) for name in names}

    def end(self) -> None:
        """Whatever is left, the last one first."""
        for process in reversed(self.processes.values()):
            process.stop()


def grace(service: Mapping[str, Any]) -> float:
    """Seconds between SIGTERM and SIGKILL, as compose writes them."""
    minutes, _, seconds = str(service.get("stop_grace_period", "10s")).removesuffix("s").rpartition("m")
    return float(minutes or 0) * 60 + float(seconds or 0)


def hosts(folder: Path, services: Mapping[str, Any]) -> Path:
    """Every service by its name, as the engine's own resolver would have it."""
    path = folder / "hosts"
    if not path.exists():
        path.write_text(f"127.0.0.1 localhost {' '.join(services)}\n")
    return path


def stop_signal(name: str) -> signal.Signals:
    """PostgreSQL waits for its clients on SIGTERM."""
    return signal.SIGINT if name == "postgres" else signal.SIGTERM


def postgres(stack: Stack) -> list[str]:
    """What the image's own first start does: a cluster with the user, the password and the database that are named."""
    said = stack.services["postgres"]["environment"]
    programs, owner = find_programs(), pwd.getpwnam("postgres")
    data = stack.folder / "volumes" / "postgres"
    data.mkdir(parents=True)
    password = stack.folder / "volumes" / "password"
    shutil.copy(stack.folder / "secrets" / Path(said["POSTGRES_PASSWORD_FILE"]).name, password)
    for path in (data, password):
        shutil.chown(path, owner.pw_uid, owner.pw_gid)
    become = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    initdb: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-A",
        "scram-sha-256",
        "-U",
        said["POSTGRES_USER"],
        f"--pwfile={password}",
    ]
    subprocess.run([*become, *initdb, "-E", "UTF8", "--no-sync"], check=True, capture_output=True)
    server: list[str | Path] = [
        programs / "postgres",
        "-D",
        data,
        "-p",
        str(POSTGRES_PORT),
        "-c",
        "fsync=off",
        "-c",
        "listen_addresses=127.0.0.1",
    ]
    single: list[str | Path] = [programs / "postgres", "--single", "-D", data, "postgres"]
    made = f"CREATE DATABASE {said['POSTGRES_DB']};\n"
    subprocess.run([*become, *single], input=made, text=True, check=True, capture_output=True)
    return stack.pod.enter([*become, *server, "-c", f"unix_socket_directories={data}"])


@contextmanager
def open_stack(folder: Path, pod: Pod) -> Iterator[Stack]:
    """The services of the files in a folder; whatever was started ends with it."""
    stack = Stack(folder, pod, read_compose(folder))
    with ExitStack() as open_ones:
        open_ones.callback(stack.end)
        yield stack
