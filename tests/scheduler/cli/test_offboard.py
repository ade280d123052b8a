"""`revoq offboard` and `revoq batches` at the terminal: what is taken in, what is refused, and with which sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rules.lifecycle import Reason, Verdict
from scheduler.offboard.loading import CHUNK
from tests.scheduler.cli.conftest import TOKEN, Home, Jobs
from worker.ledger import batches, moves, reads
from worker.ledger.database import Database

KEY = "SG." + "a" * 22 + "." + "b" * 43
OTHER = "0123456789abcdef0123456789abcde0"
SENDGRID = {
    "sg": {
        "provider": "sendgrid",
        "base_url": "https://api.example.com",
        "identity": {"token": "env:HUB_TOKEN"},
        "owns": {"tenant": "t"},
    }
}
HUB = {"hub": {"provider": "jupyterhub", "base_url": "https://hub.example.com", "identity": {"token": "env:HUB_TOKEN"}}}


def put(home: Home, name: str, text: str | bytes) -> str:
    """Write a file into the folder of the test; its name."""
    path = home.folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def rows(*lines: str) -> str:
    """A CSV with four columns."""
    return "\n".join(["rule,secret,connection,reason", *lines, ""])


def token(number: int) -> str:
    """What looks like a token of JupyterHub."""
    return f"{number:032x}"


def refusal(home: Home, name: str, text: str | bytes, *words: str) -> list[str]:
    """The sentences of a file that is refused; that nothing was committed is looked at too."""
    done = home.run("offboard", put(home, name, text), *words)
    assert done.exit_code == 2, done.output
    assert home.ask("batches", "list") == []
    assert home.ask("jobs", "list") == []
    return [line.removeprefix("revoq: ") for line in done.stderr.splitlines()]


def test_a_file_becomes_a_batch(home: Home, db: Database) -> None:
    """Each row is a job of one batch, behind single jobs, with its own connection and reason or the common ones."""
    file = put(home, "leavers.csv", rows(f"jupyterhub.token,{TOKEN},hub,left", f"jupyterhub.token,{OTHER},,"))

    told = home.ask("offboard", file, "--connection", "hub", "--reason", "summer")

    assert (told["rows"], told["submitted"], told["joined"], told["repeated"]) == (2, 2, 0, 0)
    assert told["holds_secrets"] == [file]
    found = reads.jobs(db, batch=told["batch"])
    assert {job.cause for job in found} == {"left", "summer"}
    assert {(job.queue, job.connection, job.priority) for job in found} == {("bulk", "hub", 7)}
    shown = home.ask("batches", "show", told["batch"])
    assert (shown["state"], shown["jobs"], shown["settled"], shown["exit_code"]) == ("open", 2, 0, 6)
    assert home.run("audit", "verify").exit_code == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", json.dumps({"rule": "jupyterhub.token", "secret": TOKEN, "connection": "hub"}) + "\n"),
        ("a.yaml", f"- rule: jupyterhub.token\n  secret: {TOKEN}\n  connection: hub\n"),
        ("a.txt", f"rule,secret,connection\r\njupyterhub.token,{TOKEN},hub\r\n"),
        ("a.csv", b"\xef\xbb\xbf" + f"rule,secret,connection\njupyterhub.token,{TOKEN},hub".encode()),
        ("b.csv", f'rule,secret,reason,connection\njupyterhub.token,{TOKEN},"two\nlines",hub\n'),
    ],
)
def test_formats(home: Home, db: Database, name: str, text: str | bytes) -> None:
    """CSV, JSON Lines and YAML say the same; BOM, CRLF and line breaks in quotes change nothing."""
    told = home.ask("offboard", put(home, name, text))

    assert told["submitted"] == 1
    (job,) = reads.jobs(db, batch=told["batch"])
    assert (job.rule, job.connection) == ("jupyterhub.token", "hub")


def test_all_mistakes_at_once(home: Home) -> None:
    """Every mistake has its line and its sentence, no secret is repeated, and nothing is committed."""
    text = rows(
        f"jupyterhub.token,{TOKEN},hub,",
        "jupyterhub.tokn,secretsecretsecret,hub,",
        "jupyterhub.token,short,hub,",
        f"jupyterhub.token,{OTHER},hubb,",
        "jupyterhub.token,,hub,",
        f",{OTHER},hub,",
        f"jupyterhub.token,{OTHER},hub,,too,many",
    )

    said = refusal(home, "leavers.csv", text)

    places = [line.partition(".csv:")[2].partition(":")[0] for line in said[:-1]]
    assert places == ["3", "4", "5", "6", "7", "8"]
    assert "did you mean jupyterhub.token" in said[0]
    assert "secretsecretsecret" not in "".join(said)
    assert OTHER not in "".join(said)
    assert said[-1].startswith("6 mistakes, so nothing was submitted")


def test_skip_invalid(home: Home) -> None:
    """The rows that are right go in, and the others are told."""
    file = put(home, "leavers.csv", rows(f"jupyterhub.token,{TOKEN},hub,", "jupyterhub.token,short,hub,"))

    told = home.ask("offboard", file, "--skip-invalid")

    assert (told["submitted"], told["skipped"]) == (1, 1)
    assert [mistake["place"] for mistake in told["mistakes"]] == ["3"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.csv", "rule;secret;connection\n", "separated by semicolons: save the file with commas"),
        ("a.csv", "rule,secret,secret\n", "column 3: secret stands there twice"),
        ("a.csv", "rule,sekret\n", "column 2 has a name that is none of"),
        ("a.csv", "", "expected a first row with names of columns"),
        ("a.csv", "rule,secret\njupyterhub.token,a\0b\n", "NUL character"),
        ("a.csv", b"rule,secret\njupyterhub.token,\xff\n", "expected UTF-8"),
        ("a.csv", "rule,secret\n".encode("utf-16"), "UTF-16: save it as UTF-8"),
        ("a.csv", 'rule,secret\njupyterhub.token,"abc\n', "quotation marks"),
        ("a.csv", "rule,secret\n" + "a" * 1_100_000 + "\n", "longer than 1 MiB"),
        ("a.csv", 'rule,secret\n"' + "a\n" * 100_000, "is a quotation mark not closed?"),
        ("a.jsonl", '{"rule": "x", "rule": "y"}', "a key stands twice"),
        ("a.jsonl", '{"rule": "\\ud800"}', "half a surrogate pair"),
        ("a.jsonl", '{"rule": 1' + "0" * 10_000 + "}", "expected a text, got a number: put it in quotes"),
        ("a.jsonl", '{"rule": ' + "[" * 100_000, "nested too deep"),
        ("a.jsonl", '{"rule": NaN}', "NaN is no value"),
        ("a.jsonl", '{"rule": "x"', "not JSON"),
        ("a.jsonl", '["x"]\n', "a list in JSON"),
        ("a.jsonl", '{"sekret": "x"}', "did you mean 'secret'"),
        ("a.yaml", "- rule: 012\n  secret: 1\n", "put it in quotes"),
        ("a.yaml", "a: &a [x]\nb: &b [*a,*a]\n", "expected a list of rows"),
        ("a.yaml", "- rule: x\n  rule: y\n", "stands on line 1 already"),
        ("a.yaml", "#" * 1_100_000, "larger than 1 MiB"),
        ("a.yaml", "- just text\n", "expected a mapping"),
        ("a.csv", "subject\nkim\n", "a subject needs a connection"),
        ("a.csv", f"rule,secret,subject\njupyterhub.token,{TOKEN},kim\n", "got both"),
        ("a.csv", f"rule,secret,except\njupyterhub.token,{TOKEN},7\n", "this row names none"),
        (
            "a.csv",
            f"rule,secret,reason,connection\njupyterhub.token,{TOKEN},was {TOKEN},hub\n",
            "holds the secret itself",
        ),
        ("a.csv", "rule,secret,connection\njupyterhub.token,env:REVOQ_SEAL_KEYS,hub\n", "revoq's own"),
        ("a.csv", "rule,secret,connection\njupyterhub.token,env:NOT_SET,hub\n", "NOT_SET is not set"),
        ("a.csv", "rule,secret,connection\njupyterhub.token,file:../x,hub\n", "without `..`"),
        ("a.csv", "rule,secret,connection\njupyterhub.token,file:/etc/passwd,hub\n", "leads out of the folder"),
        ("a.csv", "rule,secret,connection\njupyterhub.token,file:none,hub\n", "No such file"),
        ("a.csv", "rule,secret,connection\njupyterhub.token,vault:here,hub\n", "expected vault:mount/path#field"),
    ],
)
def test_every_bad_input_has_its_sentence(home: Home, name: str, text: str | bytes, sentence: str) -> None:
    """What was expected, what was given, what to do; exit code 2, and nothing is committed."""
    said = refusal(home, name, text)

    assert sentence in "\n".join(said)
    assert max(map(len, said)) < 400


def test_what_is_no_file(home: Home) -> None:
    """A missing file, a folder and a pipe are refused before anything is read."""
    assert "No such file" in home.run("offboard", "none.csv").stderr
    assert "is not a file" in home.run("offboard", str(home.folder)).stderr
    assert "is not a file" in home.run("offboard", "/dev/null").stderr


def test_links_do_not_lead_out(home: Home, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link below the folder is followed only where it ends below the folder."""
    outside = tmp_path_factory.mktemp("outside") / "token"
    outside.write_text(TOKEN)
    (home.folder / "link").symlink_to(outside)

    said = refusal(home, "a.csv", "rule,secret,connection\njupyterhub.token,file:link,hub\n")

    assert "leads out of the folder" in said[0]


