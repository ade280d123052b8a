"""Promise 8, decided: what must not be acted on, although it was found; asking who we are is `worker.connections`'."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rules.lifecycle import Reason


@dataclass(frozen=True, slots=True)
class Who:
    """A credential, or ourselves, as the provider names it; what is not known is None."""

    id: str | None = None
    subject: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Guards:
    """What a connection's settings protect (globs) and own, and who its own identity is."""

    subjects: Sequence[str] = ()
    names: Sequence[str] = ()
    ids: Sequence[str] = ()
    owns: Mapping[str, str] | None = None
    own: Who = Who()


def refuse(
    found: Who, guards: Guards, *, finding: bool = False, forced: Reason | None = None
) -> tuple[Reason, str] | None:
    """Say why `found` must not be acted on, or None. A `finding` came from a scanner and must be shown to be ours.

    `forced` is the one guard that a person has lifted. Nobody lifts the one before our own identity.
    """
    if found.id is not None and guards.own.id is not None and found.id.lower() == guards.own.id.lower():
        return Reason.PROTECTED, "it is the credential that revoq itself signs in with"
    if forced is not Reason.PROTECTED and (protected := _protected(found, guards)) is not None:
        return protected
    if forced is Reason.NOT_OURS:
        return None
    return _elsewhere(found, guards) or _foreign(found, guards.owns or {}, finding=finding)


def _protected(found: Who, guards: Guards) -> tuple[Reason, str] | None:
    for what, value, globs in (
        ("subject", found.subject, guards.subjects),
        ("subject", found.subject, guards.names),
        ("id", found.id, guards.ids),
    ):
        glob = next((glob for glob in globs if value is not None and fnmatch.fnmatchcase(value, glob)), None)
        if glob is not None:
            return Reason.PROTECTED, f"its {what} {value!r} is protected by {glob!r} in the settings"
    return None


def _elsewhere(found: Who, guards: Guards) -> tuple[Reason, str] | None:
    """What is not our own tenant's is left alone, unless the settings say that another is owned."""
    here = None if "tenant" in (guards.owns or {}) else guards.own.tenant
    if here and found.tenant is not None and found.tenant != here:
        return Reason.NOT_OURS, f"its tenant is {found.tenant!r}; the connection signs in at {here!r}"
    return None


def _foreign(found: Who, owns: Mapping[str, str], *, finding: bool) -> tuple[Reason, str] | None:
    for what, expected in owns.items():
        value = getattr(found, what, None)
        if value is not None and value != expected:
            return Reason.NOT_OURS, f"its {what} is {value!r}; the connection owns {expected!r}"
        if value is None and finding:
            return Reason.NOT_OURS, f"nothing tells its {what}, and a finding is acted on only where it is ours"
    if finding and not owns:
        return Reason.NOT_OURS, "the connection does not say what it owns, so a finding cannot be shown to be ours"
    return None
