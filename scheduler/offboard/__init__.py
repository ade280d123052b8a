"""Files and scanners' reports into orders, and orders into a batch; a single order is `scheduler.submit`'s."""
