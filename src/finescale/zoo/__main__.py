"""Print docs/networks.md: ``python -m finescale.zoo``."""

import sys

from finescale.zoo import networks_page

sys.stdout.write(networks_page())
