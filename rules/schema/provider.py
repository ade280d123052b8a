"""What the rules of one provider share: its base URLs, and how a connection to it signs in and finds out who it is."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import Field

from rules.model import Model, Name
from rules.schema.extractors import Extraction
from rules.schema.request import Request
from rules.schema.variables import Subject


class SignIn(Model):
    """How an identity is turned into a session; `SESSION` must be among what is extracted."""

    request: Request
    extract: dict[Name, Extraction]


class WhoAmI(Model):
    """The read by which a connection learns who it is, so that it never acts on itself."""

    request: Request
    extract: dict[Name, Extraction]


class Identity(Model):
    """How a connection's `identity` signs calls. Its fields are names in upper case, in these templates only.

    An optional field that is not set is an empty text. `own` names what sign-in or `whoami` tell about ourselves.
    """

    needs: list[str] = []
    optional: list[str] = []
    secrets: list[str] = []
    sign: dict[str, str]
    sign_in: SignIn | None = None
    sign_out: Request | None = None
    whoami: WhoAmI | None = None
    own: Subject = Subject()


class Provider(Model):
    """What the rules of one provider share: base URLs, and how a connection to it signs."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    hosts: dict[Name, list[str]] = {}
    identity: Identity | None = None
    other_identities: list[Identity] = []
    references: list[str] = []

    def identity_by(self, fields: Collection[str]) -> Identity | None:
        """The way to sign in that the fields are enough for; the usual one where they are enough for none."""
        ways = [self.identity, *self.other_identities]
        return next((way for way in ways if way is not None and set(way.needs) <= set(fields)), self.identity)

    @property
    def actor_names(self) -> dict[str, str]:
        """The names by which rules know the signing connection's identity, each with its field.

        They are the fields that every connection has to have and that are no secrets.
        """
        identity = self.identity or Identity(sign={})
        return {f"ACTOR_{field.upper()}": field for field in identity.needs if field not in identity.secrets}
