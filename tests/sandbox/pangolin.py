"""Pretends to be the catalog server Pangolin 0.8, and is not it: after its source (AlexMercedCoder/Pangolin,
pangolin/pangolin_api/src: auth_middleware.rs, token_handlers.rs, user_handlers.rs, service_user_handlers.rs,
iceberg/oauth.rs, permission_handlers.rs; pangolin_store: the migrations and the stores), in which its traps were read.

Every trap is a switch here, on as it is there. Where the 0.8 source was not at hand, words and field names are those of
the published one: plain text for users and tokens, `{"error"}` for service users, `service_user_id` beside `id`.
"""

from dataclasses import dataclass, field
from random import sample
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid4

from tests.sandbox.clock import Clock, write_time
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json, say_text
from tests.sandbox.jwt import read_token, sign_token
from tests.sandbox.provider import Provider, draw

T = TypeVar("T")

HOUR = 3600.0
DAY = 24 * HOUR
MOST_HOURS = 8760
ADMINS = frozenset({"root", "tenant-admin"})
ROLES = ADMINS | {"tenant-user"}
NO_TENANT = "00000000-0000-0000-0000-000000000000"
TAKEN = "error returned from database: duplicate key value violates unique constraint"
MESSAGES = {
    401: "Invalid token",
    403: "Admin access required",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal server error",
    503: "Unable to verify token status",
}
THROTTLED = {
    "error": {
        "message": "too many authentication attempts; try again later",
        "type": "TooManyRequests",
        "code": 429,
    }
}


@dataclass
class User:
    """A person, or root, who has no tenant."""

    id: str
    username: str
    password: str
    tenant: str | None
    role: str
    active: bool = True


@dataclass
class Token:
    """One JWT. `listed`: made by `POST /api/v1/tokens`; those of log-in and OAuth are not in any list."""

    id: str
    secret: str
    user_id: str
    username: str
    tenant: str | None
    role: str
    created: float
    expires: float
    listed: bool


@dataclass
class ServiceUser:
    """A machine with one key. `jammed`: that is never rotated, as if this one alone were kept in SQL."""

    id: str
    name: str
    description: str | None
    tenant: str
    role: str
    key: str
    created: float
    expires: float | None
    active: bool = True
    last_used: float | None = None
    created_by: str | None = None
    jammed: bool = False

    def row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "tenant_id": self.tenant,
            "role": self.role,
            "active": self.active,
            "created_at": write_time(self.created),
            "expires_at": None if self.expires is None else write_time(self.expires),
            "last_used": None if self.last_used is None else write_time(self.last_used),
            "created_by": self.created_by or NO_TENANT,
        }


@dataclass
class Role:
    """What several may do, by its id; each grant is a scope with its actions."""

    id: str
    name: str
    tenant: str
    grants: list[dict[str, Any]]
    created: float
    created_by: str

    def row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "description": None,
            "tenant-id": self.tenant,
            "permissions": self.grants,
            "created-by": self.created_by,
            "created-at": write_time(self.created),
            "updated-at": write_time(self.created),
        }


@dataclass
class Switches:
    """The traps, set as the real server has them. None means: as the store does it."""

    store: Literal["memory", "postgres"] = "memory"
    lapses: bool = True  # a revocation by id is forgotten after a day
    any_id_is_ok: bool = True  # an id that nobody knows is revoked with 200, too
    second_revoke_fails: bool | None = None  # on PostgreSQL: 500 while the first one's row is there
    status_unknown: bool = False  # the blacklist cannot be read: 503 to every token
    list_shows_secret: bool = True  # the raw JWT is in the list
    root_sees_nothing: bool = True  # a root identity's list of tokens is empty
    logins_listed: bool = False  # log-in and OAuth tokens are in no list
    rotate_fails: bool | None = None  # on PostgreSQL: 500 for ever, and the old key lives
    legacy_keys: bool = False  # keys without a key id, which all are, work as X-API-Key
    tenant_checked: bool = False  # another tenant's service user can be read and rotated
    refuses_unknown_fields: bool = True  # a JSON body with a field too many: 422

    @property
    def postgres(self) -> bool:
        return self.store == "postgres"


