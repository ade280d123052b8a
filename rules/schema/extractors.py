"""Where in an answer a value may stand, one model for each kind of place; taking it out is `rules.extract`'s."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rules.model import Model


class Extractor(Model):
    """What every extractor may add (ours): whether the value is secret, and whether it may be missing."""

    secret: bool = False
    optional: bool = False


class JsonPath(Extractor):
    """The one value at a JSONPath; several values are an error, never the first.

    With `json` (ours) the value may be a list or an object too, and is kept as JSON: the filter `json` puts it into a
    body again.
    """

    type: Literal["JsonPath"]
    path: str
    json_value: bool = Field(default=False, alias="json")


class Regex(Extractor):
    """The first group (or the whole match) of the one place in the body where the pattern fits."""

    type: Literal["Regex"]
    pattern: str


class Header(Extractor):
    """The value of a header."""

    type: Literal["Header"]
    name: str


class Body(Extractor):
    """The whole body."""

    type: Literal["Body"]


class StatusCode(Extractor):
    """The status, in digits."""

    type: Literal["StatusCode"]


Extraction = Annotated[JsonPath | Regex | Header | Body | StatusCode, Field(discriminator="type")]
