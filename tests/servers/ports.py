"""Free ports on loopback for the servers of the tests; nothing is started here."""

import random
import socket

# Below the range from which Linux and macOS take the ports of outgoing connections, so that none of those gets there
# first, and chosen at random, since several test runs may share a machine.
FIRST, LAST = 15000, 32000


def find_free_port() -> int:
    """A port on which nothing listens at this moment."""
    for port in random.sample(range(FIRST, LAST), k=100):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    message = f"expected a free port between {FIRST} and {LAST} on 127.0.0.1, found none in 100 tries"
    raise OSError(message)
