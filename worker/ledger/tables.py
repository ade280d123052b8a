"""The tables of the ledger; how rows are moved is `moves`', how they are read is `reads`'.

Times are UTC, in microseconds since 1970, from the database's clock on PostgreSQL. Ids are texts that sort by time.
No column of any table but `secrets.ciphertext` ever holds something that was secret.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from rules.lifecycle import OPEN

Json = JSON(none_as_null=True)
"""None is NULL, not the JSON text "null"."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

credentials = Table(
    "credentials",
    metadata,
    Column("id", String(40), primary_key=True),
    # HMAC of the secret, or of the names that single it out where no secret was handed in.
    Column("fingerprint", String(64), nullable=False),
    Column("fingerprint_key", String(32), nullable=False),
    Column("rule", String(120), nullable=False),
    Column("connection", String(120), nullable=False),  # "" where the rule needs none
    Column("provider_id", Text),  # the provider's own id for it, once it is known
    Column("subject", Text),  # whose it is, once that is known
    Column("expires_at", BigInteger),
    Column("first_seen", BigInteger, nullable=False),
    Column("alive_at", BigInteger),  # the last probe that said alive: evidence that this account knew it
    Column("alive_where", Text),  # and the base URLs that it was asked at: another region's word is no evidence here
    Column("dead_at", BigInteger),  # the last probe that said dead
    # A key of a rotated target: rules.lifecycle.Stage, since when, and the row of the target itself.
    Column("stage", String(16)),
    Column("staged_at", BigInteger),
    Column("target", String(40)),
    UniqueConstraint("fingerprint", "rule", "connection"),
    Index("ix_credentials_provider_id", "connection", "provider_id"),
    Index("ix_credentials_target", "target"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("parent", String(40)),
    Column("batch", String(40)),
    Column("credential", ForeignKey("credentials.id"), nullable=False),
    Column("intent", String(16), nullable=False),
    Column("rule", String(120), nullable=False),
    Column("rule_digest", String(64), nullable=False),
    Column("connection", String(120), nullable=False),
    Column("plan", Json, nullable=False),  # the frozen plan, as `rules.plan.Plan.as_json` writes it
    Column("plan_hash", String(64), nullable=False),
    Column("inputs", Json, nullable=False),  # the names that were given and are not secret
    Column("options", Json, nullable=False),  # what the requester chose: {"probe": false, "picked": "…"}
    Column("account", String(400), nullable=False),  # whose budget it spends: a connection, or RULE@HOST
    Column("cost", Integer, nullable=False),  # how many requests its plan will send, as far as that can be told
    Column("queue", String(32), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("verdict", String(24)),
    Column("reason", String(24)),  # why it is parked, or what it waits for
    Column("says", Text),  # one sentence for a person: what came, and where
    Column("candidates", Json),  # for needs_selection: [{"id": …, "shown": {…}}]
    Column("drive", Integer, nullable=False),  # grows each time a person sets it going again
    Column("acted", Boolean, nullable=False),  # a mutating request has been intended: no longer cancellable
    Column("fence", Integer, nullable=False),  # grows with each claim; every later write repeats it
    Column("lease_until", BigInteger),
    Column("not_before", BigInteger, nullable=False),  # due when it has passed
    Column("attempt", Integer, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("rung_at", BigInteger),
    Column("rings", Integer, nullable=False),
    Column("ended_at", BigInteger),
    Column("ticket", Text),
    Column("owner", Text),
    Column("requester", Text, nullable=False),
    Column("cause", Text),  # --reason: why it was asked for
    Column("audit_number", Integer, nullable=False),  # the head of this job's chain
    Column("audit_hash", String(64), nullable=False),
    Index("ix_jobs_due", "state", "not_before"),
    Index("ix_jobs_lease", "state", "lease_until"),
    Index("ix_jobs_batch", "batch", "state", "not_before"),
    Index("ix_jobs_credential", "credential"),
    Index("ix_jobs_ended_at", "ended_at"),
)
Index(
    "uq_jobs_open",
    jobs.c.credential,
    jobs.c.connection,
    jobs.c.intent,
    unique=True,
    sqlite_where=jobs.c.state.in_(sorted(OPEN)),
    postgresql_where=jobs.c.state.in_(sorted(OPEN)),
)

# What stands open is counted from this index alone.
Index(
    "ix_jobs_standing",
    jobs.c.state,
    jobs.c.rule,
    jobs.c.intent,
    jobs.c.reason,
    sqlite_where=jobs.c.state.in_(sorted(OPEN)),
    postgresql_where=jobs.c.state.in_(sorted(OPEN)),
)

secrets = Table(
    "secrets",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("credential", ForeignKey("credentials.id")),
    Column("job", ForeignKey("jobs.id")),
    Column("plan", ForeignKey("plans.id")),
    Column(
        "kind", String(160), nullable=False
    ),  # "token", "variable:NAME", "extracted:NAME", "orders:NUMBER" of a plan
    Column("fingerprint", String(64), nullable=False),
    Column("fingerprint_key", String(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("algorithm", String(16), nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("nonce", LargeBinary),
    Column("ciphertext", LargeBinary),  # null once it is shredded
    Column("created_at", BigInteger, nullable=False),
    Column("shred_by", BigInteger, nullable=False),
    Column("shredded_at", BigInteger),
    Index("ix_secrets_job", "job"),
    Index("ix_secrets_plan", "plan"),
    Index("ix_secrets_fingerprint", "fingerprint"),
    Index("ix_secrets_shred_by", "shredded_at", "shred_by"),
)

steps = Table(
    "steps",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("drive", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("name", String(120), nullable=False),
    Column("purpose", String(16), nullable=False),  # rules.plan.Purpose
    Column("mutating", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", String(16)),
    Column("says", Text),
    Column("request", Json, nullable=False),  # {"method", "url"}: secrets masked
    Column("taken", Json),  # names and values that were taken out and are not secret
    Column("evidence", Json),  # status, matchers, date, request id, allow-listed fields, keyed digest; never a body
    Column("retry_after", BigInteger),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Index("ix_steps_ended_at", "ended_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("job", String(40), primary_key=True),  # a job's id, or the name of a chain that belongs to no job: "revoq"
    Column("number", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("row", LargeBinary, nullable=False),  # canonical JSON, exactly as hashed
    Column("hash", String(64), nullable=False),  # SHA-256(previous hash + row)
    Index("ix_audit_at", "at"),
)

seals = Table(
    "seals",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("job", String(40), nullable=False),
    Column("audit_number", Integer, nullable=False),
    Column("hash", String(64), nullable=False),  # of the audit row
    Column("head", String(64), nullable=False),  # SHA-256(previous head + job + number + hash)
    Column("sealed_at", BigInteger, nullable=False),
    UniqueConstraint("job", "audit_number"),
)

heads = Table(
    "heads",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("statement", LargeBinary, nullable=False),  # canonical JSON, exactly as signed
    Column("signature", String(128), nullable=False),  # Ed25519, in hexadecimal
)

seams = Table(
    "seams",
    metadata,
    # Seals `first` to `last` whose audit rows left with an archive: the triggers let go of no others.
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("head", ForeignKey("heads.number"), nullable=False),  # the statement that tells it
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("sink", String(120), primary_key=True),
    Column("number", BigInteger, nullable=False),  # the last head that it took; 0 for none
    Column("delivered_at", BigInteger),
    Column("failed_at", BigInteger),  # null where the last try went well
    Column("says", Text),
)

accounts = Table(
    "accounts",
    metadata,
    Column("connection", String(400), primary_key=True),  # or RULE@HOST where there is none; "*" holds everything
    Column("held_at", BigInteger),
    Column("held_by", Text),
    Column("held_why", Text),
    Column("retry_at", BigInteger),  # the provider's own Retry-After: no request before it
    Column("tokens", BigInteger),  # what is left of the budget, in thousandths of a request
    Column("refilled_at", BigInteger),
    Column("failures", Integer, nullable=False, server_default=text("0")),  # in a row: what a breaker counts
    Column("broken_until", BigInteger),  # nothing begins before it; after it one job tries, until one has succeeded
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("state", String(16), nullable=False),  # rules.lifecycle.BatchState: gates the claims of its jobs
    Column("name", Text, nullable=False),
    Column("requester", Text, nullable=False),
    Column("plan", String(40)),
    Column("source", String(64)),  # digest of the file and of how it was read: who loads it again goes on here
    Column("beat_at", BigInteger),  # while it is loading: its loader's last sign of life
    Column("created_at", BigInteger, nullable=False),
    Column("opened_at", BigInteger),
    Column("watched_from", BigInteger),  # failures are counted from here: its opening, or the last time it was resumed
    Column("says", Text),  # why it is paused
    Column("ended_at", BigInteger),
)

leavers = Table(
    "leavers",
    metadata,
    # A subject of a batch at one connection: everything of theirs is listed and ended, round after round.
    Column("batch", ForeignKey("batches.id"), primary_key=True),
    Column("connection", String(120), primary_key=True),
    Column("subject", String(400), primary_key=True),
    Column("terms", Json, nullable=False),  # what was asked for: spared ids, reason, what becomes of owned machines
    Column("turn", String(16), nullable=False),  # rules.leaving.Turn
    Column("round", Integer, nullable=False),  # lists of this turn that showed something new
    Column("known", Json, nullable=False),  # what was listed and is dealt with: [{"rule", "id", "fingerprint"}]
    Column("unplanned", Json, nullable=False),  # what was listed and is not in the plan: it needs another approval
    Column("owned", Json, nullable=False),  # machines of theirs: [{"rule", "id", "name", "becomes"}]
    Column("residual", Json, nullable=False),  # what lives on: [{"rule", "says", "until"}]
    Column("says", Json, nullable=False),  # what could not be told or done, in sentences
    Column("look_at", BigInteger, nullable=False),  # nobody lists before; who does, puts it off first
    Column("ended_at", BigInteger),
    Index("ix_leavers_look_at", "ended_at", "look_at"),
)

joined = Table(
    "joined",
    metadata,
    # Jobs that a batch counts and does not gate: they were open before it, or were asked for more urgently since.
    Column("batch", ForeignKey("batches.id"), primary_key=True),
    Column("job", ForeignKey("jobs.id"), primary_key=True),
)

plans = Table(
    "plans",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("content", Json, nullable=False),
    Column("requester", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("shred_by", BigInteger, nullable=False),  # its sealed orders are destroyed, and it cannot be applied
    Column("batch", String(40)),  # what it became: a plan is applied once
)

approvals = Table(
    "approvals",
    metadata,
    Column("plan", ForeignKey("plans.id"), primary_key=True),
    Column("approver", String(200), primary_key=True),
    Column("signature", Text),  # none: nobody proved that it was this approver
    Column("approved_at", BigInteger, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", String(120), primary_key=True),
    Column("digest", String(64), nullable=False),  # of its calendar: slots of another one are none of this one's
    Column("until", BigInteger, nullable=False),  # every slot that was due by then is opened or missed
)

slots = Table(
    "slots",
    metadata,
    Column("schedule", String(120), primary_key=True),
    Column("due", BigInteger, primary_key=True),
    Column("closes", BigInteger, nullable=False),  # it begins until then, or never
    Column("state", String(16), nullable=False),
    Column("intent", String(16), nullable=False),
    Column("rule", String(120), nullable=False),
    Column("connection", String(120), nullable=False),
    Column("requester", Text, nullable=False),
    Column("look_at", BigInteger, nullable=False),  # nobody lists its targets before; who does, puts it off first
    Column("says", Text),
    Column("opened_at", BigInteger, nullable=False),
    Column("listed_at", BigInteger),
    Column("ended_at", BigInteger),
    Index("ix_slots_state", "state", "schedule"),
)

slot_targets = Table(
    "slot_targets",
    metadata,
    Column("schedule", String(120), primary_key=True),
    Column("due", BigInteger, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("number", Integer, nullable=False),  # the order in which they are begun
    Column("id", Text, nullable=False),  # the provider's own
    Column("subject", Text),
    Column("name", Text, nullable=False),
    Column("variables", Json, nullable=False),  # those of the rule that the row fills in
    Column("role", Text),
    Column("canary", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("born", BigInteger),  # made, or last rotated
    Column("used", BigInteger),
    Column("not_before", BigInteger, nullable=False),
    Column("job", String(40)),
    Column("says", Text),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    ForeignKeyConstraint(["schedule", "due"], ["slots.schedule", "slots.due"]),
    Index("ix_slot_targets_state", "schedule", "state"),
)

rechecks = Table(
    "rechecks",
    metadata,
    Column("credential", ForeignKey("credentials.id"), primary_key=True),
    Column("number", Integer, primary_key=True),  # over all series of the credential
    Column("kind", String(16), nullable=False),  # rules.recheck.Kind
    Column("after", String(40), nullable=False),  # the job whose end is watched
    Column("due", BigInteger, nullable=False),
    Column("lapsed_at", BigInteger),  # when the provider has forgotten what that job did, where it does
    Column("incident", String(40)),  # for a repetition: the job that found it alive
    Column("job", String(40)),  # the job that was started for it
    Column("opened_at", BigInteger),
    Column("found", String(16)),  # rules.recheck.Found
    Column("ended_at", BigInteger),
    Index("ix_rechecks_due", "ended_at", "job", "due"),
    Index("ix_rechecks_job", "job"),
    Index("ix_rechecks_after", "after"),
)

notices = Table(
    "notices",
    metadata,
    # What somebody may want to be told, written with the move that it tells of; ids and names, never a secret.
    Column("key", String(600), primary_key=True),  # what makes it the same thing again
    Column("event", String(24), nullable=False),  # rules.notice.Event
    Column("about", String(160), nullable=False),  # a batch's id, or "schedule NAME": told together; "" for by itself
    Column("facts", Json, nullable=False),  # {"job": …, "rule": …}
    Column("says", Text),
    Column("at", BigInteger, nullable=False),
    Column("composed_at", BigInteger),  # it is in a message for everybody who wants it
    Index("ix_notices_composed_at", "composed_at", "about"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("receiver", Text, nullable=False),  # the reference to the address, as the settings say it
    Column("severity", String(16), nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("not_before", BigInteger, nullable=False),  # whoever sends it puts it off first
    Column("sent_at", BigInteger),
    Column("given_up_at", BigInteger),
    Index("ix_messages_due", "sent_at", "given_up_at", "not_before"),
)

counters = Table(
    "counters",
    metadata,
    # What leaves no row of its own and happens seldom; what happens often would make its writers wait for each other.
    Column("name", String(40), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
