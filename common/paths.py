"""Where the project lies, and where it puts what it makes."""

import os
from pathlib import Path

import platformdirs

PROJECT_ROOT = Path(__file__).resolve().parents[1]
"""Folder with the floors of the house: the checkout, or the installed package."""

IMPORT_ROOT = Path(__file__).absolute().parents[2]
"""Folder in which ``import tessera`` finds the package."""

CHECKOUT = (PROJECT_ROOT / "pyproject.toml").is_file()
"""Whether this is a checkout, and no installed package."""

VARIABLE = "TESSERA_CACHE"
"""Environment variable that moves what the project makes for itself."""


def build_folder() -> Path:
    """Return the folder of everything that the project makes for itself; it may be deleted at any time.

    It is what ``TESSERA_CACHE`` says, or ``build`` in a checkout that may be written, or the user's cache folder.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    own = PROJECT_ROOT / "build"
    if CHECKOUT and os.access(next(path for path in (own / "cache", own, PROJECT_ROOT) if path.exists()), os.W_OK):
        return own
    return platformdirs.user_cache_path("tessera")


def cache_folder() -> Path:
    """Return the one place of everything that is remembered; it may be deleted at any time."""
    return build_folder() / "cache"
