"""The demo's cast: a dozen credentials, one for each thing that can happen, and what revoq must say of each."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.sandbox.sendgrid import draw_secret
from tests.sandbox.world import World

REVOKED = "revoked"


@dataclass(frozen=True)
class Member:
    """One credential. `verdict` or `reason` is what revoq must come to, and `dead` what must then really be true.

    `id` is the sandbox's name of it (empty where it never existed); a secret is handed in, or `vars` name it.
    """

    title: str
    rule: str
    connection: str
    provider: str
    id: str
    secret: str | None = field(default=None, repr=False)
    vars: Mapping[str, str] = field(default_factory=dict)
    verdict: str = ""
    reason: str = ""
    dead: bool = True


@dataclass(frozen=True)
class Rotation:
    """One service user whose key is replaced, by its `name` in sinks. `record` is what its consumer has at first, with
    its secret as the field `secret_field`; `verdict` or `reason` is what revoq must come to.
    """

    title: str
    rule: str
    connection: str
    provider: str
    name: str
    vars: Mapping[str, str]
    record: Mapping[str, str] = field(repr=False)
    secret_field: str = "key"
    verdict: str = "rotated"
    reason: str = ""


@dataclass(frozen=True)
class Account:
    """One connection: whose it is, how it signs in (references only), and what the references mean."""

    name: str
    rules_of: str
    provider: str
    identity: Mapping[str, str]
    environment: Mapping[str, str] = field(repr=False)
    owns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cast:
    """Everybody on stage, and the accounts through which they are met.

    `bystanders` (provider, id) share lists with the others and must all be alive at the end.
    """

    base_url: str
    members: tuple[Member, ...]
    rotations: tuple[Rotation, ...]
    accounts: tuple[Account, ...]
    bystanders: tuple[tuple[str, str], ...]


def seed(world: World) -> Cast:
    """Put the cast on stage."""
    accounts = (
        open_sendgrid(world),
        open_tailscale(world),
        open_pangolin(world),
        open_hub(world),
        open_keyring(world),
    )
    before = {(name, each) for name, ids in world.state().items() for each, alive in ids.items() if alive}
    members = (
        *seed_sendgrid(world),
        *seed_tailscale(world),
        *seed_pangolin(world),
        *seed_hub(world),
        *seed_keyring(world),
    )
    played = {(member.provider, member.id) for member in members}
    after = {(name, each) for name, ids in world.state().items() for each, alive in ids.items() if alive}
    rotations = tuple(seed_rotations(world))
    return Cast(world.base_url, members, rotations, accounts, tuple(sorted((before | after) - played)))


def connections(cast: Cast) -> dict[str, dict[str, Any]]:
    """The `connections:` of revoq.yaml; secrets are `env:` references, whose values `environment` holds."""
    return {account.name: describe_account(account, cast.base_url) for account in cast.accounts}


def describe_account(account: Account, base_url: str) -> dict[str, Any]:
    """One connection, as the settings spell it."""
    described: dict[str, Any] = {
        "provider": account.rules_of,
        "base_url": f"{base_url}/{account.provider}",
        "identity": dict(account.identity),
    }
    return {**described, "owns": dict(account.owns)} if account.owns else described


def environment(cast: Cast) -> dict[str, str]:
    """The values of the environment variables that the connections refer to."""
    return {name: value for account in cast.accounts for name, value in account.environment.items()}


def show_cast(cast: Cast) -> dict[str, Any]:
    """All of it for another process, secrets included."""
    return {
        "members": [asdict(member) for member in cast.members],
        "rotations": [asdict(rotation) for rotation in cast.rotations],
        "bystanders": [list(each) for each in cast.bystanders],
        "connections": connections(cast),
        "environment": environment(cast),
    }


# ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def open_sendgrid(world: World) -> Account:
    """The parent account's key, which may delete others."""
    key = world.sendgrid.add_key(name="revoq")
    return sign_by_token("sendgrid-demo", "sendgrid", "sendgrid", key.secret)


def open_tailscale(world: World) -> Account:
    """An admin's access token."""
    key = world.tailscale.add_key(description="revoq", user="uREVOQ", admin=True)
    return sign_by_token("tailscale-demo", "tailscale", "tailscale", key.secret)


def open_pangolin(world: World) -> Account:
    """A tenant's admin, since root would see empty lists."""
    user = world.pangolin.add_user("revoq-bot", "tenant-admin")
    return Account(
        name="pangolin-demo",
        rules_of="pangolin",
        provider="pangolin",
        identity={"username": user.username, "tenant": world.pangolin.tenant, "password": "env:DEMO_PANGOLIN_PASSWORD"},
        environment={"DEMO_PANGOLIN_PASSWORD": user.password},
        owns={"tenant": world.pangolin.tenant},
    )


def open_hub(world: World) -> Account:
    """A service of the hub."""
    token = world.hub.add_token("revoq", "the service's own", admin=True)
    return sign_by_token("hub-demo", "jupyterhub", "hub", token.secret)


def open_keyring(world: World) -> Account:
    """An admin's key."""
    key = world.keyring.add_key(owner="revoq", name="revoq", admin=True)
    return sign_by_token("keyring-demo", "keyring", "keyring", key.secret)


def sign_by_token(name: str, rules_of: str, provider: str, secret: str) -> Account:
    """An account whose identity is one token."""
    variable = f"DEMO_{rules_of.upper()}_TOKEN"
    return Account(name, rules_of, provider, {"token": f"env:{variable}"}, {variable: secret})


# ── members ───────────────────────────────────────────────────────────────────────────────────────────────────────