def test_references(home: Home) -> None:
    """A file below the folder and a variable of the submitter are read, and the files are named afterwards."""
    (home.folder / "tokens").mkdir()
    (home.folder / "tokens" / "kim").write_text(TOKEN + "\n")
    home.environ["LEAVER"] = OTHER
    file = put(home, "a.csv", rows("jupyterhub.token,file:tokens/kim,hub,", "jupyterhub.token,env:LEAVER,hub,"))

    told = home.ask("offboard", file)

    assert told["submitted"] == 2
    assert told["holds_secrets"] == [str(home.folder / "tokens" / "kim")]


def test_the_same_twice_is_one_job(home: Home, jobs: Jobs, db: Database) -> None:
    """A credential that stands twice in the file is one job; one that was open already goes on and counts."""
    there = home.ask("revoke", "--rule", "jupyterhub.token", "--connection", "hub", stdin=TOKEN)["job"]
    file = put(home, "a.csv", rows(*[f"jupyterhub.token,{each},hub," for each in (TOKEN, OTHER, OTHER)]))

    told = home.ask("offboard", file)

    assert (told["submitted"], told["joined"], told["repeated"]) == (1, 1, 1)
    assert home.ask("batches", "show", told["batch"])["jobs"] == 2
    assert reads.job(db, there).batch is None


