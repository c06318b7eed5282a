"""Switches: environment variables that are on or off."""

import os

_OFF = ("", "0", "no", "off", "false")


def switched_on(name: str) -> bool:
    """Whether an environment variable is set to something else than ``0``, ``no``, ``off`` or ``false``."""
    return os.environ.get(name, "").strip().lower() not in _OFF
