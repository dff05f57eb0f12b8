"""`python -m matinee` is the `matinee` command."""

from matinee.cli import main

main()
