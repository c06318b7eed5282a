"""The JSON files that the commands write, by what they hold; the file of the same name beside this one describes it."""

from __future__ import annotations

from pathlib import Path

from tessera.common.stamped import Schema

BENCH = Schema(name="tessera-bench", version=2)
BITSTREAM = Schema(name="tessera-bitstream", version=1)
COMPARISON = Schema(name="tessera-comparison", version=1)
DEPLOY = Schema(name="tessera-deploy", version=1)
ESTIMATE = Schema(name="tessera-estimate", version=1)
EVALUATION = Schema(name="tessera-evaluation", version=2)
EXPORT = Schema(name="tessera-export", version=1)
NETWORK = Schema(name="tessera-network", version=1)
PLACEMENT = Schema(name="tessera-placement", version=1)
QUANTISATION = Schema(name="tessera-quantisation", version=1)
RUN = Schema(name="tessera-run", version=2)
SELFTEST = Schema(name="tessera-selftest", version=1)
SYNTHESIS = Schema(name="tessera-synthesis", version=1)
VERIFY = Schema(name="tessera-verify", version=1)


def schema_file(name: str) -> Path:
    """The JSON Schema (draft 2020-12) of the documents of a name."""
    return Path(__file__).with_name(f"{name.removeprefix('tessera-')}.json")
