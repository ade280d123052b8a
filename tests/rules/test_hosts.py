"""Where a request goes: bound by the connection or by the rule, never by a credential."""

from __future__ import annotations

import pytest

from rules.errors import BadInput
from rules.hosts import bind_hosts

HOSTS = {"BASE_URL": ["https://api.example.com", "https://api.eu.example.com"]}


def test_the_connection_binds_first_then_the_request_then_the_rule() -> None:
    """A self-hosted provider is where its connection says; without one the rule's own addresses count."""
    assert bind_hosts(HOSTS, "https://self.example.net", {}) == {"BASE_URL": "https://self.example.net"}
    assert (
        bind_hosts(HOSTS, None, {"BASE_URL": "https://api.eu.example.com"})["BASE_URL"] == "https://api.eu.example.com"
    )
    assert bind_hosts(HOSTS, None, {}) == {"BASE_URL": "https://api.example.com"}


def test_a_requester_cannot_name_another_host() -> None:
    """An address that neither the rule nor a connection names is refused."""
    with pytest.raises(BadInput, match="expected one of"):
        bind_hosts(HOSTS, None, {"BASE_URL": "https://evil.example.net"})


def test_a_rule_without_addresses_needs_a_connection() -> None:
    """A self-hosted provider has no default address."""
    with pytest.raises(BadInput, match="--connection"):
        bind_hosts({"BASE_URL": []}, None, {})
