"""Where a request goes: bound by the connection or by the rule, never by a credential."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import BadInput
from rules.hosts import bind_hosts
from rules.loader import builtin, hosts_of, load

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


RULES = list(load([builtin()]))
ALIKE = sorted({f"{host}.evil.example.net" for rule in RULES for hosts in hosts_of(rule).values() for host in hosts})
ELSEWHERE = ["http://169.254.169.254", "//evil.example.net", "https://api.npmjs.org@evil.example.net", *ALIKE]
PLACES = st.sampled_from(ELSEWHERE) | st.text(max_size=30)


@given(
    which=st.sampled_from(RULES),
    wanted=st.dictionaries(st.sampled_from(sorted({name for rule in RULES for name in hosts_of(rule)})), PLACES),
    base=st.none() | st.just("https://self.example.net"),
)
def test_no_rule_of_ours_goes_where_a_report_says(which: Any, wanted: dict[str, str], base: str | None) -> None:
    """Whatever a row, a finding or a person says of a host: it is the rule's own, the connection's, or refused."""
    hosts = hosts_of(which)
    try:
        bound = bind_hosts(hosts, base, wanted)
    except BadInput:
        return
    assert bound.keys() == hosts.keys()
    assert all(place in {*hosts[name], base} for name, place in bound.items())
