"""Finding the target that a person means in what a rule's listing shows; what a row fills in, the rule says."""

from __future__ import annotations

from collections.abc import Mapping

from rules.errors import BadInput
from rules.naming import name_credential, naming_variable
from rules.slots import read_rows
from worker.listing import list_credentials
from worker.runtime import Runtime


def find_target(
    runtime: Runtime, rule_id: str, connection: str, target: str, given: Mapping[str, str]
) -> dict[str, str]:
    """The variables that the one row with this id or, where none has it, with this name fills in.

    Raises BadInput where that is not exactly one, or where the list could not be read to its end.
    """
    loaded = runtime.catalogue.get(rule_id)
    variable = naming_variable(loaded.rule)
    if variable in given:
        raise BadInput(f"--target and --var {variable} both say which one is meant: give one of them")
    listed = list_credentials(runtime.connections.account(connection, loaded), loaded, None, given)
    if listed.cut_off:
        raise BadInput(f"which one {target!r} is cannot be told, since the list is not whole: {listed.cut_off}")
    rows = read_rows(loaded.rule, listed.rows)
    fitting = [row for row in rows if row.id == target] or [row for row in rows if row.name == target]
    if len(fitting) == 1:
        return name_credential(loaded.rule, fitting[0].id, filled=fitting[0].variables)
    show = f"revoq credentials list --rule {rule_id} --connection {connection}"
    if not fitting:
        raise BadInput(f"none of the {len(rows)} that the provider lists has the id or name {target!r}: {show}")
    ids = ", ".join(row.id for row in fitting)
    raise BadInput(f"{len(fitting)} are called {target!r}: name one by its id, which is one of {ids}")
