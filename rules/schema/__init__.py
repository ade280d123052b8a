"""What a rule file may say, as frozen models; reading YAML into them, with lines, is `loader`'s.

The shape is that of Kingfisher 1.x rules (`docs/RULES.md` of its repository); what is ours beyond it is marked "ours".
"""

from __future__ import annotations

from rules.schema.action import Action
from rules.schema.alike import Alike
from rules.schema.aws import Aws
from rules.schema.command import Command
from rules.schema.extractors import Body, Extraction, Header, JsonPath, Regex, StatusCode
from rules.schema.file import RuleFile
from rules.schema.looks import CleanUp, ProbeContent, Recognition, Verification
from rules.schema.matchers import (
    HeaderMatch,
    JsonMatch,
    JsonValid,
    Matcher,
    ReportResponse,
    StatusMatch,
    WordMatch,
    XmlValid,
)
from rules.schema.pause import Pause
from rules.schema.provider import Identity, Provider
from rules.schema.recorded import Recorded, RecordedAnswer
from rules.schema.request import METHODS, Multipart, Part, Request
from rules.schema.revocation import MultiStepRevocation, Revocation
from rules.schema.rotation import Existing, Generate, Handover, Mark, Own, Rotation
from rules.schema.rule import Listing, Rule
from rules.schema.select import Condition, Paging, Select
from rules.schema.steps import Acting, OutcomeClause, Step
from rules.schema.variables import Subject, Variable

__all__ = [
    "METHODS",
    "Acting",
    "Action",
    "Alike",
    "Aws",
    "Body",
    "CleanUp",
    "Command",
    "Condition",
    "Existing",
    "Extraction",
    "Generate",
    "Handover",
    "Header",
    "HeaderMatch",
    "Identity",
    "JsonMatch",
    "JsonPath",
    "JsonValid",
    "Listing",
    "Mark",
    "Matcher",
    "MultiStepRevocation",
    "Multipart",
    "OutcomeClause",
    "Own",
    "Paging",
    "Part",
    "Pause",
    "ProbeContent",
    "Provider",
    "Recognition",
    "Recorded",
    "RecordedAnswer",
    "Regex",
    "ReportResponse",
    "Request",
    "Revocation",
    "Rotation",
    "Rule",
    "RuleFile",
    "Select",
    "StatusCode",
    "StatusMatch",
    "Step",
    "Subject",
    "Variable",
    "Verification",
    "WordMatch",
    "XmlValid",
]