def test_an_urgent_job_leaves_the_gate(home: Home, db: Database) -> None:
    """Who asks for a credential by itself is not held up by the batch that has it; the batch counts it still."""
    file = put(home, "a.csv", rows(f"jupyterhub.token,{TOKEN},hub,"))
    batch = home.ask("offboard", file)["batch"]
    assert home.run("batches", "pause", batch, "--reason", "wait").exit_code == 0
    (job,) = reads.jobs(db, batch=batch)
    assert moves.claim(db, job.id, lease=60, worker="w") is None

    joined = home.ask("revoke", "--rule", "jupyterhub.token", "--connection", "hub", stdin=TOKEN)

    assert (joined["job"], joined["joined"]) == (job.id, True)
    assert moves.claim(db, job.id, lease=60, worker="w") is not None
    assert home.ask("batches", "show", batch)["jobs"] == 1


def test_pause_resume_cancel(home: Home, db: Database) -> None:
    """A paused batch's jobs cannot be claimed, a resumed one's can; cancelling spares what has changed something."""
    file = put(home, "a.csv", rows(*[f"jupyterhub.token,{token(number)},hub," for number in range(3)]))
    batch = home.ask("offboard", file)["batch"]
    first, second, third = [job.id for job in reads.jobs(db, batch=batch)]
    home.run("batches", "pause", batch, "--reason", "lunch")
    assert moves.claim(db, first, lease=60, worker="w") is None
    assert home.run("batches", "pause", batch, "--reason", "again").exit_code == 2
    assert home.run("batches", "resume", batch[:14]).exit_code == 0
    claim = moves.claim(db, first, lease=60, worker="w")
    assert claim is not None
    moves.intend(db, claim, name="revoke", purpose="act", mutating=True, request={})

    done = home.run("batches", "cancel", batch, "--reason", "wrong file")

    assert "with 2 of its jobs" in done.output
    assert {reads.job(db, job).state.value for job in (second, third)} == {"cancelled"}
    moves.finish(db, claim, Verdict.REVOKED, "proved")
    shown = home.ask("batches", "show", batch)
    assert (shown["state"], shown["by_state"]) == ("cancelled", {"cancelled": 2, "done": 1})
    assert home.run("batches", "resume", batch).exit_code == 2
    assert home.run("audit", "verify").exit_code == 0


