"""The action that is a call to AWS (ours), and what AWS answers to it."""

from __future__ import annotations

from typing import Literal

from rules.schema.action import Action
from rules.schema.matchers import JsonMatch, Matcher, StatusMatch


class Aws(Action):
    """Ours: one call to AWS about one access key, or a user's keys, signed by the connection or by the key itself.

    `identity` asks STS who the key is, `owner` whose it is and when it was last used, `status` whether it is listed as
    Active or Inactive, `list` reads all keys of the user as one list; `create` makes one, and `deactivate`, `activate`
    and `delete` change it. `user` is left out where a key acts on itself.
    """

    action: Literal["identity", "owner", "status", "list", "create", "deactivate", "activate", "delete"]
    key: str = "{{ AKID }}"
    secret: str = "{{ TOKEN }}"  # noqa: S105 - a template
    session: str | None = None
    user: str | None = None
    region: str = "us-east-1"

    @property
    def templates(self) -> list[str]:
        """The key's id, the owner and the region; the secret where the key itself signs."""
        own = [] if self.actor else [self.secret, self.session or ""]
        return [*([] if self.about_user else [self.key]), self.user or "", self.region, *own]

    @property
    def about_user(self) -> bool:
        """Whether it is about a user, and no key is named."""
        return self.actor and self.action in {"list", "create"}

    @property
    def changes(self) -> bool:
        """Told from the action."""
        return self.action in {"create", "deactivate", "activate", "delete"}

    @property
    def idempotent(self) -> bool:
        """Every call to make a key makes another one."""
        return self.action != "create"

    @property
    def title(self) -> str:
        """The action and whose key it is about."""
        return f"AWS {self.action} {self.user if self.about_user else self.key}"


AWS_YES = StatusMatch(type="StatusMatch", status=[200])
AWS_NO_SUCH_KEY: list[Matcher] = [
    StatusMatch(type="StatusMatch", status=[403]),
    JsonMatch(type="JsonMatch", path="$.Error.Code", equals="InvalidClientTokenId"),
]
"""What AWS says of a key that does not exist, or is inactive; also in another partition, so it is no proof at first."""


def aws_lists(status: str) -> JsonMatch:
    """The matcher for a key that is listed as `Active` or `Inactive`."""
    return JsonMatch(type="JsonMatch", path="$.Status", equals=status)
