"""A sweep over machines: cycles and cells of each, and which of them nothing beats. Nothing is simulated."""

from dataclasses import replace
from itertools import product

import tessera
from tessera.sw.cycles.predict import predict

BASE = tessera.PRESETS["tiny"]
found = []
for elements, lanes, memory_bytes in product((4, 8), (8, 16), (2, 8)):
    changes = {"elements": elements, "lanes": lanes, "memory_bytes": memory_bytes}
    target = tessera.Target(model="pico", preset=replace(BASE, name="swept", **changes))
    cycles = predict(tessera.compile(target, progress=False), task=0).cycles
    cells = tessera.estimate("tiny", **changes).total
    found.append((cycles, cells["lut"], cells["dsp"], elements, lanes, memory_bytes))


def beaten(one: tuple[int, ...]) -> bool:
    """Whether another machine is as good in cycles, look-up tables and multipliers, and better in one of them."""
    return any(other != one and all(a <= b for a, b in zip(other[:3], one[:3], strict=True)) for other in found)


print("  P x T   bus   cycles   LUT4  multipliers")
for one in sorted(found):
    cycles, luts, multipliers, elements, lanes, memory_bytes = one
    line = f"{elements:3} x {lanes:<3} {memory_bytes:3} {cycles:9,} {luts:7,} {multipliers:8}"
    print(line + ("" if beaten(one) else "   nothing beats it"))
assert not all(map(beaten, found))
