"""Random convolutions in terms of networks, as commands and as plain arithmetic."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from tessera.golden.integer import functions
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import Destination, Function, Opcode
from tessera.hw.tables import gelu_table
from tests.helpers.hand_program import HandProgram, block


class Case(NamedTuple):
    """A convolution in terms of networks, channels as a multiple of the lanes."""

    rows: int
    columns: int
    words: int  # words of a position
    outputs: int  # output words of a position
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)  # left, right, top, bottom
    groups: int = 1
    clamp: bool = False
    unsigned: bool = False
    padding: int = 0
    destination: Destination = Destination.ACTIVATION
    spread: tuple[int, int] = (1, 1)  # outputs go to every such line and position
    gelu: bool = False


def random_matrix(config: AcceleratorConfig, case: Case, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights as PyTorch has them, all groups dense, and the matrix of the command (rows, taps x words x lanes)."""
    t, depthwise = config.lanes, case.groups < 0
    groups = case.words if depthwise else case.groups
    inputs, outputs = case.words * t, case.outputs * t
    dense = random.integers(-128, 128, (outputs, inputs, *case.kernel))
    dense = np.where(random.random(dense.shape) < 0.3, random.choice([-128, 127, 0], dense.shape), dense)
    if depthwise:
        dense = dense * (np.arange(outputs)[:, None] == np.arange(inputs))[:, :, None, None]
    else:
        own = np.arange(outputs)[:, None] * groups // outputs == np.arange(inputs) * groups // inputs
        dense = dense * own[:, :, None, None]
    share, count = inputs // groups, outputs // groups
    parts = [dense[g * count : (g + 1) * count, g * share : (g + 1) * share] for g in range(groups)]
    matrix = np.concatenate([part.transpose(0, 2, 3, 1).reshape(count, -1) for part in parts])
    return dense, matrix


def accumulators(case: Case, image: np.ndarray, dense: np.ndarray) -> np.ndarray:
    """A plain convolution of (rows, columns, channels): exact, because all sums stay below 2**53."""
    x = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float64))
    mode = {"mode": "replicate"} if case.clamp else {"value": float(case.padding)}
    y = F.conv2d(F.pad(x, case.pad, **mode), torch.from_numpy(dense.astype(np.float64)), stride=case.stride)
    return y[0].numpy().astype(np.int64).transpose(1, 2, 0)


class Places(NamedTuple):
    """Words of the scratchpad and of the residual memory from which on nothing has been used."""

    scratchpad: int = 0
    residual: int = 0


def add_convolution(
    program: HandProgram, case: Case, places: Places, random: np.random.Generator
) -> tuple[Places, tuple[Case, int, np.ndarray]]:
    """Stage an input and convolve it; returns what is free behind it, and what the output must be."""
    config = program.config
    t, p, width = config.lanes, config.elements, config.numerics.activation_width
    image = random.integers(-128, 128, (case.rows, case.columns, case.words * t))
    program.add(
        Opcode.STAGE,
        image.astype(np.int8).tobytes(),
        destination_base=places.scratchpad,
        words=case.rows * case.columns * case.words,
    )
    if case.unsigned:
        image = image & ((1 << width) - 1)
    dense, matrix = random_matrix(config, case, random)
    sums = accumulators(case, image, dense)
    rows, columns, channels = sums.shape
    bias, multiplier = random.integers(-(2**12), 2**12, channels), random.integers(1 << 14, (1 << 16) + 1, channels)
    shift = random.integers(24, 30, channels) - (6 if case.gelu or case.destination != Destination.ACTIVATION else 0)
    groups = case.words if case.groups < 0 else case.groups
    stride, line = case.outputs * case.spread[1], case.outputs * case.spread[1] * case.spread[0] * columns
    used = places.scratchpad + case.rows * case.columns * case.words
    residual = case.destination != Destination.ACTIVATION
    base = places.residual if residual else used
    gelu = {"function": Function.GELU, "function_multiplier": 20000, "function_shift": 23} if case.gelu else {}
    program.add(
        Opcode.CONVOLUTION,
        block(config, matrix, (bias, multiplier, shift)),
        beats=rows * columns * matrix.shape[1] // t * (channels // p),
        broadcast_base=places.scratchpad,
        broadcast_stride=case.words,
        line_stride=case.columns * case.words,
        tap_words=case.words // groups,
        steps=rows * columns,
        words=matrix.shape[1] // t,
        stationary_rows=channels,
        destination_base=base,
        destination_stride=stride,
        destination_jump=line - (columns - 1) * stride,
        destination=case.destination,
        broadcast_unsigned=case.unsigned,
        padding=case.padding & 0xFFFF,
        clamp=case.clamp,
        taps_y=case.kernel[0],
        taps_x=case.kernel[1],
        stride_y=case.stride[0],
        stride_x=case.stride[1],
        pad_top=case.pad[2],
        pad_left=case.pad[0],
        input_rows=case.rows,
        input_columns=case.columns,
        output_columns=columns,
        group_words=case.words // groups if groups > 1 else 0,
        group_tiles=channels // groups // p % 32,
        **gelu,
    )
    y = functions.requantise(sums, bias, multiplier, shift)
    if case.gelu:
        y = functions.activate(y, gelu_table(), 20000, 23, config.numerics)
    else:
        y = functions.saturate(y, config.numerics.residual if residual else config.numerics.activation)
    free = base + line * rows
    after = Places(used, free) if residual else Places(free, places.residual)
    return after, (case, len(program.commands) - 1, y.reshape(-1, t))
