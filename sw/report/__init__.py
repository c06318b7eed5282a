"""Reports of a run: pictures, one self-contained page, JSON, and tables for the terminal."""

from tessera.sw.report.write import write_report

__all__ = ["write_report"]
