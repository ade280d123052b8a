"""The parts of the READMEs that are made from the code; `python -m tests.readme` writes them, a test compares them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from rules.lifecycle import MOVES, REASONS, State
from rules.loader import LoadedRule, builtin, load
from rules.model import UNITS
from rules.notice import SEVERITIES
from worker.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "rules" / "README.md", ROOT / "scheduler" / "README.md")

ABOUT = {
    "data_dir": "where the embedded database, broker and keys are",
    "database_url": "SQLite in `data_dir`, or `postgresql+psycopg://…`",
    "broker_url": "the broker of `revoq up`, or `redis://…`",
    "seal_keys": "the key ring; the file `keys` in `data_dir` where it is not given",
    "audit_keys": "the key that signs the audit trail, for the clock; the file `audit_keys` in `data_dir`",
    "audit_heads": "a file of delivered heads, to notice a restored ledger by; file sinks are read anyway",
    "rules_path": "more folders of rules",
    "trust_single_row": "rules that may act on a single row that nothing ties to the credential",
    "commands_allowed": "programs, by their absolute paths, that `command` steps may run; none unless it is said",
    "claim": "how long a worker holds a job without a sign of life",
    "request_timeout": "for one step, signing in included",
    "retry_for": "how long something is tried before a person is asked",
    "shred_after": "when a sealed secret is destroyed, parked or not",
    "recheck": "after which times a dead credential is looked at again; `[]` for never. By default 1h, 25h and 7d",
    "again_per_credential": "how often within a day one lapsed revocation is repeated without asking",
    "again_per_connection": "and how many of a connection's",
    "incident_share": "the part of every provider's limit that is kept for incidents",
    "ring_after": "how soon a bell that was lost rings again",
    "sweep_every": "how often the ledger is looked at for what is due",
    "urgent_threads": "jobs at once in the worker of incidents",
    "bulk_threads": "jobs at once in the other workers",
    "flower_address": "where Flower listens, under `revoq up`",
    "flower_port": "and on which port",
    "metrics_address": "where `revoq metrics` listens for Prometheus",
    "metrics_port": "and on which port",
    "log_format": "`json`, `console`, or `auto` by the terminal",
    "log_level": "`debug`, `info`, `warning` or `error`",
    "body_limit": "bytes of an answer that are read at most",
    "connections": "provider accounts, by name; only in `revoq.yaml`",
    "sinks": "places where new secrets go, by name; only in `revoq.yaml`",
    "audit_sinks": "where signed heads of the audit trail go, by name; only in `revoq.yaml`",
    "schedules": "what is done when and to whom, by name; only in `revoq.yaml`",
    "approval": "when a plan needs it (`above`), `by_another`, and whose SSH keys count (`allowed_signers`)",
    "batch_limits": "`most` credentials, or `most_percent` of a connection's, in a batch; `failures` in a row pause it",
    "notices": "who is told of what; only in `revoq.yaml`",
}


def render(text: str) -> str:
    """A page with every generated part that it has as the code has it now."""
    text = replace_table(text, "| reason | means | what to do |", reasons())
    text = replace_table(text, "| provider | rule | identified by | aliases |", providers())
    text = replace_table(text, "| setting | default | |", settings())
    text = replace_table(text, "| event | severity |", events())
    return replace_diagram(text)


def replace_table(text: str, header: str, rows: Iterable[str]) -> str:
    """Put rows under a table's header, where the page has it."""
    before, found, after = text.partition(header)
    if not found:
        return text
    rest = re.sub(r"\A\n\|[-|]+\|\n(?:[|<].*\n)*", "", after)
    line = "|" + "---|" * (header.count("|") - 1)
    return f"{before}{header}\n{line}\n" + "".join(f"{row}\n" for row in rows) + rest


def replace_diagram(text: str) -> str:
    """Put the lifecycle's moves into the picture."""
    moves = [f"    {before} --> {after}: {says}\n" for (before, after), says in MOVES.items()]
    picture = "stateDiagram-v2\n    [*] --> " + State.QUEUED + ": submitted\n" + "".join(moves)
    return re.sub(r"stateDiagram-v2\n(?:    .*\n)*", lambda _: picture, text, count=1)


