"""A step that is one call to AWS about one access key, or a user's keys; how AWS is spoken to is `worker.amazon`'s."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from rules.errors import BadInput, TemplateError
from rules.message import Answer, Prepared
from rules.schema import Action, Aws
from rules.secret import Secret
from rules.template import Place, compile_template
from worker.amazon import MISSING, Amazon, Keys
from worker.choosing import conclude_whole
from worker.connections import Account
from worker.errors import ConnectionUnusable, ExchangeError, Trouble
from worker.reading import unanswered, unreadable
from worker.settings import Settings
from worker.step import Filling, Result, Tools, Values

ACTION = Aws

STATUSES = {"deactivate": "Inactive", "activate": "Active"}
ROWS = "AccessKeyMetadata"
PAGES = 20
"""Pages after which the list of one user's keys counts as endless; AWS allows two keys."""


def refuse(action: Action, settings: Settings) -> str | None:  # noqa: ARG001 - every kind is asked the same
    """Without the optional extra, nothing can speak to AWS."""
    return MISSING


def ready(filling: Filling) -> AwsStep:
    """Fill in whose key it is, and what signs."""
    call = filling.part.action
    assert isinstance(call, Aws)  # noqa: S101 - this kind is chosen by it
    if MISSING is not None:
        raise BadInput(MISSING)
    own = None
    if not call.actor:
        session = _fill(call.session, filling)
        own = Keys(_fill(call.key, filling), Secret(_fill(call.secret, filling)), Secret(session) if session else None)
    about = call.user or "itself" if call.about_user else call.key
    shown = compile_template(about).fill(filling.values, Place.PLAIN, masked=True)
    return AwsStep(
        filling,
        call,
        key="" if call.about_user else _fill(call.key, filling),
        user=_fill(call.user, filling),
        region=_fill(call.region, filling),
        shown=f"{call.action} {shown}",
        own=own,
    )


def _fill(source: str | None, filling: Filling) -> str:
    return compile_template(source or "").fill(filling.values, Place.PLAIN)


@dataclass(frozen=True, slots=True)
class AwsStep:
    """One call that is ready to be signed and sent."""

    filling: Filling
    call: Aws
    key: str = field(repr=False)
    user: str
    region: str
    shown: str
    own: Keys | None = field(default=None, repr=False)

    @property
    def label(self) -> dict[str, str]:
        """The action and the key's id."""
        return {"method": "AWS", "url": self.shown}

    def perform(self, tools: Tools) -> Result:
        """Make the call, and read what AWS says."""
        shown = f"AWS {self.shown}"
        try:
            return conclude_whole(self.filling, self._ask(self._amazon(tools.account), tools), tools.safe, shown)
        except ExchangeError as error:
            return unanswered(self.filling, error, shown)
        except TemplateError as error:
            return unreadable(self.filling, error, shown)

    def _amazon(self, account: Account) -> Amazon:
        def send(prepared: Prepared) -> Answer:
            return account.send(prepared, actor=False, mutates=self.filling.acts)

        return Amazon(self.own or _keys_of(account), self.region, account.base_url, send)

    def _ask(self, amazon: Amazon, tools: Tools) -> Answer:
        user = {"UserName": self.user} if self.user else {}
        match self.call.action:
            case "identity":
                return amazon.call("sts", "get_caller_identity")
            case "owner":
                return amazon.call("iam", "get_access_key_last_used", AccessKeyId=self.key)
            case "status":
                return self._status(amazon, user, tools)
            case "list":
                return _keys(amazon, user, tools.keep)
            case "create":
                return amazon.call("iam", "create_access_key", **user)
            case "delete":
                return amazon.call("iam", "delete_access_key", AccessKeyId=self.key, **user)
            case action:
                status = STATUSES[action]
                return amazon.call("iam", "update_access_key", AccessKeyId=self.key, Status=status, **user)

    def _status(self, amazon: Amazon, user: dict[str, str], tools: Tools) -> Answer:
        """Answer with the one row that is the key's; no such row is an answer too."""
        answer = _keys(amazon, user, tools.keep)
        said = answer.json
        if not isinstance(said, dict) or ROWS not in said:
            return answer
        rows = [row for row in said[ROWS] if row.get("AccessKeyId") == self.key]
        if len(rows) == 1:
            return Answer(answer.status, answer.headers, json.dumps(rows[0]).encode())
        error = {"Error": {"Code": "NoSuchEntity", "Message": "the user's keys are listed, and it is none"}}
        return Answer(404, answer.headers, json.dumps(error).encode())


def read_list(call: Aws, values: Values, account: Account) -> Answer:
    """Read the keys of a user for a rule's listing, to the end."""
    if MISSING is not None:
        raise BadInput(MISSING)
    user, region = (compile_template(source or "").fill(values, Place.PLAIN) for source in (call.user, call.region))
    amazon = Amazon(_keys_of(account), region, account.base_url, partial(account.send, actor=False))
    return _keys(amazon, {"UserName": user} if user else {}, lambda: None)


def _keys(amazon: Amazon, user: dict[str, str], keep: Callable[[], None]) -> Answer:
    """Read the list to its end, and answer with all of it; an error is an answer too."""
    marker: dict[str, str] = {}
    rows: list[dict[str, str]] = []
    for _ in range(PAGES):
        answer = amazon.call("iam", "list_access_keys", **user, **marker)
        said = answer.json
        if not isinstance(said, dict) or ROWS not in said:
            return answer
        rows += said[ROWS]
        if not said.get("IsTruncated"):
            return Answer(answer.status, answer.headers, json.dumps({ROWS: rows}).encode())
        marker = {"Marker": said.get("Marker", "")}
        keep()
    raise ExchangeError(Trouble.TOO_LARGE, sent=True, says=f"the list of keys has more than {PAGES} pages")


def _keys_of(account: Account) -> Keys:
    """What the connection's identity signs with."""
    fields = account.identity()
    key, secret, session = (fields.get(name) for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"))
    if not isinstance(key, str) or not isinstance(secret, Secret):
        raise ConnectionUnusable(
            f"connection {account.name}: identity needs access_key_id and secret_access_key to sign calls to AWS"
        )
    return Keys(key, secret, session if isinstance(session, Secret) else None)
