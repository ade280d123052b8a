"""How Flower is run: a file that it reads by --conf; what is given on its command line counts more.

Of itself it shows its metrics and its health to whoever asks, and takes a password from its command line or from a
variable; here everything asks for the password, which comes out of a file.
"""

import os
import sys
from pathlib import Path

from flower.views.monitor import Healthcheck, Metrics
from tornado.web import authenticated

USER = "revoq"
PASSWORD_FILE = "FLOWER_PASSWORD_FILE"  # noqa: S105 - the name of a variable

read_only = True
tasks_columns = "name,args,uuid,state,received,runtime,worker"

if file := os.environ.get(PASSWORD_FILE):
    try:
        password = Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        sys.exit(f"revoq: {PASSWORD_FILE}: {file} cannot be read ({error.strerror})")
    if not password:
        sys.exit(f"revoq: {PASSWORD_FILE}: {file} is empty, and Flower would be open to everybody")
    basic_auth = [f"{USER}:{password}"]

for page in (Metrics, Healthcheck):
    page.get = authenticated(page.get)
