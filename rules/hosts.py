"""Base URLs: which address a host variable of a rule stands for; never one out of a credential or an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rules.errors import BadInput

BASE_URL = "BASE_URL"
"""The host variable that a connection's `base_url` binds."""


def bind_hosts(hosts: Mapping[str, Sequence[str]], base_url: str | None, given: Mapping[str, str]) -> dict[str, str]:
    """Choose one base URL for each host variable: the connection's, one that was asked for and is listed, the first.

    Raises BadInput where none is to be had, or where what was asked for is not among the rule's own.
    """
    bound: dict[str, str] = {}
    for name, allowed in hosts.items():
        asked = given.get(name)
        if name == BASE_URL and base_url is not None:
            bound[name] = base_url
        elif asked is not None and asked in allowed:
            bound[name] = asked
        elif asked is not None:
            raise BadInput(f"{name}: expected one of {', '.join(allowed) or 'no address'}; others need a connection")
        elif allowed:
            bound[name] = allowed[0]
        else:
            raise BadInput("the rule does not know where its provider is: say which connection with --connection")
    return bound
