"""Any number of credentials over eight pretend providers, with all kinds of trouble; what each must come to is known.

The cast is a dozen of them, each for one thing that can happen; here many are alike, and what happens is up to chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.sandbox.cast import (
    REVOKED,
    Account,
    Member,
    describe_account,
    open_hub,
    open_keyring,
    open_pangolin,
    open_sendgrid,
    open_tailscale,
)
from tests.sandbox.sendgrid import draw_secret
from tests.sandbox.world import World

SHARES = {"sendgrid": 24, "tailscale": 24, "hub": 16, "twilio": 14, "vercel": 10, "pangolin": 10}
"""Of a hundred; of the two providers that can only be asked for a list there are a few, however many others."""
LISTED = 16
PER_USER = 20
DOWN = 15


@dataclass(frozen=True)
class Crowd:
    """Everybody who is to die, those who must not, and the accounts."""

    base_url: str
    members: tuple[Member, ...]
    accounts: tuple[Account, ...]
    bystanders: tuple[tuple[str, str], ...]

    def connections(self, limits: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The `connections:` of revoq.yaml, some with a limit."""
        said = {account.name: describe_account(account, self.base_url) for account in self.accounts}
        return {
            name: {**fields, **({"limits": limits[name]} if name in limits else {})} for name, fields in said.items()
        }

    def environment(self) -> dict[str, str]:
        """What the connections' references mean."""
        return {name: value for account in self.accounts for name, value in account.environment.items()}