@dataclass
class Blacklist:
    """Token id → when its row runs out; rows that have run out go with the hourly clean-up."""

    rows: dict[str, float] = field(default_factory=dict)
    cleaned: float = 0.0

    def clean(self, now: float) -> int:
        gone = [identifier for identifier, until in self.rows.items() if until <= now]
        for identifier in gone:
            del self.rows[identifier]
        return len(gone)

    def clean_hourly(self, now: float) -> None:
        hour = now // HOUR * HOUR
        if hour > self.cleaned:
            self.clean(hour)
            self.cleaned = hour

    def holds(self, identifier: str, now: float) -> bool:
        return self.rows.get(identifier, 0.0) > now


class Pangolin(Provider):
    """One server with its tenants."""

    name = "pangolin"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.signing_key = draw(48).encode()
        self.users: dict[str, User] = {}
        self.tokens: dict[str, Token] = {}
        self.service_users: dict[str, ServiceUser] = {}
        self.roles: dict[str, Role] = {}
        self.assigned: dict[tuple[str, str], None] = {}  # whom, which role; a service user is no user, and may be one
        self.permissions: list[dict[str, Any]] = []
        self.blacklist = Blacklist(cleaned=clock.now())
        self.rejected_api_keys = 0  # events that a refused X-API-Key writes there
        self.tenant = str(uuid4())
        self.seeds = {
            "user": self.add_user,
            "token": self.add_token,
            "login": self.add_login,
            "service_user": self.add_service_user,
            "role": self.add_role,
            "permission": self.add_permission,
        }
        self.route("POST", "/api/v1/users/login", self.log_in)
        self.route("GET", "/api/v1/users/me", self.read_self)
        self.route("GET", "/api/v1/users/me/tokens", self.list_own_tokens)
        self.route("GET", "/api/v1/users/{user}/tokens", self.list_tokens)
        self.route("POST", "/api/v1/auth/revoke", self.revoke_self)
        self.route("POST", "/api/v1/auth/revoke/{id}", self.revoke_by_id)
        self.route("POST", "/api/v1/auth/tokens/cleanup", self.clean_up)
        self.route("POST", "/api/v1/tokens", self.mint_token)
        self.route("POST", "/api/v1/tokens/rotate", self.rotate_token)
        self.route("DELETE", "/api/v1/tokens/{id}", self.delete_token)
        self.route("POST", "/api/v1/service-users", self.create_service_user)
        self.route("GET", "/api/v1/service-users", self.list_service_users)
        self.route("GET", "/api/v1/service-users/{id}", self.read_service_user)
        self.route("PUT", "/api/v1/service-users/{id}", self.change_service_user)
        self.route("DELETE", "/api/v1/service-users/{id}", self.delete_service_user)
        self.route("POST", "/api/v1/service-users/{id}/rotate", self.rotate_key)
        self.route("POST", "/v1/{prefix}/v1/oauth/tokens", self.trade_key)
        self.route("GET", "/api/v1/users/{user}/roles", self.list_roles)
        self.route("POST", "/api/v1/users/{user}/roles", self.assign_role)
        self.route("GET", "/api/v1/permissions", self.list_permissions)
        self.route("POST", "/api/v1/permissions", self.grant_permission)

    # ── seeds ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def add_user(
        self, username: str = "dana", role: str = "tenant-user", password: str = "", tenant: str | None = None
    ) -> User:
        """A person; without a tenant, one of the first tenant's (root has none)."""
        home = None if role == "root" else tenant or self.tenant
        user = User(str(uuid4()), username, password or draw(20), home, role)
        with self.lock:
            self.users[user.id] = user
        return user

    def add_token(self, user_id: str, hours: float = 24.0, *, listed: bool = True) -> Token:
        """A token as `POST /api/v1/tokens` makes them."""
        user = self.users[user_id]
        return self.sign(user.id, user.username, user.tenant, user.role, hours * HOUR, listed=listed)

    def add_login(self, user_id: str) -> Token:
        """A token as a log-in makes them: a day long, and in no list."""
        return self.add_token(user_id, listed=False)

    def add_service_user(
        self,
        name: str = "etl",
        role: str = "tenant-user",
        description: str | None = None,
        tenant: str | None = None,
        expires_in_days: int | None = None,
        created_by: str | None = None,
        *,
        jammed: bool = False,
    ) -> ServiceUser:
        """A service user with its key, which the API would show once."""
        now = self.clock.now()
        expires = None if expires_in_days is None else now + expires_in_days * DAY
        key = make_key()
        service_user = ServiceUser(str(uuid4()), name, description, tenant or self.tenant, role, key, now, expires)
        service_user.created_by, service_user.jammed = created_by, jammed
        with self.lock:
            self.service_users[service_user.id] = service_user
        return service_user

    def add_role(self, name: str, *grants: dict[str, Any], to: str = "") -> Role:
        """A role of the first tenant, with what it allows; `to` is who has it."""
        role = Role(str(uuid4()), name, self.tenant, list(grants), self.clock.now(), str(uuid4()))
        with self.lock:
            self.roles[role.id] = role
            if to:
                self.assigned[to, role.id] = None
        return role

    def add_permission(self, user_id: str, scope: dict[str, Any], *actions: str, by: str = NO_TENANT) -> dict[str, Any]:
        """One permission, as it is listed."""
        at = write_time(self.clock.now())
        row = {
            "id": str(uuid4()),
            "user-id": user_id,
            "scope": scope,
            "actions": list(actions),
            "granted-by": by,
            "granted-at": at,
        }
        with self.lock:
            self.permissions.append(row)
        return row

    def may(self, user_id: str) -> tuple[set[str], list[tuple[str, str]]]:
        """The roles that somebody has, and the permissions that are somebody's own."""
        own = [(str(row["scope"]), ",".join(sorted(row["actions"]))) for row in self.own_permissions(user_id)]
        return {role for user, role in self.assigned if user == user_id}, sorted(own)

    def sign(
        self, user_id: str, username: str, tenant: str | None, role: str, lifetime: float, *, listed: bool
    ) -> Token:
        now = self.clock.now()
        identifier, expires = str(uuid4()), now + lifetime
        claims = {
            "sub": user_id,
            "jti": identifier,
            "username": username,
            "tenant_id": tenant,
            "role": role,
            "exp": int(expires),
            "iat": int(now),
        }
        secret = sign_token(claims, self.signing_key)
        token = Token(identifier, secret, user_id, username, tenant, role, now, float(int(expires)), listed)
        with self.lock:
            self.tokens[identifier] = token
        return token

    # ── what is true ──────────────────────────────────────────────────────────────────────────────────────────────

    def is_revoked(self, identifier: str) -> bool:
        now = self.clock.now()
        self.blacklist.clean_hourly(now)
        return self.blacklist.holds(identifier, now)

    def is_alive(self, token: Token) -> bool:
        return token.expires > self.clock.now() and not self.is_revoked(token.id)

    def state(self) -> dict[str, bool]:
        with self.lock:
            tokens = {token.id: self.is_alive(token) for token in self.tokens.values()}
            return tokens | {each.id: self.may_sign_in(each) for each in self.service_users.values()}

    def works(self, secret: str) -> bool:
        with self.lock:
            return any(each.key == secret and self.may_sign_in(each) for each in self.service_users.values())

    def may_sign_in(self, service_user: ServiceUser) -> bool:
        return service_user.active and (service_user.expires is None or service_user.expires > self.clock.now())

    # ── who calls ─────────────────────────────────────────────────────────────────────────────────────────────────

    def complain(self, status: int) -> Reply:
        if status == 429:
            return say_json(429, THROTTLED, {"Retry-After": "60"})
        return say_text(status, MESSAGES.get(status, "Error"))

    def actor(self, call: Call) -> str:
        try:
            return self.find_session(call).id
        except RefusedError:
            return ""

    def find_session(self, call: Call) -> Token:
        """Who signs the call: a JWT, or a service user's key where the server takes such keys."""
        if "x-api-key" in call.headers:
            return self.open_by_key(call.headers["x-api-key"])
        given = call.authorization("bearer")
        if given is None:
            raise RefusedError(say_text(401, "Missing or invalid authorization header"))
        return self.open_by_token(given)

    def open_by_token(self, given: str) -> Token:
        try:
            claims = read_token(given, self.signing_key)
            token = self.tokens[claims["jti"]]
        except (ValueError, KeyError):
            raise RefusedError(say_text(401, "Invalid token")) from None
        if token.expires <= self.clock.now():
            raise RefusedError(say_text(401, "Invalid token"))
        if self.switches.status_unknown:
            raise RefusedError(self.complain(503))
        if self.is_revoked(token.id):
            raise RefusedError(say_text(401, "Token has been revoked"))
        return token

    def open_by_key(self, given: str) -> Token:
        """Keys carry no id, and such keys are refused here unless the server allows them."""
        found = next((each for each in self.service_users.values() if each.key == given), None)
        if not self.switches.legacy_keys or found is None or not self.may_sign_in(found):
            raise RefusedError(say_text(401, "Invalid or expired API key"))
        now = self.clock.now()
        return Token("", "", found.id, found.name, found.tenant, found.role, now, now + DAY, listed=False)

    def require(self, call: Call) -> Token:
        try:
            return self.find_session(call)
        except RefusedError:
            self.rejected_api_keys += "x-api-key" in call.headers
            raise

    def require_admin(self, call: Call, says: str = MESSAGES[403]) -> Token:
        session = self.require(call)
        if session.role not in ADMINS:
            raise RefusedError(say_text(403, says))
        return session

    def require_manager(self, call: Call) -> Token:
        """An admin, refused in the words of the service users' routes."""
        session = self.require(call)
        if session.role not in ADMINS:
            raise RefusedError(say_json(403, {"error": "Only admins can manage service users"}))
        return session

    def read_body(self, call: Call, needed: set[str], optional: set[str]) -> dict[str, Any]:
        """The body, which must be a JSON object with these fields and no others."""
        if "json" not in call.headers.get("content-type", ""):
            raise RefusedError(say_text(415, "Expected request with `Content-Type: application/json`"))
        try:
            body = call.json()
        except ValueError:
            raise RefusedError(say_text(400, "Failed to parse the request body as JSON")) from None
        fits = isinstance(body, dict) and needed <= body.keys()
        if not fits or (self.switches.refuses_unknown_fields and not body.keys() <= needed | optional):
            problem = "Failed to deserialize the JSON body into the target type: missing or unknown field"
            raise RefusedError(say_text(422, problem))
        known: dict[str, Any] = body
        return known

    # ── log-in and tokens ─────────────────────────────────────────────────────────────────────────────────────────

    def log_in(self, call: Call) -> Reply:
        """Sign in; the tenant is asked for only where it is given."""
        body = self.read_body(call, {"username", "password"}, {"tenant_id"})
        user = next((each for each in self.users.values() if fits_login(each, body)), None)
        if user is None:
            return say_text(401, "Invalid credentials")
        token = self.add_login(user.id)
        return say_json(
            200, {"token": token.secret, "user": self.show_user(user), "expires-at": write_time(token.expires)}
        )

    def show_user(self, user: User) -> dict[str, Any]:
        email = f"{user.username}@example.com"
        return {
            "id": user.id,
            "username": user.username,
            "email": email,
            "tenant-id": user.tenant,
            "role": user.role,
            "oauth-provider": None,
        }

    def read_self(self, call: Call) -> Reply:
        session = self.require(call)
        return say_json(
            200,
            {
                "id": session.user_id,
                "username": session.username,
                "email": "",
                "tenant-id": session.tenant,
                "role": session.role,
                "oauth-provider": None,
            },
        )

    def list_own_tokens(self, call: Call) -> Reply:
        session = self.require(call)
        return self.show_tokens(call, session, session.user_id)

    def list_tokens(self, call: Call, user: str) -> Reply:
        session = self.require_admin(call)
        return self.show_tokens(call, session, parse_uuid(user))

    def show_tokens(self, call: Call, session: Token, user_id: str) -> Reply:
        """Only the session's own tenant, which root does not have; PostgreSQL shows the revoked ones, too."""
        now = self.clock.now()
        wanted = [
            token
            for token in self.tokens.values()
            if token.user_id == user_id
            and self.may_list(token, session)
            and token.expires > now
            and (self.switches.postgres or not self.is_revoked(token.id))
        ]
        return say_json(200, [self.show_token(token) for token in cut_page(call, wanted)])

    def may_list(self, token: Token, session: Token) -> bool:
        from_here = token.tenant == session.tenant
        if session.role == "root":
            from_here = not self.switches.root_sees_nothing
        return from_here and (token.listed or self.switches.logins_listed)

    def show_token(self, token: Token) -> dict[str, Any]:
        postgres = self.switches.postgres
        row: dict[str, Any] = {
            "id": token.id,
            "tenant_id": token.tenant or NO_TENANT,
            "user_id": token.user_id,
            "username": "unknown" if postgres else token.username,
            "expires_at": write_time(token.expires),
            "created_at": write_time(self.clock.now() if postgres else token.created),
            "is_valid": postgres or self.is_alive(token),
        }
        return {**row, "token": token.secret} if self.switches.list_shows_secret else row

    def revoke_self(self, call: Call) -> Reply:
        """Unlike the others, it lasts until the token's own expiry."""
        session = self.require(call)
        self.read_body(call, set(), {"reason"})
        if not session.id:
            return say_text(400, "This session is not backed by a token")
        self.put_on_blacklist(session.id, session.expires)
        return say_json(200, {"message": "Token revoked successfully. Please log in again."})

    def revoke_by_id(self, call: Call, identifier: str) -> Reply:
        """For a day only, and any id is fine."""
        self.require_admin(call)
        self.read_body(call, set(), {"reason"})
        self.blacklist_by_id(identifier)
        return say_json(200, {"message": f"Token {identifier} revoked successfully"})

    def delete_token(self, call: Call, identifier: str) -> Reply:
        self.require_admin(call, "Admin access required to delete arbitrary token")
        self.blacklist_by_id(identifier)
        return Reply(204)

    def blacklist_by_id(self, identifier: str) -> None:
        token = self.tokens.get(parse_uuid(identifier))
        if token is None and not self.switches.any_id_is_ok:
            raise RefusedError(self.complain(404))
        until = token.expires if token is not None and not self.switches.lapses else self.clock.now() + DAY
        self.put_on_blacklist(parse_uuid(identifier), until)

    def put_on_blacklist(self, identifier: str, until: float) -> None:
        """PostgreSQL stumbles over a row that is there; memory writes over it, even where that shortens it."""
        self.blacklist.clean_hourly(self.clock.now())
        if identifier in self.blacklist.rows and choose(self.switches.second_revoke_fails, self.switches.postgres):
            raise RefusedError(say_text(500, f"Failed to revoke token: {TAKEN} revoked_tokens_pkey"))
        self.blacklist.rows[identifier] = until

    def clean_up(self, call: Call) -> Reply:
        self.require_admin(call)
        count = self.blacklist.clean(self.clock.now())
        return say_json(200, {"message": f"Cleaned up {count} expired tokens", "count": count})

    def mint_token(self, call: Call) -> Reply:
        self.require_admin(call)
        body = self.read_body(call, {"tenant_id"}, {"username", "roles", "expires_in_hours"})
        hours = body.get("expires_in_hours") or 24
        if hours > MOST_HOURS:
            return say_text(400, f"expires_in_hours must not exceed {MOST_HOURS}")
        username = body.get("username") or "api-user"
        user = next((each for each in self.users.values() if each.username == username), None)
        user_id, role = (user.id, user.role) if user is not None else (str(uuid4()), "tenant-user")
        return self.show_new(self.sign(user_id, username, body["tenant_id"], role, hours * HOUR, listed=True))

    def rotate_token(self, call: Call) -> Reply:
        session = self.require(call)
        new = self.sign(session.user_id, session.username, session.tenant, session.role, DAY, listed=True)
        self.put_on_blacklist(session.id, session.expires)
        return self.show_new(new)

    def show_new(self, token: Token) -> Reply:
        return say_json(
            200,
            {
                "token": token.secret,
                "expires_at": write_time(token.expires),
                "tenant_id": token.tenant or NO_TENANT,
            },
        )

    # ── service users ─────────────────────────────────────────────────────────────────────────────────────────────

    def create_service_user(self, call: Call) -> Reply:
        session = self.require_manager(call)
        body = self.read_body(call, {"name", "role"}, {"description", "expires_in_days"})
        if body["role"] not in ROLES:
            return say_text(
                422, f"Failed to deserialize the JSON body into the target type: unknown role {body['role']}"
            )
        tenant = session.tenant or NO_TENANT
        taken = any(each.tenant == tenant and each.name == body["name"] for each in self.service_users.values())
        if taken and self.switches.postgres:
            return say_json(500, {"error": f"Failed to create service user: {TAKEN} service_users_name"})
        new = self.add_service_user(
            body["name"],
            body["role"],
            body.get("description"),
            tenant,
            body.get("expires_in_days"),
            created_by=session.user_id,
        )
        return self.show_key(201, new)

    def show_key(self, status: int, service_user: ServiceUser) -> Reply:
        """The row and its key, shown this once; `service_user_id` is the published source's name for the id."""
        row = {**service_user.row(), "service_user_id": service_user.id, "api_key": service_user.key}
        return say_json(status, row)

    def list_service_users(self, call: Call) -> Reply:
        session = self.require_manager(call)
        rows = [each.row() for each in self.service_users.values() if each.tenant == session.tenant]
        return say_json(200, cut_page(call, rows))

    def find_service_user(self, session: Token, identifier: str) -> ServiceUser:
        """Nobody looks at the tenant."""
        found = self.service_users.get(parse_uuid(identifier))
        if found is None or (self.switches.tenant_checked and found.tenant != session.tenant):
            raise RefusedError(say_json(404, {"error": "Service user not found"}))
        return found

    def read_service_user(self, call: Call, identifier: str) -> Reply:
        return say_json(200, self.find_service_user(self.require_manager(call), identifier).row())

    def change_service_user(self, call: Call, identifier: str) -> Reply:
        self.require_manager(call)
        body = self.read_body(call, set(), {"name", "description", "active"})
        found = self.find_or_pass(identifier, "update")
        if found is not None:
            found.name = body.get("name") or found.name
            found.description = body.get("description") or found.description
            found.active = body.get("active", found.active)
        return say_json(200, {"status": "updated"})

    def delete_service_user(self, call: Call, identifier: str) -> Reply:
        self.require_manager(call)
        found = self.find_or_pass(identifier, "delete")
        if found is not None:
            del self.service_users[found.id]
        return say_json(200, {"status": "deleted"})

    def find_or_pass(self, identifier: str, verb: str) -> ServiceUser | None:
        """For an id that nobody knows PostgreSQL is content to change nothing."""
        found = self.service_users.get(parse_uuid(identifier))
        if found is None and not self.switches.postgres:
            raise RefusedError(say_json(500, {"error": f"Failed to {verb} service user: Service user not found"}))
        return found

    def rotate_key(self, call: Call, identifier: str) -> Reply:
        """The old key dies in the same moment, or, on PostgreSQL, nothing happens for ever."""
        found = self.find_service_user(self.require_manager(call), identifier)
        if found.jammed or choose(self.switches.rotate_fails, self.switches.postgres):
            return say_json(500, {"error": f"Failed to rotate API key: {TAKEN} service_users_pkey"})
        found.key = make_key()
        return self.show_key(200, found)

    # ── what they may ─────────────────────────────────────────────────────────────────────────────────────────────

    def list_roles(self, call: Call, user: str) -> Reply:
        """Whole roles, to everybody who is signed in."""
        self.require(call)
        identifier = parse_uuid(user)
        return say_json(200, [self.roles[role].row() for whom, role in self.assigned if whom == identifier])

    def assign_role(self, call: Call, user: str) -> Reply:
        """Nobody looks whether the user is there; a second time PostgreSQL stumbles over the row."""
        if self.require(call).role not in ADMINS:
            return say_text(403, "Only admins can assign roles")
        key = parse_uuid(user), parse_uuid(self.read_body(call, {"role-id"}, set())["role-id"])
        if self.switches.postgres and (key in self.assigned or key[1] not in self.roles):
            return say_text(500, f"Failed to assign role: {TAKEN} user_roles_pkey")
        with self.lock:
            self.assigned[key] = None
        return Reply(201)

    def list_permissions(self, call: Call) -> Reply:
        """Of one user; PostgreSQL adds those of the roles, each time under an id of the moment."""
        self.require(call)
        user = parse_uuid(call.query.get("user", ""))
        rows = list(self.own_permissions(user))
        if self.switches.postgres:
            rows += [
                self.as_granted(user, grant)
                for whom, role in self.assigned
                if whom == user
                for grant in self.roles[role].grants
            ]
        return say_json(200, [{**row, "actions": shuffle(row["actions"])} for row in rows])

    def own_permissions(self, user: str) -> list[dict[str, Any]]:
        return [row for row in self.permissions if row["user-id"] == user]

    def as_granted(self, user: str, grant: dict[str, Any]) -> dict[str, Any]:
        at = write_time(self.clock.now())
        return {"id": str(uuid4()), "user-id": user, **grant, "granted-by": NO_TENANT, "granted-at": at}

    def grant_permission(self, call: Call) -> Reply:
        """As often as it is asked for, to whomever."""
        session = self.require(call)
        if session.role == "root":
            return say_text(403, "Root user cannot grant granular permissions. Please login as Tenant Admin.")
        body = self.read_body(call, {"user-id", "scope", "actions"}, set())
        if not isinstance(body["scope"], dict) or not isinstance(body["actions"], list):
            return say_text(422, "Failed to deserialize the JSON body into the target type: wrong type")
        return say_json(201, self.add_permission(body["user-id"], body["scope"], *body["actions"], by=session.user_id))

    def trade_key(self, call: Call, prefix: str) -> Reply:
        """OAuth client credentials: id and key for a token of one hour, which is in no list."""
        form = call.form()
        if form.get("grant_type") != "client_credentials":
            return say_json(400, {"error": "Unsupported grant_type. exact 'client_credentials' required."})
        found = self.service_users.get(form.get("client_id", ""))
        if found is None:
            return say_json(401, {"error": "Invalid client_id"})
        if not self.may_sign_in(found):
            return say_json(401, {"error": "Client is inactive"})
        if form.get("client_secret") != found.key:
            return say_json(401, {"error": "Invalid client_secret"})
        found.last_used = self.clock.now()
        token = self.sign(found.id, found.name, found.tenant, found.role, HOUR, listed=False)
        kind = "urn:ietf:params:oauth:token-type:access_token"
        answer = {"access_token": token.secret, "token_type": "Bearer", "expires_in": 3600, "issued_token_type": kind}
        return say_json(200, answer)


