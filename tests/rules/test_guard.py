"""Promise 8: what is never acted on, although it was found."""

from __future__ import annotations

import pytest

from rules.guard import Guards, Who, refuse
from rules.lifecycle import FORCIBLE, Reason


def test_our_own_credential_is_refused() -> None:
    """Never the branch we sit on."""
    assert refuse(Who(id="k1"), Guards(own=Who(id="k1"))) is not None
    assert refuse(Who(id="k2"), Guards(own=Who(id="k1"))) is None
    assert refuse(Who(), Guards(own=Who())) is None


@pytest.mark.parametrize(
    "guards",
    [Guards(subjects=["revoq-bot"]), Guards(names=["revoq-*"]), Guards(ids=["k?"])],
    ids=["subject", "name", "id"],
)
def test_what_the_settings_protect_is_refused(guards: Guards) -> None:
    """Subjects, names and ids, by globs, and the sentence names the glob."""
    refused = refuse(Who(id="k1", subject="revoq-bot"), guards)

    assert refused is not None
    assert refused[0] is Reason.PROTECTED
    assert refuse(Who(id="other", subject="bob"), guards) is None


def test_another_tenants_credential_is_not_ours() -> None:
    """What is shown to belong elsewhere is refused even when a person handed it in."""
    refused = refuse(Who(tenant="t2"), Guards(owns={"tenant": "t1"}))

    assert refused is not None
    assert refused[0] is Reason.NOT_OURS


def test_a_finding_must_be_shown_to_be_ours() -> None:
    """What nothing is known of is enough for a person's word, and not for a scanner's."""
    guards = Guards(owns={"tenant": "t1"})

    assert refuse(Who(), guards) is None
    assert refuse(Who(tenant="t1"), guards, finding=True) is None
    assert refuse(Who(), guards, finding=True) is not None
    assert refuse(Who(tenant="t1"), Guards(), finding=True) is not None


def test_another_tenant_than_the_one_that_we_sign_in_at_is_not_ours() -> None:
    """Unless the settings say that it is owned; where we sign in at none, there is nothing to compare."""
    found = Who(tenant="T1")

    assert refuse(found, Guards(own=Who(tenant="T2"))) == (
        Reason.NOT_OURS,
        "its tenant is 'T1'; the connection signs in at 'T2'",
    )
    assert refuse(found, Guards(own=Who(tenant="T2"), owns={"tenant": "T1"})) is None
    assert refuse(found, Guards(own=Who(tenant="T1"))) is None
    assert refuse(found, Guards(own=Who())) is None
    assert refuse(Who(), Guards(own=Who(tenant="T2"))) is None


def test_a_person_lifts_one_guard_and_never_the_one_before_our_own_identity() -> None:
    """Who forces what is protected has not said that it is ours, nor the other way round."""
    guards = Guards(names=["root-*"], owns={"tenant": "t1"}, own=Who(id="own", tenant="t1"))
    protected, foreign = Who(subject="root-1", tenant="t1"), Who(subject="kim", tenant="t2")
    both = Who(subject="root-1", tenant="t2")

    assert refuse(protected, guards, forced=Reason.PROTECTED) is None
    assert refuse(foreign, guards, forced=Reason.NOT_OURS) is None
    assert refuse(Who(), guards, finding=True, forced=Reason.NOT_OURS) is None
    assert {forced: (refuse(both, guards, forced=forced) or [None])[0] for forced in FORCIBLE} == {
        Reason.PROTECTED: Reason.NOT_OURS,
        Reason.NOT_OURS: Reason.PROTECTED,
    }
    for forced in FORCIBLE:
        assert refuse(Who(id="own", tenant="t1"), guards, forced=forced) is not None


def test_our_own_id_is_refused_in_either_case() -> None:
    """Some ids are the same in upper and lower case, and the settings may hold the other one."""
    assert refuse(Who(id="ab-1"), Guards(own=Who(id="AB-1"))) is not None
