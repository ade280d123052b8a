"""One file per kind of step; each takes one planned step and says what it came to. Recording that is the engine's."""
