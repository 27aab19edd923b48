"""Run the command as ``python -m meshdemo``."""

from meshdemo.cli import main

main(prog_name="meshdemo")
