"""Signed heads of the audit trail, brought off this machine: to files and webhooks; what they say is the ledger's.

Heads are delivered in their order, and again where it is not known whether a sink took them: who keeps them knows them
by their numbers. A sink that fails is told in the ledger, and tried again by the next tick; nothing else waits for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from rules.errors import RevoqError
from rules.message import Prepared
from rules.request import origin_of
from rules.secret import Secret
from worker.client import send
from worker.connections import local_origins
from worker.errors import SinkUnavailable
from worker.files import sync_folder
from worker.ledger import heads
from worker.ledger.database import Database
from worker.ledger.exports import head_line
from worker.ledger.heads import Signed
from worker.settings import AuditFile, AuditHook, Settings
from worker.sinks.webhook import signer_of

log = structlog.get_logger(__name__)

AT_ONCE = 500
WITHIN = 10.0
"""Seconds that a webhook may take."""
ANSWER_LIMIT = 64 * 1024


def deliver(settings: Settings, db: Database) -> dict[str, str]:
    """Bring each sink what it does not have yet; which of them failed, and why."""
    failed = {}
    for name, sink in settings.audit_sinks.items():
        fresh = heads.undelivered(db, name, AT_ONCE)
        if not fresh:
            continue
        try:
            append(sink, fresh) if isinstance(sink, AuditFile) else post(sink, fresh)
        except RevoqError as error:
            failed[name] = str(error)
            heads.note_failed(db, name, str(error))
            log.warning("heads_not_delivered", sink=name, why=str(error))
        else:
            heads.note_delivered(db, name, fresh[-1].number)
    return failed


def append(sink: AuditFile, fresh: Sequence[Signed]) -> None:
    """Add lines to a file and have the disk keep them."""
    text = b"".join(head_line(head) for head in fresh)
    try:
        is_new = not sink.path.exists()
        with os.fdopen(os.open(sink.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(file.fileno()).st_size
            # Whoever was killed in the middle of a line has left half of it.
            torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            file.write(b"\n" + text if torn else text)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(sink.path.parent)
    except OSError as error:
        raise SinkUnavailable(sink.name, "", f"cannot write {sink.path}: {error.strerror}") from None


def post(sink: AuditHook, fresh: Sequence[Signed]) -> None:
    """Send heads as the Standard Webhooks specification says; the same heads have the same id."""
    now = datetime.now(UTC)
    data = {"heads": [json.loads(head_line(head)) for head in fresh]}
    body = json.dumps({"type": "audit.heads", "timestamp": now.isoformat(), "data": data})
    message = f"msg_{hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]}"
    headers = {
        "content-type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signer_of(sink).sign(message, now, body),
    }
    origin = origin_of(sink.url)
    prepared = Prepared(
        method="POST",
        url=Secret(sink.url),
        shown=sink.url,
        origin=origin,
        headers={name: Secret(value) for name, value in headers.items()},
        body=Secret(body),
    )
    answer = send(
        prepared,
        timeout=WITHIN,
        body_limit=ANSWER_LIMIT,
        allowed=(origin,),
        local=local_origins(sink.url),
        proxy=sink.proxy,
        ca_bundle=sink.ca_bundle,
        reuse=False,
    )
    if not 200 <= answer.status < 300 or answer.is_html:
        raise SinkUnavailable(sink.name, "", f"the service answered {answer.status}{' a web page' * answer.is_html}")
