"""Where the project lies, and where it puts what it makes."""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]
BUILD = PROJECT_ROOT / "build"
"""Everything that the project makes; may be deleted at any time."""
