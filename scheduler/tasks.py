"""The clock's own tasks, three lines each; what is due is read from the ledger, so a doubled tick changes nothing.

They send no events: thousands of ticks an hour would push the jobs out of Flower, which shows the clock as a worker.
"""

from __future__ import annotations

from scheduler import notices, pulse, recheck, schedules
from scheduler import sweep as sweeping
from scheduler.offboard import rounds
from worker.app import app
from worker.runtime import runtime


@app.task(name="sweep", send_events=False)
def sweep() -> None:
    """Ring jobs that were lost and waits that are over."""
    sweeping.sweep(runtime())
    pulse.tick(runtime().settings, pulse.CLOCK)


@app.task(name="look_again", send_events=False)
def look_again() -> None:
    """Look again at what was ended."""
    recheck.look_again(runtime())


@app.task(name="slots", send_events=False)
def slots(schedule: str | None = None) -> None:
    """Take every schedule a step further, or the one whose time it is."""
    schedules.tick(runtime(), None if schedule is None else [schedule])


@app.task(name="leavers", send_events=False)
def leavers() -> None:
    """List again what subjects of open batches have."""
    rounds.advance(runtime())


@app.task(name="shred", send_events=False)
def shred() -> None:
    """Destroy secrets that are past their date."""
    sweeping.shred(runtime())


@app.task(name="seal", send_events=False)
def seal() -> None:
    """Fold new audit rows into the sequence, and sign it."""
    sweeping.seal(runtime())


@app.task(name="deliver", send_events=False)
def deliver() -> None:
    """Bring signed heads off this machine."""
    sweeping.deliver(runtime())


@app.task(name="tell", send_events=False)
def tell() -> None:
    """Send the notices that somebody wants."""
    notices.tell(runtime())


@app.task(name="watch", send_events=False)
def watch() -> None:
    """Notice what is late."""
    notices.watch(runtime())