def gather(world: World, count: int) -> Crowd:
    """Put so many on stage, and as many bystanders beside each ten of them."""
    accounts = (
        *(open_sendgrid(world), open_tailscale(world), open_pangolin(world), open_hub(world), open_keyring(world)),
        *(open_twilio(world), open_vercel(world), open_atlas(world)),
    )
    world.switch("mongodb_atlas", most_per_page=100)
    members = [*keyring(world), *atlas(world)]
    share = (count - len(members)) / 100
    for provider, part in SHARES.items():
        members += MAKERS[provider](world, round(part * share))
    members += [foreign() for _ in range(count - len(members))]
    for number in range(count // 10):
        world.sendgrid.add_key(name=f"bystander {number}")
        world.tailscale.add_key(description=f"bystander {number}")
        world.hub.add_token(f"user{number // PER_USER}", "bystander")
        world.twilio.add_key()
    played = {(member.provider, member.id) for member in members if member.dead}
    alive = {(name, each) for name, ids in world.state().items() for each, lives in ids.items() if lives}
    told = [replace(member, title=f"number {number}") for number, member in enumerate(members)]
    return Crowd(world.base_url, tuple(told), accounts, tuple(sorted(alive - played)))


def trouble(world: World, count: int, seed: int = 1) -> int:
    """Let things go wrong, spread over so many jobs; how many calls are hit."""
    random, hit = Random(seed), 0
    for provider, kind, options in KINDS:
        for _ in range(max(count // 400, 1)):
            times = random.randint(1, 3)
            world.fault(provider, kind, **options, times=times, after=random.randrange(max(count // 12, 8)))
            hit += times
    # One provider is down for a while: more in a row than a breaker bears. What is left of it when the breaker opens is
    # met by one trial at a time, each after a longer rest, so that more would not be harder, only longer.
    world.fault("hub", status=503, times=DOWN, after=count // 20)
    return hit + DOWN


KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("sendgrid", "status", {"status": 500}),
    ("sendgrid", "drop_after", {"method": "DELETE"}),
    ("sendgrid", "status", {"status": 429, "headers": {"Retry-After": "1"}}),
    ("tailscale", "status", {"status": 429, "headers": {"Retry-After": "1"}}),
    ("tailscale", "status", {"status": 502, "method": "DELETE", "handled": True}),
    ("tailscale", "drop_before", {}),
    ("pangolin", "status", {"status": 503}),
    ("pangolin", "cut", {}),
    ("hub", "drop_after", {"method": "DELETE"}),
    ("hub", "broken_json", {"method": "GET"}),
    ("twilio", "drop_before", {"method": "DELETE"}),
    ("twilio", "html_200", {"method": "GET"}),
    ("vercel", "status", {"status": 500}),
    ("vercel", "delay", {"seconds": 1.0}),
    ("keyring", "status", {"status": 503}),
    ("mongodb_atlas", "drop_before", {}),
)

# ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def open_twilio(world: World) -> Account:
    """The account itself."""
    twilio = world.twilio
    identity = {"username": twilio.account, "password": "env:CROWD_TWILIO"}
    return Account("twilio-demo", "twilio", "twilio", identity, {"CROWD_TWILIO": twilio.auth_token})


def open_vercel(world: World) -> Account:
    """Our app."""
    vercel = world.vercel
    identity = {"client_id": vercel.client_id, "client_secret": "env:CROWD_VERCEL"}
    return Account("vercel-demo", "vercel", "vercel", identity, {"CROWD_VERCEL": vercel.client_secret})


def open_atlas(world: World) -> Account:
    """A service account."""
    atlas = world.mongodb_atlas
    identity = {"client_id": atlas.client_id, "client_secret": "env:CROWD_ATLAS"}
    return Account("atlas-demo", "mongodb_atlas", "mongodb_atlas", identity, {"CROWD_ATLAS": atlas.client_secret})


# ── members ───────────────────────────────────────────────────────────────────────────────────────────────────────


def foreign() -> Member:
    """A key that looks right and that nobody knows."""
    return Member("", "sendgrid.api_key", "sendgrid-demo", "sendgrid", "", draw_secret()[1], reason="not_recognised")


def sendgrid(world: World, count: int) -> Iterator[Member]:
    for _ in range(count):
        key = world.sendgrid.add_key(scopes=["mail.send"])
        yield Member("", "sendgrid.api_key", "sendgrid-demo", "sendgrid", key.id, key.secret, verdict=REVOKED)


def tailscale(world: World, count: int) -> Iterator[Member]:
    for number in range(count):
        before = number % 20 == 0
        key = world.tailscale.add_key(revoked=before)
        verdict = "already_revoked" if before else REVOKED
        yield Member("", "tailscale.api_key", "tailscale-demo", "tailscale", key.id, key.secret, verdict=verdict)


def hub(world: World, count: int) -> Iterator[Member]:
    for number in range(count):
        token = world.hub.add_token(f"user{number // PER_USER}")
        yield Member("", "jupyterhub.token", "hub-demo", "hub", token.id, token.secret, verdict=REVOKED)


def twilio(world: World, count: int) -> Iterator[Member]:
    for _ in range(count):
        key = world.twilio.add_key()
        named = {"KEY_SID": key.id}
        yield Member("", "twilio.api_key", "twilio-demo", "twilio", key.id, key.secret, named, verdict=REVOKED)


def vercel(world: World, count: int) -> Iterator[Member]:
    for _ in range(count):
        token = world.vercel.add_token()
        yield Member("", "vercel.app_token", "vercel-demo", "vercel", token.id, token.secret, verdict=REVOKED)


def pangolin(world: World, count: int) -> Iterator[Member]:
    user = world.pangolin.add_user("dana0")
    for number in range(count):
        if number % PER_USER == 0:
            user = world.pangolin.add_user(f"dana{number}")
        token = world.pangolin.add_token(user.id, hours=24 * 90)
        yield Member("", "pangolin.token", "pangolin-demo", "pangolin", token.id, token.secret, verdict=REVOKED)


def keyring(world: World) -> Iterator[Member]:
    """A few that only a list tells apart; two look like another one, and one lives on although it was killed."""
    for number in range(LISTED):
        liar, twin = number == 0, number in {1, 2}
        key = world.keyring.add_key(name=f"job {number}", yes_but_alive=liar)
        if twin:
            world.keyring.add_key(owner="erin", like=key.secret)
        expected: dict[str, Any] = {"verdict": REVOKED}
        if liar or twin:
            expected = {"reason": "still_alive" if liar else "needs_selection", "dead": False}
        yield Member("", "keyring.token", "keyring-demo", "keyring", key.id, key.secret, **expected)


def atlas(world: World) -> Iterator[Member]:
    for _ in range(LISTED):
        key = world.mongodb_atlas.add_key()
        named = {"PUBLIC_KEY": key.public}
        where = ("mongodb_atlas.api_key", "atlas-demo", "mongodb_atlas")
        yield Member("", *where, key.id, key.secret, named, verdict=REVOKED)


MAKERS = {
    "sendgrid": sendgrid,
    "tailscale": tailscale,
    "hub": hub,
    "twilio": twilio,
    "vercel": vercel,
    "pangolin": pangolin,
}
