"""The command line: reads options and environment once, checks them, and runs what they ask for.

Nothing here does what a command is for: that stands in its room.
"""

from meshdemo.cli.roles import DEFAULT_PROXY_URL as DEFAULT_PROXY_URL
from meshdemo.cli.roles import main as main
