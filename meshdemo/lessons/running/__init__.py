"""Running the commands of lessons on a stage, and judging what they promise.

Nothing here draws a screen or reads a key.
"""
