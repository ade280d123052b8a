"""Named provider accounts: who signs a call, signing in once, renewing, signing out; the calls themselves are `steps`'.

A session's token lives in this process's memory only. It is used until the provider refuses it, renewed once, and
revoked by itself when the process ends, because a login that is forgotten is a credential too.
"""

from __future__ import annotations

import atexit
import ipaddress
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from urllib.parse import urlsplit

import structlog

from rules.budget import rest
from rules.errors import RevoqError
from rules.extract import take
from rules.guard import Guards, Who
from rules.hosts import bind_hosts
from rules.lifecycle import Outcome
from rules.loader import Catalogue, LoadedRule, hosts_of
from rules.match import TOO_EARLY_OR_MANY, read_step
from rules.message import Answer, Prepared
from rules.request import add_headers, prepare
from rules.schema import Extraction, Identity, Provider, Request, Step
from rules.secret import Secret
from rules.throttle import retry_after
from worker.client import send
from worker.errors import ConnectionUnusable, ExchangeError, Trouble
from worker.log import redacting
from worker.settings import Connection, Settings

log = structlog.get_logger(__name__)

UNAUTHORIZED = 401
SHORTEST_ID = 10
"""Characters from which on an id is not found in a secret by chance."""
ACCOUNT_LENGTH = 400
NOBODY = ""
"""The name under which jobs without a connection are kept."""


