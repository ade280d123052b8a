"""A service that takes new secrets by signed POST, as one would write it: it believes nothing that is not signed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from standardwebhooks import Webhook, WebhookVerificationError

from tests.servers.recorder import Said, Seen

KEY = "whsec_aW4gdGVzdHMgYWxsIGtleXMgYXJlIG1hZGUgdXAu"


@dataclass
class Consumer:
    """The newest record of each target, and the ids of all messages that were taken."""

    key: str = KEY
    records: dict[str, Mapping[str, str]] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)

    def answer(self, seen: Seen) -> Said:
        """Take a record by POST, show one by GET; the last part of the path is the target's name."""
        try:
            Webhook(self.key).verify(seen.body, dict(seen.headers), json_parse=False)
        except WebhookVerificationError:
            return Said(401, {"error": "not signed by anybody who is known here"})
        name = seen.path.rpartition("/")[2]
        if seen.method == "GET":
            record = self.records.get(name)
            return Said(404) if record is None else Said(200, dict(record))
        if seen.method == "POST" and seen.headers["webhook-id"] not in self.ids:
            self.ids.append(seen.headers["webhook-id"])
            told = json.loads(seen.body)["data"]
            self.records[told["target"]["name"]] = told["record"]
        return Said(204)
