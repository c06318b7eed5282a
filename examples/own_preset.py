"""A machine of your own sizes: what it costs, how long a frame takes, and proof that it computes the right thing."""

from dataclasses import replace

import tessera
from tessera.sw.cycles.predict import predict

mine = replace(tessera.PRESETS["tiny"], name="mine", lanes=8, memory_bytes=8)
target = tessera.Target(model="pico", preset=mine)

print(tessera.estimate("tiny", lanes=8, memory_bytes=8))

program = tessera.compile(target, progress=False)
print(f"predicted: {predict(program, task=0).cycles:,} cycles per frame")

result = tessera.run(target, task="task0", progress=False)  # builds a simulator of this machine: a minute, once
print(result)
assert result.bit_exact
