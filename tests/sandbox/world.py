"""All pretend providers with their clock, log and faults, and everything that a test may ask of them; no socket."""

from collections.abc import Mapping
from typing import Any

from tests.sandbox.atlas import Atlas
from tests.sandbox.clock import Clock
from tests.sandbox.cloudflare import Cloudflare
from tests.sandbox.exchange import Call
from tests.sandbox.faults import Fault, Faults
from tests.sandbox.gitlab import GitLab
from tests.sandbox.hub import Hub
from tests.sandbox.keyring import Keyring
from tests.sandbox.log import Log, Received
from tests.sandbox.npm import Npm
from tests.sandbox.pangolin import Pangolin
from tests.sandbox.provider import Provider
from tests.sandbox.sendgrid import SendGrid
from tests.sandbox.sumologic import SumoLogic
from tests.sandbox.tailscale import Tailscale
from tests.sandbox.twilio import Twilio
from tests.sandbox.vault_kv import VaultKv
from tests.sandbox.vercel import Vercel

HOST = "127.0.0.1"


class World:
    """The providers, by name and as attributes."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.clock = Clock()
        self.log = Log()
        self.faults = Faults()
        self.sendgrid = SendGrid(self.clock)
        self.tailscale = Tailscale(self.clock)
        self.pangolin = Pangolin(self.clock)
        self.hub = Hub(self.clock)
        self.keyring = Keyring(self.clock)
        self.mongodb_atlas = Atlas(self.clock)
        self.sumologic = SumoLogic(self.clock)
        self.twilio = Twilio(self.clock)
        self.npm = Npm(self.clock)
        self.vercel = Vercel(self.clock)
        self.vault_kv = VaultKv(self.clock)
        self.gitlab = GitLab(self.clock)
        self.cloudflare = Cloudflare(self.clock)
        providers: list[Provider] = [
            *(self.sendgrid, self.tailscale, self.pangolin, self.hub, self.keyring),
            *(self.mongodb_atlas, self.sumologic, self.twilio, self.npm, self.vercel),
            *(self.vault_kv, self.gitlab, self.cloudflare),
        ]
        self.providers: Mapping[str, Provider] = {each.name: each for each in providers}

    @property
    def base_url(self) -> str:
        """Where it is served; each provider is below it."""
        return f"http://{HOST}:{self.port}"

    def url(self, provider: str) -> str:
        """The base URL of this provider."""
        return f"{self.base_url}/{self.provider(provider).name}"

    def provider(self, name: str) -> Provider:
        """The provider of this name; another name is refused."""
        if name not in self.providers:
            raise ValueError(f"expected one of {', '.join(self.providers)}, got {name!r}")
        return self.providers[name]

    def fault(self, provider: str, kind: str = "status", **options: Any) -> None:
        """Let something go wrong; the options are the fields of `faults.Fault`."""
        self.faults.add(Fault(self.provider(provider).name, kind, **options))

    def clear_faults(self) -> None:
        """Nothing goes wrong any more."""
        self.faults.clear()

    def calls(self, provider: str = "", method: str = "", path: str = "*") -> list[Received]:
        """The calls that came in, oldest first; the path may hold `*`."""
        return list(self.log.find(provider, method, path))

    def mutations(self, provider: str = "", path: str = "*") -> list[Received]:
        """The calls that may have changed something."""
        return [each for each in self.calls(provider, path=path) if each.mutating]

    def forget_calls(self) -> None:
        """Start counting anew."""
        self.log.clear()

    def state(self) -> dict[str, dict[str, bool]]:
        """Which credentials are really alive: provider → id → alive."""
        return {name: provider.state() for name, provider in self.providers.items()}

    def alive(self, provider: str, credential: str) -> bool:
        """Whether this credential is really alive; one that is not there is not."""
        return self.provider(provider).state().get(credential, False)

    def works(self, provider: str, secret: str) -> bool:
        """Whether this very secret is taken there."""
        return self.provider(provider).works(secret)

    def seed(self, provider: str, kind: str, **values: Any) -> dict[str, Any]:
        """Put something there, and say what it is, with its secret."""
        return self.provider(provider).seed(kind, **values)

    def switch(self, provider: str, **values: Any) -> None:
        """Turn a provider's switches."""
        self.provider(provider).switch(**values)

    def advance(self, seconds: float = 0.0, hours: float = 0.0) -> None:
        """Move the sandbox's clock forward."""
        self.clock.advance(seconds + hours * 3600)

    def receive(self, provider: Provider, call: Call) -> Received:
        """Write a call down, before anything is done with it."""
        with provider.lock:
            actor = provider.actor(call)
        received = Received(self.clock.now(), provider.name, call.method, call.path, actor, call)
        self.log.add(received)
        return received
