"""Tests of the house that decides; none of them needs a server, a clock or a file outside its own folder."""
