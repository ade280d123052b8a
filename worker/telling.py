"""Sends one message to one address by Apprise; who is told of what, and when it is tried again, is not known here."""

from __future__ import annotations

import apprise

from rules.notice import Message, Severity
from rules.secret import Secret
from worker.log import redacting

WITHIN = 15.0
"""Seconds that one message may take."""
KINDS = {
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}
UNKNOWN = "what it refers to is no address that Apprise knows"


def check(address: Secret) -> str | None:
    """What is wrong with an address, as far as that can be told without sending anything; None where nothing is."""
    with redacting(address):
        try:
            return None if _notifier().add(address.reveal()) else UNKNOWN
        except Exception as error:  # noqa: BLE001 - as below
            return f"Apprise failed with {type(error).__name__}"


def send(address: Secret, message: Message) -> str | None:
    """Send it; why that could not be done, in a few words without the address, or None."""
    with redacting(address):
        try:
            notifier = _notifier()
            if not notifier.add(address.reveal()):
                return UNKNOWN
            result = notifier.notify(
                message.body,
                title=message.title,
                notify_type=KINDS[message.severity],
                body_format=apprise.NotifyFormat.TEXT,
                timeout=WITHIN,
            )
        except Exception as error:  # noqa: BLE001 - a plugin's defect must not keep other messages back
            return f"Apprise failed with {type(error).__name__}"
    return None if result else "it was not taken, or not in time"


def _notifier() -> apprise.Apprise:
    # Nothing is kept on disk: a plugin's store would hold what the address holds.
    asset = apprise.AppriseAsset(app_id="revoq", app_desc="revoq", storage_mode=apprise.PersistentStoreMode.MEMORY)
    return apprise.Apprise(asset=asset)
