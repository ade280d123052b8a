"""One file for each version, in order; a file that was released is never edited."""
