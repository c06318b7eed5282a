"""The compiler: a quantised model becomes a program and a memory image for one configuration."""

from __future__ import annotations

import numpy as np

from tessera.golden.integer.parameters import QuantisedModel
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import COMMAND_BYTES
from tessera.program.memory_map import MemoryMap
from tessera.program.program import Program
from tessera.sw.compiler.emission import Emitter
from tessera.sw.compiler.fit import CapacityError, fit
from tessera.sw.compiler.products import outputs
from tessera.sw.compiler.weights import BLOCK_ALIGNMENT, padded

PAGE = 4096


def compile_model(quantised: QuantisedModel, config: AcceleratorConfig) -> Program:
    """Compile a model for a configuration.

    Parameters
    ----------
    quantised:
        The model; its widths must be the configuration's.
    config:
        The machine.

    Returns
    -------
    Program
        Commands, memory image and map, table of tensors; the memory begins at address 0.

    Raises
    ------
    CapacityError
        If the model does not fit; the message lists every limit, every buffer and the nearest preset that would do.
    ValueError
        If the model was quantised for other widths or cannot be expressed.
    """
    widths = (config.numerics.activation_width, config.numerics.residual_width)
    if widths != (quantised.activation_width, quantised.residual_width):
        raise ValueError(
            f"configuration '{config.name}' has {widths[0]}-bit activations and a {widths[1]}-bit residual, the model "
            f"was quantised for {quantised.activation_width} and {quantised.residual_width}; quantise it again"
        )
    made = fit(quantised.network, config)
    made.check()
    results = outputs(made.context)
    output_bytes = padded(max(entry.shape[0] * entry.row_bytes for entry in results), BLOCK_ALIGNMENT)
    emitter = Emitter(quantised, made.context.sizes, made.bases, output_bytes)
    for operation, order in zip(made.operations, made.schedule.orders, strict=True):
        operation.emit(emitter, order)
    if len(emitter.commands) > config.max_commands:
        raise CapacityError(
            f"model '{quantised.network.name}' needs {len(emitter.commands)} commands, configuration '{config.name}' "
            f"stamps {config.max_commands}; enlarge max_commands"
        )
    commands = np.frombuffer(b"".join(emitter.encoded), np.uint8)
    stream = emitter.stream.content()
    weights = padded(len(commands), PAGE)
    image = padded(weights + len(stream), PAGE)
    output = padded(image + 3 * quantised.network.image_height * quantised.network.image_width, PAGE)
    output_bytes += 4 * config.lanes * made.allocations["memory"].peak
    content = np.zeros(image, np.uint8)
    content[: len(commands)] = commands
    content[weights : weights + len(stream)] = stream
    return Program(
        model=quantised.network,
        config=config,
        commands=tuple(emitter.commands),
        map=MemoryMap(
            program=0,
            program_bytes=len(emitter.commands) * COMMAND_BYTES,
            weights=weights,
            weights_bytes=len(stream),
            image=image,
            image_bytes=3 * quantised.network.image_height * quantised.network.image_width,
            output=output,
            output_bytes=output_bytes,
            limit=padded(output + output_bytes, PAGE),
        ),
        content=content,
        outputs=tuple(results),
    )
