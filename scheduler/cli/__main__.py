"""`python -m scheduler.cli`: the operator's door where `revoq` is not installed as a command."""

from scheduler.cli import main

if __name__ == "__main__":
    main()
