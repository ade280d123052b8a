"""What revoq uses of boto3, an optional extra, under one name; how AWS is spoken to is `worker.amazon`'s.

A module of its own, since loading boto3 takes longer than all of a worker's own code: the first call to AWS does it.
"""

from boto3.session import Session
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES as VARIABLES
from botocore.configprovider import ConstantProvider
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError
from botocore.session import Session as CoreSession

__all__ = [
    "VARIABLES",
    "AWSResponse",
    "BotoCoreError",
    "ClientError",
    "Config",
    "ConstantProvider",
    "CoreSession",
    "Loader",
    "ResponseParserError",
    "Session",
]
