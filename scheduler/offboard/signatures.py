"""SSH signatures over a plan's hash, judged by OpenSSH's own ssh-keygen; what an approval is worth is others'."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from rules.errors import BadInput

NAMESPACE = "revoq"
PATIENCE = 10
HOW = f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY"


def verify(signature: Path, hashed: str, allowed: Path) -> str:
    """Who of the allowed signers signed this hash; raises BadInput where nobody did.

    What was signed is the hash, with the line break that `echo` puts behind it or without.
    """
    program = shutil.which("ssh-keygen")
    if program is None:
        raise BadInput("ssh-keygen is not on this machine, and it is what checks signatures: install OpenSSH's client")
    for path in (signature, allowed):
        if not path.is_file():
            raise BadInput(f"there is no file {path}")
    found = _run(program, "find-principals", signature, allowed)
    if found.returncode != 0:
        raise BadInput(f"{signature}: nobody of {allowed} signed this, or it is no SSH signature")
    signer = found.stdout.decode("utf-8", "replace").splitlines()[0]
    for text in (f"{hashed}\n", hashed):
        if _run(program, "verify", signature, allowed, "-I", signer, "-n", NAMESPACE, given=text).returncode == 0:
            return signer
    raise BadInput(
        f"{signature}: {signer} signed something else than this plan's hash, or for another purpose: "
        f"echo {hashed} | {HOW} > FILE"
    )


def _run(
    program: str, verb: str, signature: Path, allowed: Path, *more: str, given: str = ""
) -> subprocess.CompletedProcess[bytes]:
    words = [program, "-Y", verb, "-s", str(signature), "-f", str(allowed), *more]
    return subprocess.run(words, input=given.encode(), capture_output=True, timeout=PATIENCE, check=False)