class Account:
    """One connection as this process uses it. Without a connection it signs nothing and knows only the rule's hosts."""

    def __init__(self, settings: Settings, connection: Connection | None, provider: Provider | None) -> None:
        """Hold what the settings say; nothing is resolved or sent before it is needed."""
        self._settings, self._connection = settings, connection
        self.provider = provider
        self._identity: Identity | None = None
        if provider is not None and connection is not None:
            self._identity = provider.identity_by(connection.identity)
        self._lock = threading.RLock()
        self._session: dict[str, str | Secret] | None = None
        self._own: Who | None = None
        self._hidden = ExitStack()

    @property
    def name(self) -> str:
        """The connection's name, or the empty name."""
        return self._connection.name if self._connection is not None else NOBODY

    @property
    def signs(self) -> bool:
        """Whether there is an identity that can sign calls."""
        return self._identity is not None and self._connection is not None and bool(self._connection.identity)

    @property
    def never_probe(self) -> bool:
        """Whether the settings forbid to try credentials of this connection."""
        return self._connection is not None and self._connection.never_probe

    @property
    def base_url(self) -> str | None:
        """Where the connection's provider is, where the settings say so."""
        return self._connection.base_url if self._connection is not None else None

    def identity(self) -> Mapping[str, str | Secret]:
        """The identity's fields as names, for a kind of step that signs by itself; raises ConnectionUnusable."""
        return self._known()

    def actor_names(self) -> dict[str, str]:
        """What rules may know of our identity: the fields that it has to have and that are no secrets."""
        names = self.provider.actor_names if self.provider is not None and self.signs else {}
        known = self._known() if names else {}
        return {name: value for name, field in names.items() if isinstance(value := known.get(field.upper()), str)}

    def bases(self, loaded: LoadedRule, given: Mapping[str, str]) -> dict[str, str]:
        """The base URLs of a rule as this connection binds them."""
        return bind_hosts(hosts_of(loaded), self._connection.base_url if self._connection else None, given)

    def budget(self, loaded: LoadedRule, given: Mapping[str, str]) -> str:
        """Whose limits a job of this rule falls under: the connection's, or the rule's own where it asks."""
        if self._connection is not None:
            return self.name
        hosts = sorted({urlsplit(base).netloc for base in self.bases(loaded, given).values()})
        return f"{loaded.rule.id}@{','.join(hosts)}"[:ACCOUNT_LENGTH]

    def guards(self) -> Guards:
        """What promise 8 protects here; asks the provider once who we are, where the provider can tell."""
        if self._connection is None:
            return Guards()
        protected = self._connection.protected
        return Guards(
            subjects=protected.subjects,
            names=protected.names,
            ids=protected.ids,
            owns=self._connection.owns,
            own=self.own(),
        )

    def is_own(self, secret: Secret) -> bool:
        """Whether this is one of the secrets that the connection itself signs in with."""
        return self.signs and any(isinstance(value, Secret) and value == secret for value in self._known().values())

    def is_inside_own(self, identifier: str) -> bool:
        """Whether a secret that the connection signs in with holds this id, as the keys of some providers do."""
        if not self.signs or len(identifier) < SHORTEST_ID:
            return False
        return any(isinstance(value, Secret) and identifier in value.reveal() for value in self._known().values())

    def check(self) -> None:
        """Read every field of the identity, and send nothing; raises ConnectionUnusable with connection and field."""
        self._known()

    def own(self) -> Who:
        """Who we are at the provider; what it cannot tell is None."""
        with self._lock:
            if self._own is None:
                self._own = self._ask_who()
            return self._own

    def send(self, prepared: Prepared, *, actor: bool, mutates: bool = False) -> Answer:
        """Send one request, signed where `actor` says so; a refused session is renewed once.

        A 401 says that the provider did nothing, so sending again after a renewal is sound for any method. Signing in,
        sending and sending again share one time-out: a claim has to outlast all of it.
        """
        deadline = self._deadline()
        if not actor:
            return self._exchange(prepared, deadline, mutates=mutates)
        session = self._sign_in(deadline)
        answer = self._exchange(self._signed(prepared, session), deadline, mutates=mutates)
        if answer.status != UNAUTHORIZED or self._identity is None or self._identity.sign_in is None:
            return answer
        self._forget(session)
        return self._exchange(self._signed(prepared, self._sign_in(deadline)), deadline, mutates=mutates)

    def close(self) -> None:
        """Revoke our own session, as well as can be: a process that ends must not leave a login behind."""
        with self._lock:
            session, self._session = self._session, None
        if session is None or self._identity is None or self._identity.sign_out is None:
            return
        try:
            self._exchange(prepare(self._identity.sign_out, session, self._own_bases()), self._deadline())
        except RevoqError as error:
            log.warning("sign_out_failed", connection=self.name, why=str(error))

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.request_timeout

    def _exchange(self, prepared: Prepared, deadline: float, *, mutates: bool = False) -> Answer:
        connection = self._connection
        left = deadline - time.monotonic()
        if left <= 0:
            raise ExchangeError(Trouble.TIMEOUT, sent=False, says="there was no time left to send it")
        return send(
            prepared,
            timeout=left,
            # A request that changes something never travels on a connection that was used before.
            reuse=False if mutates else None,
            body_limit=self._settings.body_limit,
            allowed=(prepared.origin,),
            local=local_origins(connection.base_url if connection is not None else None),
            proxy=connection.proxy if connection is not None else None,
            ca_bundle=connection.ca_bundle if connection is not None else None,
        )

    def _known(self) -> dict[str, str | Secret]:
        """The identity's fields as names; a field that cannot be read is refused with connection and field."""
        if self._identity is None or self._connection is None:
            raise ConnectionUnusable(f"{self.name or 'without a connection'}: nothing here can sign a call")
        missing = [field for field in self._identity.needs if field not in self._connection.identity]
        if missing:
            raise ConnectionUnusable(
                f"connection {self.name}: identity lacks {', '.join(missing)}; {self.provider_name} needs it to sign in"
            )
        known: dict[str, str | Secret] = dict.fromkeys((field.upper() for field in self._identity.optional), "")
        for field in self._connection.identity:
            hidden = field in self._identity.secrets
            value = self._connection.resolve(field, secret=hidden)
            known[field.upper()] = value if hidden else value.reveal()
        return known

    @property
    def provider_name(self) -> str:
        """The provider's title, for sentences."""
        return self.provider.title if self.provider is not None else "the provider"

    def _sign_in(self, deadline: float) -> dict[str, str | Secret]:
        with self._lock:
            if self._session is None:
                known = self._known()
                if self._identity is not None and self._identity.sign_in is not None:
                    sign_in = self._identity.sign_in
                    known |= self._ask(sign_in.request, sign_in.extract, known, deadline)
                # An answer may repeat with what it was asked, and an error may quote that answer.
                self._hidden.close()
                self._hidden.enter_context(redacting(*(each for each in known.values() if isinstance(each, Secret))))
                self._session = known
            return self._session

    def _forget(self, session: dict[str, str | Secret]) -> None:
        with self._lock:
            if self._session is session:  # Another thread may have renewed it by now.
                self._session = None

    def _signed(self, prepared: Prepared, session: Mapping[str, str | Secret]) -> Prepared:
        return add_headers(prepared, self._identity.sign if self._identity is not None else {}, session)

    def _ask_who(self) -> Who:
        if not self.signs or self._identity is None:
            return Who()
        deadline = self._deadline()
        known = dict(self._sign_in(deadline))
        if self._identity.whoami is not None:
            known |= self._ask(self._identity.whoami.request, self._identity.whoami.extract, known, deadline)
        own = self._identity.own
        return Who(id=_plain(known, own.id), subject=_plain(known, own.subject), tenant=_plain(known, own.tenant))

    def _ask(
        self, request: Request, extract: Mapping[str, Extraction], known: Mapping[str, str | Secret], deadline: float
    ) -> dict[str, str | Secret]:
        prepared = prepare(request, known, self._own_bases())
        answer = self._exchange(self._signed(prepared, known) if request.actor else prepared, deadline)
        outcome = read_step(Step(request=request, mutating=False), answer, known)
        if outcome is Outcome.RETRY:
            raise ExchangeError(
                Trouble.PUT_OFF if answer.status in TOO_EARLY_OR_MANY else Trouble.PROTOCOL,
                sent=False,
                says=f"{self.provider_name} answered {answer.status} to our sign-in",
                retry_after=rest(answer.status, retry_after(answer.status, answer.headers, datetime.now(UTC))),
            )
        if outcome is not Outcome.OK:
            raise ConnectionUnusable(
                f"connection {self.name}: {self.provider_name} refused to sign us in with status {answer.status};"
                " check the identity and the base URL"
            )
        taken = {name: take(extraction, answer, known) for name, extraction in extract.items()}
        return {
            name: Secret(value) if extract[name].secret else value for name, value in taken.items() if value is not None
        }

    def _own_bases(self) -> dict[str, str]:
        hosts = self.provider.hosts if self.provider is not None else {}
        return bind_hosts(hosts, self._connection.base_url if self._connection else None, {})