def test_retry_by_cause(home: Home, db: Database) -> None:
    """What is parked for one cause is driven again, and nothing else of the batch."""
    file = put(home, "a.csv", rows(*[f"jupyterhub.token,{token(number)},hub," for number in range(3)]))
    batch = home.ask("offboard", file)["batch"]
    for job, reason in zip(reads.jobs(db, batch=batch), (Reason.DENIED, Reason.DENIED, Reason.NOT_OURS), strict=True):
        claim = moves.claim(db, job.id, lease=60, worker="w")
        assert claim is not None
        moves.park(db, claim, reason, "so it came")
    shown = home.ask("batches", "show", batch)
    assert (shown["by_cause"], shown["exit_code"]) == ({"denied": 2, "not_ours": 1}, 3)

    assert "2 of " in home.run("batches", "retry", batch, "--cause", "denied").output

    assert home.ask("batches", "show", batch)["by_state"] == {"queued": 2, "parked": 1}


def test_a_loader_that_died(home: Home, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it staged is not claimed; the batch is told as abandoned, and the same file again goes on with it."""
    lines = [f"jupyterhub.token,{token(number)},hub," for number in range(450)]
    file = put(home, "a.csv", rows(*lines))
    staged: list[int] = []
    stage = batches.stage

    def die_at_the_third(*given: Any) -> Any:
        staged.append(1)
        if len(staged) == 3:
            raise KeyboardInterrupt
        return stage(*given)

    with monkeypatch.context() as dying:
        dying.setattr(batches, "stage", die_at_the_third)
        assert home.run("offboard", file).exit_code == 130
    (left,) = home.ask("batches", "list")
    assert (left["state"], left["abandoned"], left["jobs"]) == ("loading", True, 2 * CHUNK)
    assert moves.claim(db, reads.jobs(db, batch=left["id"])[0].id, lease=60, worker="w") is None
    assert batches.ring_due(db, 500, 60) == []

    done = home.run("offboard", file, "--format", "json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)

    assert told["batch"] == left["id"]
    assert (told["submitted"], told["repeated"]) == (450 - 2 * CHUNK, 2 * CHUNK)
    assert home.ask("batches", "show", left["id"])["jobs"] == 450


def test_a_file_that_changes_meanwhile(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was loaded of it is cancelled behind its gate, and nothing was ever claimable."""
    file = put(home, "a.csv", rows(*[f"jupyterhub.token,{token(number)},hub," for number in range(250)]))
    stage = batches.stage

    def meddle(*given: Any) -> Any:
        with Path(file).open("a") as more:
            more.write(f"jupyterhub.token,{token(999)},hub,\n")
        return stage(*given)

    monkeypatch.setattr(batches, "stage", meddle)
    done = home.run("offboard", file)

    assert done.exit_code == 2
    assert "changed between its check and its loading" in done.stderr
    (batch,) = home.ask("batches", "list")
    assert (batch["state"], set(batch["by_state"])) == ("cancelled", {"cancelled"})


def test_findings(home: Home, db: Database) -> None:
    """Findings are held to what is ours, told where they were found, and listed where nothing here knows them."""
    home.write_config(connections=SENDGRID)
    entries = [
        ("sendgrid-api-token", KEY, "a.env"),
        ("sendgrid-api-token", KEY, "copy of a.env"),
        ("stripe-access-token", "sk_live_" + "x" * 24, "b.env"),
        ("generic-api-key", "Zk3" * 11, "c.env"),
    ]
    report = [
        {"RuleID": rule, "Secret": secret, "Match": secret, "File": file, "StartLine": 3, "Fingerprint": f"{file}:3"}
        for rule, secret, file in entries
    ]

    told = home.ask("offboard", put(home, "leaks.json", json.dumps(report)))

    assert (told["format"], told["submitted"], told["repeated"]) == ("gitleaks", 1, 1)
    assert {each["kind"]: each["count"] for each in told["without_rule"]} == {
        "stripe-access-token": 1,
        "generic-api-key": 1,
    }
    (line,) = reads.jobs(db, batch=told["batch"])
    job = reads.job(db, line.id)
    assert (job.connection, job.options["finding"]) == ("sg", True)
    assert job.cause == "found by gitleaks in a.env, line 3"


@pytest.mark.parametrize("secret", ["REDACTED", "SG.aaa..."])
def test_redacted_findings(home: Home, secret: str) -> None:
    """A report that hides its secrets is of no use, and says so with the finding's number."""
    report = [{"RuleID": "sendgrid-api-token", "Secret": secret, "Match": secret, "File": "a", "StartLine": 1}]

    said = refusal(home, "leaks.json", json.dumps(report, indent=1))

    assert ":finding 1: the report hides the secret" in said[0]


def test_wait_is_quiet_in_a_pipe(home: Home) -> None:
    """The time runs out without workers: exit code 6, JSON on one side, and one word why on the other."""
    file = put(home, "a.csv", rows(f"jupyterhub.token,{TOKEN},hub,"))

    done = home.shell("offboard", file, "--wait", "--timeout", "1s", "--format", "json")

    assert done.returncode == 6, done.stderr
    assert json.loads(done.stdout)["by_state"] == {"queued": 1}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "expected one of FILE, --subject and --approve, got none"),
        (("--subject", "bob", "--approve", "f" * 64), "got --subject and --approve"),
        (("--subject", "bob", "--strict"), "say its hash with --approve"),
        (("--approve", "f" * 64, "--dry-run"), "it goes with neither --wait nor --approve"),
        (("--subject", "bob", "--owned", "rotate"), "--owned rotate needs a --sink"),
        (("--subject", "bob"), "a subject needs a connection"),
        (("--subject", "bob", "--connection", "hubb"), "no connection is called 'hubb'"),
        (("--approve", "f" * 64), "there is no plan"),
        (("--approve", "f"), "there is no plan"),
    ],
)
def test_what_goes_together(home: Home, words: tuple[str, ...], sentence: str) -> None:
    """Each wrong use has its sentence, and nothing is committed."""
    done = home.run("offboard", *words)

    assert done.exit_code == 2
    assert sentence in done.stderr.replace("\n", " ")
    assert home.ask("batches", "list") == []


