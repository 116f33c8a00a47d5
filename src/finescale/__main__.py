"""``python -m finescale``."""

from finescale.cli.main import main

main()
