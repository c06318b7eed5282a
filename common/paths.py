"""Where the project lies, and where it puts what it makes."""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]
BUILD = PROJECT_ROOT / "build"
"""Everything that the project makes; may be deleted at any time."""


def cache_folder() -> Path:
    """Return the one place of everything that is remembered; it may be deleted at any time."""
    return BUILD / "cache"