def reasons() -> list[str]:
    """Why a job is parked, and what to do about it."""
    return [f"| `{reason}` | {told.says} | {told.advice} |" for reason, told in REASONS.items()]


def events() -> list[str]:
    """What can be told without being asked."""
    return [f"| `{event}` | {severity} |" for event, severity in SEVERITIES.items()]


def title_of(loaded: LoadedRule) -> str:
    """What a rule's provider is called."""
    return loaded.rule.provider if loaded.provider is None else loaded.provider.title


def providers() -> list[str]:
    """The rules that revoq brings along."""
    rows = []
    for loaded in load([builtin()]):
        rule = loaded.rule
        aliases = ", ".join(f"`{alias}`" for alias in rule.aliases)
        rows.append(f"| {title_of(loaded)} | `{rule.id}` | {identified_by(rule.id)} | {aliases} |")
    return rows


IDENTIFIED = {
    "aws.access_key": "the key's id, and whose it is",
    "aws.service_key": "the key's id, and whose it is",
    "keep.secret": "its name",
    "jupyterhub.service_token": "its id in its user's list",
    "sendgrid.service_key": "its id",
    "tailscale.auth_key": "its id",
    "cloudflare.service_token": "its id, which the roll keeps",
    "cloudflare.account_service_token": "its id, which the roll keeps",
    "gitlab.service_token": "the one active token of its name",
    "gitlab.project_service_token": "the one active token of its name in its project",
    "gitlab.group_service_token": "the one active token of its name in its group",
    "jupyterhub.token": "what the hub says that the token is",
    "jupyterhub.listed_token": "its user and its id",
    "pangolin.token": "itself, or the row of its id in its user's list",
    "pangolin.listed_token": "its id",
    "pangolin.service_user": "its id, once the name and the tenant that the id has are the right ones",
    "pangolin.service_user_key": "its id, once the name and the tenant that the id has are the right ones",
    "npm.token": "the one row with its first eight and last four characters that is not revoked",
    "npm.token_cli": "the key inside the token, and the one row of npm's list that has it",
    "verdaccio.token": "the key inside the token, and the one row that has it",
    "sumologic.access_key": "its access id, which signs with it and names its row",
    "vercel.app_token": "itself, once introspection says that it is our app's",
    "vercel.token": "what the provider says that the token is",
    "twilio.api_key": "its SID, which is handed in",
    "mongodb_atlas.api_key": "the one row with its public key and the end of its private key",
    "cloudflare.account_token": "what the account says that the token is",
    "cloudflare.api_token": "what Cloudflare says that the token is",
    "github.app_token": "what GitHub tells its app of it",
    "github.installation_token": "itself",
    "github.token": "itself",
    "gitlab.group_access_token": "the row of the id that it tells, in its group",
    "gitlab.listed_token": "its id, once it is its user's",
    "gitlab.personal_access_token": "what GitLab says that the token is",
    "gitlab.project_access_token": "the row of the id that it tells, in its project",
    "oauth.token": "introspection, by the client that it was issued to",
    "okta.api_token": "itself",
    "okta.listed_api_token": "its id",
    "okta.user": "the user's id",
    "okta.user_sessions": "the user's id",
    "okta.user_suspension": "the user's id",
    "slack.token": "what Slack says that the token is",
    "vault.lease": "its id",
    "vault.token": "what Vault says that the token is",
    "vault.token_accessor": "its accessor",
    "sendgrid.api_key": "the id inside the key",
    "tailscale.api_key": "the id inside the key",
}


def identified_by(rule: str) -> str:
    """How the exact credential is singled out, in a few words."""
    return IDENTIFIED[rule]


def duration(seconds: float) -> str:
    """As a person would write it in the settings: in the largest unit that leaves nothing over."""
    unit, length = next((unit, length) for unit, length in reversed(UNITS.items()) if seconds % length == 0)
    return f"{seconds / length:g}{unit}"


def settings() -> list[str]:
    """Every setting with its default."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default if field.default_factory is None else ""
        shown = (
            duration(default)
            if isinstance(default, float) and default.is_integer()
            else ""
            if default in {"", None}
            else str(default)
        )
        shown = f"`{shown}`" if shown else ""
        rows.append(f"| `{name}` | {shown} | {ABOUT[name]} |")
    return rows


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page.read_text()))
