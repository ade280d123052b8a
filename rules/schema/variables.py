"""The values that a rule works with: those that the requester gives, and those that identify the credential."""

from __future__ import annotations

from rules.model import Model, Name


class Variable(Model):
    """Ours: a value that the requester gives with `--var`. `pattern` must match it whole.

    One that `identifies` names the credential itself, so that a row found by it is tied to the credential. Under its
    `aliases` a scanner's finding brings it.
    """

    about: str
    required: bool = False
    secret: bool = False
    identifies: bool = False
    pattern: str | None = None
    aliases: list[Name] = []


class Subject(Model):
    """Ours: the names that hold what identifies the credential, and when it expires, once they are known."""

    id: Name | None = None
    subject: Name | None = None
    tenant: Name | None = None
    expires: Name | None = None
