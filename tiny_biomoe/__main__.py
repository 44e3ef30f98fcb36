"""`python -m tiny_biomoe`, where the command `tiny-biomoe` is not on the path."""

from .cli.main import main

main()
