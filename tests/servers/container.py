"""A container without an engine: a root that is made of what this machine has, with mounts, a user and a host name.

`python container.py SPEC COMMAND…` becomes that process; which services there are is not known here.

It has to be started by root, in namespaces for mounts and names that are its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
HOST = Path("/")


@dataclass(frozen=True)
class Spec:
    """What a container is made of. `binds` are (source, target); nothing else of `hidden` folders is seen."""

    name: str
    root: str
    workdir: str
    environ: dict[str, str]
    binds: list[tuple[str, str]]
    tmpfs: list[tuple[str, str]] = field(default_factory=list)
    user: int = 0
    read_only: bool = False

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path


def main() -> None:
    """Build the root, move into it, and become the command."""
    spec = Spec(**json.loads(Path(sys.argv[1]).read_text()))
    build(spec)
    socket.sethostname(spec.name)
    os.chroot(spec.root)
    os.chdir(spec.workdir)
    if spec.user:
        os.setgroups([])
        os.setresgid(spec.user, spec.user, spec.user)
        os.setresuid(spec.user, spec.user, spec.user)
    os.execvpe(sys.argv[2], sys.argv[2:], spec.environ)  # noqa: S606 - what a container is for


def build(spec: Spec) -> None:
    """Folders on the way to a mount are made anew, with what they hold on this machine; all else is bound as it is."""
    root = Path(spec.root)
    targets = [*(Path(target) for _, target in spec.binds), *(Path(place) for place, _ in spec.tmpfs)]
    made = {parent for target in targets for parent in target.parents}
    mount("none", root, "tmpfs", 0, "mode=0755")
    for folder in sorted(made):
        inside(root, folder).mkdir(exist_ok=True)
        for entry in sorted((HOST / folder).iterdir()) if (HOST / folder).is_dir() else []:
            if entry not in made and entry not in targets:
                show(entry, inside(root, entry))
    for source, target in spec.binds:
        show(Path(source), inside(root, Path(target)))
    for place, options in spec.tmpfs:
        inside(root, Path(place)).mkdir(exist_ok=True)
        mount("none", inside(root, Path(place)), "tmpfs", 0, options)
    if spec.read_only:
        mount("none", root, "", MS_REMOUNT | MS_BIND | MS_RDONLY)


def inside(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def show(source: Path, target: Path) -> None:
    """Let a file or folder of this machine be seen there."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir(exist_ok=True)
        mount(str(source), target, "", MS_BIND | MS_REC)
    elif source.exists():
        target.touch()
        mount(str(source), target, "", MS_BIND)


def mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


if __name__ == "__main__":
    main()
