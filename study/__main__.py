"""`python -m study` is `study`."""

from study.cli import main

main()