class Connections:
    """All connections of one process, each signed in at most once."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        """Remember where to look; nothing is opened yet."""
        self._settings, self._catalogue = settings, catalogue
        self._accounts: dict[tuple[str, str], Account] = {}
        self._lock = threading.Lock()
        atexit.register(self.close)

    def account(self, name: str, loaded: LoadedRule) -> Account:
        """The account that serves this rule under this connection; raises with a sentence where they do not fit."""
        if name == NOBODY:
            return Account(self._settings, None, loaded.provider)
        connection = self._settings.connection(name)
        if connection.provider != loaded.rule.provider:
            raise ConnectionUnusable(
                f"connection {name} is to {connection.provider}; {loaded.rule.id} needs one to {loaded.rule.provider}"
            )
        with self._lock:
            key = (name, loaded.rule.provider)
            if key not in self._accounts:
                self._accounts[key] = Account(self._settings, connection, loaded.provider)
            return self._accounts[key]

    def close(self) -> None:
        """Sign out everywhere."""
        with self._lock:
            accounts, self._accounts = list(self._accounts.values()), {}
        for account in accounts:
            account.close()


def _plain(known: Mapping[str, str | Secret], name: str | None) -> str | None:
    value = known.get(name) if name is not None else None
    return value if isinstance(value, str) else None


def local_origins(base_url: str | None) -> tuple[str, ...]:
    """The origin of a base URL that says itself, by an address or `localhost`, that it is on this machine or link."""
    if base_url is None:
        return ()
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost":
            return ()
    return (f"{parts.scheme}://{parts.netloc}",)