def choose(switch: bool | None, otherwise: bool) -> bool:  # noqa: FBT001 - a switch is a boolean
    """A switch that was turned, or else what the store does."""
    return otherwise if switch is None else switch


def make_key() -> str:
    """A key in the form that create and rotate make, which carries no key id."""
    return f"pgl_{draw(64)}"


def shuffle(actions: list[str]) -> list[str]:
    """A set has no order, and the server's has another one each time."""
    return sample(actions, len(actions))


def fits_login(user: User, body: dict[str, Any]) -> bool:
    """Whether this user signs in with this body."""
    in_tenant = body.get("tenant_id") in (None, user.tenant)
    return in_tenant and user.username == body["username"] and user.password == body["password"]


def parse_uuid(text: str) -> str:
    """An id in its usual form; a text that is none is refused as the framework does it."""
    try:
        return str(UUID(text))
    except ValueError:
        raise RefusedError(say_text(400, "Invalid URL: Cannot parse value to a `Uuid`")) from None


def cut_page(call: Call, rows: list[T]) -> list[T]:
    """The rows between `offset` and `limit`."""
    offset, limit = call.query.get("offset", ""), call.query.get("limit", "")
    rest = rows[int(offset) :] if offset.isdigit() else rows
    return rest[: int(limit)] if limit.isdigit() else rest
