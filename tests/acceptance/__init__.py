"""revoq as its users meet it: real processes and real servers, in through the operator's door."""