def test_a_protected_subject(home: Home) -> None:
    """Whom the settings protect is no leaver, and nobody is asked."""
    protected = {"hub": {**HUB["hub"], "protected": {"subjects": ["ops-*"]}}}
    home.write_config(connections=protected)

    done = home.run("offboard", "--connection", "hub", "--subject", "ops-bot")

    assert done.exit_code == 2
    assert "'ops-bot' is protected by 'ops-*' in the settings of hub" in done.stderr


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"approval": {"above": 1}}, "2 credentials, and the settings ask for approval above 1"),
        ({"batch_limits": {"most": 1}}, "2 credentials of hub: the settings allow 1 in a batch"),
    ],
)
def test_too_many_without_a_plan(home: Home, settings: dict[str, Any], sentence: str) -> None:
    """Where the settings ask for approval, or call it too many, nothing is committed without it."""
    home.write_config(**settings)
    file = put(home, "a.csv", rows(f"jupyterhub.token,{token(1)},hub,", f"jupyterhub.token,{token(2)},hub,"))

    done = home.run("offboard", file)

    assert done.exit_code == 2
    assert sentence in done.stderr
    assert home.ask("batches", "list") == []
    overridden = home.run("offboard", file, "--override-limit")
    assert overridden.exit_code == (2 if "approval" in settings else 0)


def test_by_another_needs_signers(home: Home) -> None:
    """Whether it is another cannot be told without a signature."""
    home.write_config(approval={"above": 1, "by_another": True})

    assert "say allowed_signers as well" in home.run("doctor").output.replace("\n", " ")
