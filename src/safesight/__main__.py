"""`python -m safesight` runs the command line."""

from safesight.cli.main import main

main()