def seed_sendgrid(world: World) -> list[Member]:
    """Three keys: a plain one, one that lingers, and one of somebody else's."""
    plain = world.sendgrid.add_key(name="newsletter of a leaver", scopes=["mail.send"])
    slow = world.sendgrid.add_key(name="shop", scopes=["mail.send"], linger=2)
    _, foreign = draw_secret()

    def cast(title: str, identifier: str, secret: str, **expected: Any) -> Member:
        return Member(title, "sendgrid.api_key", "sendgrid-demo", "sendgrid", identifier, secret, **expected)

    return [
        cast("a SendGrid key that leaked", plain.id, plain.secret, verdict=REVOKED),
        cast("a SendGrid key that works a little longer after its deletion", slow.id, slow.secret, verdict=REVOKED),
        cast("a SendGrid key that this account never knew", "", foreign, reason="not_recognised"),
    ]


def seed_tailscale(world: World) -> list[Member]:
    """A live key, and one that died before."""
    live = world.tailscale.add_key(description="laptop")
    dead = world.tailscale.add_key(description="old laptop", revoked=True)

    def cast(title: str, identifier: str, secret: str, verdict: str) -> Member:
        return Member(title, "tailscale.api_key", "tailscale-demo", "tailscale", identifier, secret, verdict=verdict)

    return [
        cast("a Tailscale token of a leaver", live.id, live.secret, REVOKED),
        cast(
            "a Tailscale token that was revoked before, as its tailnet still knows",
            dead.id,
            dead.secret,
            "already_revoked",
        ),
    ]


def seed_pangolin(world: World) -> list[Member]:
    """A token in hand, and one that is known by its user and its id, both among others of the same user."""
    user = world.pangolin.add_user("dana")
    world.pangolin.add_token(user.id, hours=24 * 90)
    whole = world.pangolin.add_token(user.id, hours=24 * 30)
    named = world.pangolin.add_token(user.id, hours=24 * 365)
    world.pangolin.add_token(user.id, hours=24 * 7)

    def cast(title: str, identifier: str, **given: Any) -> Member:
        return Member(title, "pangolin.token", "pangolin-demo", "pangolin", identifier, verdict=REVOKED, **given)

    return [
        cast("a Pangolin token, handed in whole", whole.id, secret=whole.secret),
        cast(
            "a Pangolin token, named by its user and its id",
            named.id,
            vars={"USER_ID": user.id, "TOKEN_ID": named.id},
        ),
    ]


def seed_hub(world: World) -> list[Member]:
    """One of three tokens, neither the first nor the last of the list."""
    world.hub.add_token("dana", "laptop")
    target = world.hub.add_token("dana", "notebook that was shared")
    world.hub.add_token("dana", "ci")
    title = "a JupyterHub token in the middle of its user's list"
    return [Member(title, "jupyterhub.token", "hub-demo", "hub", target.id, target.secret, verdict=REVOKED)]


def seed_keyring(world: World) -> list[Member]:
    """Four keys that only a list can tell apart, on several pages, with wrong rows before them."""
    ring = world.keyring
    target = ring.add_key(name="deploy")
    ring.add_key(name="deploy, last year's", like=target.secret, revoked=True)
    ring.add_key(name="deploy of the other team", owner="erin", like=target.secret, same_end=False)
    twin = ring.add_key(name="backup")
    ring.add_key(name="backup of the other region", owner="erin", like=twin.secret)
    busy = ring.add_key(name="metrics", throttle=2, retry_after=1)
    liar = ring.add_key(name="legacy importer", yes_but_alive=True)

    def cast(title: str, identifier: str, secret: str, **expected: Any) -> Member:
        return Member(title, "keyring.token", "keyring-demo", "keyring", identifier, secret, **expected)

    return [
        cast("a key that only a list tells apart, with the wrong row first", target.id, target.secret, verdict=REVOKED),
        cast(
            "a key that looks like another one in the list", twin.id, twin.secret, reason="needs_selection", dead=False
        ),
        cast("a key whose provider asks for patience", busy.id, busy.secret, verdict=REVOKED),
        cast(
            "a key that the provider says it revoked, and that lives",
            liar.id,
            liar.secret,
            reason="still_alive",
            dead=False,
        ),
    ]


# ── rotations ─────────────────────────────────────────────────────────────────────────────────────────────────────

IN_PLACE, TWIN = "pangolin.service_user_key", "pangolin.service_user"
SERVICE_USERS: tuple[tuple[str, str, str, str], ...] = (
    ("etl", "its key is replaced in place", IN_PLACE, ""),
    ("reports", "so is this one's", IN_PLACE, ""),
    ("backups", "and this one's", IN_PLACE, ""),
    ("ci-smoke", "it gets a twin, and then ends", TWIN, ""),
    ("billing-export", "its provider answers 500 for ever", IN_PLACE, "provider_broken"),
)
"""Name, title, rule, and why its job must be parked; where it must, the key is never rotated there."""


def seed_rotations(world: World) -> Iterator[Rotation]:
    """Five service users, each with a key that its consumer has."""
    for name, title, rule, reason in SERVICE_USERS:
        user = world.pangolin.add_service_user(name, description=f"{name} (pretend)", jammed=bool(reason))
        yield Rotation(
            title,
            rule,
            "pangolin-demo",
            "pangolin",
            name,
            vars={"SERVICE_USER_ID": user.id, "SERVICE_USER_NAME": name},
            record={"id": user.id, "key": user.key},
            verdict="" if reason else "rotated",
            reason=reason,
        )
