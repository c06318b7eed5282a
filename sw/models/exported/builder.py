"""From places to tensors: operators that are found on the way, and the names of what they make."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tessera.golden.network.operators import (
    Add,
    Constant,
    Convolution,
    Gather,
    Join,
    Linear,
    Operator,
    Parameter,
    Part,
    PictureInput,
    Reshape,
    Scale,
    Shape,
    Transpose,
)
from tessera.sw.models.exported.values import ZERO, NoArrangement, View

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Made:
    """A tensor of ours: its name, its shape (rows, channels), and the place of its first value."""

    name: str
    rows: int
    channels: int
    base: int


class Builder:
    """Collects operators and weights.

    Attributes
    ----------
    operators:
        In the order of computation.
    weights:
        Tensors by name.
    """

    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self.weights: dict[str, Tensor] = {}
        self._made: list[Made] = []
        self._next = 0
        self._known: dict[tuple[int, int, bytes], Made] = {}
        self._names: set[str] = set()
        self._settled: set[str] = set()  # their weights stay as they are

    # Operators --------------------------------------------------------------------------------------------------------

    def free(self, place: str, part: str) -> str:
        """A part's name that no operator of the place has yet."""
        wanted, number = part, 1
        while (f"{place}.{wanted}" if place else wanted) in self._names:
            number += 1
            wanted = f"{part}_{number}"
        return wanted

    def add(self, operator: Operator, shape: Shape) -> Made:
        """Append an operator that makes a tensor of ``shape`` (..., channels); returns its tensor."""
        self.operators.append(operator)
        self._names.add(operator.name)
        rows = int(np.prod(shape[:-1]))
        made = Made(operator.name, rows, int(shape[-1]), self._next)
        self._next += rows * made.channels
        self._made.append(made)
        return made

    def view(self, made: Made, *shape: int) -> View:
        """All values of a tensor in their own order, in a shape of the module's."""
        return View(torch.arange(made.base, made.base + made.rows * made.channels).reshape(shape))

    def weight(self, name: str, value: Tensor) -> Parameter:
        """Keep a tensor of weights; returns how operators refer to it. Equal tensors of one name are kept once."""
        wanted, number = name, 1
        while wanted in self.weights and not torch.equal(self.weights[wanted], value):
            number += 1
            wanted = f"{name}_{number}"
        self.weights[wanted] = value.detach().contiguous().clone()
        return Parameter(tensor=wanted)

    def replace(self, index: int, **changes: Parameter | str) -> None:
        """Exchange weights or the source of the operator at ``index``."""
        changed: Any = replace(self.operators[index], **changes)  # type: ignore[arg-type]
        self.operators[index] = changed

    def fold(self, name: str, factors: Tensor, offsets: Tensor | None, *, behind: str = "") -> None:
        """Let the products that make a tensor take over a factor and an offset for each of its channels.

        Parameters
        ----------
        name:
            The tensor.
        factors, offsets:
            (channels,) each; None for no offset.
        behind:
            The operator behind that knows of it; nothing else may read the tensor.

        Raises
        ------
        NoArrangement
            If no product makes it, or something reads it as it is.
        """
        index = next(index for index, operator in enumerate(self.operators) if operator.name == name)
        operator = self.operators[index]
        lone = all(other.name == behind for other in self.operators if name in other.sources)
        lone = lone and name not in self._settled
        if lone and isinstance(operator, Reshape):
            self.fold(operator.source, factors, offsets, behind=name)
            return
        if lone and isinstance(operator, Add) and offsets is None:
            for source in operator.sources:
                self.fold(source, factors, None, behind=name)
            return
        if not lone or not isinstance(operator, (Linear, Convolution)):
            raise NoArrangement(f"a factor for each channel of '{name}', which no product takes over")
        weight = self.weights[operator.weight.tensor].double()
        spread = factors.double().reshape(-1, *[1] * (weight.ndim - 1))
        bias = 0.0 if operator.bias is None else self.weights[operator.bias.tensor].double() * factors.double()
        if offsets is not None:
            bias = bias + offsets.double()
        changed: dict[str, Parameter] = {"weight": self.weight(f"{name}.weight", (weight * spread).float())}
        if isinstance(bias, Tensor):
            changed["bias"] = self.weight(f"{name}.bias", bias.float())
        self.replace(index, **changed)

    def keep(self, places: Tensor) -> None:
        """Let the tensors of these values be as they are from now on: several operators will read them."""
        for owner in np.unique(self._owners(places.numpy())):
            self._settled.add(self._made[int(owner)].name)

    # Arrangements -----------------------------------------------------------------------------------------------------

    def source(self, place: int) -> Made:
        """The tensor that a value belongs to."""
        return self._made[int(self._owners(np.array(place)))]

    def _owners(self, places: Places) -> Places:
        """Indices of the tensors that values belong to."""
        return np.searchsorted([made.base for made in self._made], places, side="right") - 1

    def shape(self, name: str) -> Shape:
        """Shape (rows, channels) of a tensor."""
        return next((made.rows, made.channels) for made in self._made if made.name == name)

    def place_of(self, made: Made) -> str:
        """Where in the network a tensor is made."""
        return next(operator.place for operator in self.operators if operator.name == made.name)

    def matrix(self, places: Tensor, place: str = "", part: str = "part") -> Made:
        """The tensor (rows, channels) with exactly these values; makes the operators that are missing.

        Raises
        ------
        NoArrangement
            If no operator takes values like that.
        """
        flat = np.ascontiguousarray(places.numpy())
        key = (flat.shape[0], flat.shape[1], flat.tobytes())
        if key not in self._known:
            self._known[key] = self._matrix(flat, place, part)
        return self._known[key]

    def _matrix(self, flat: Places, place: str, part: str) -> Made:
        if (flat == ZERO).any():
            raise NoArrangement("zeros are padded to a tensor outside of a convolution")
        rows, channels = flat.shape
        first = self.source(int(flat[0, 0]))
        last = first.base + first.rows * first.channels
        if ((flat >= first.base) & (flat < last)).all():
            return self._of_one(first, flat, place, part)
        owners = self._owners(flat)
        if (owners == owners[:, :1]).all():
            cuts = np.flatnonzero(np.diff(owners[:, 0])) + 1
            parts = [self.matrix(torch.from_numpy(one), place, part).name for one in np.split(flat, cuts)]
            return self.add(
                Join(place=place, part=self.free(place, "join"), parts=tuple(parts), axis="rows"), (rows, channels)
            )
        if (owners == owners[:1]).all():
            cuts = np.flatnonzero(np.diff(owners[0])) + 1
            split = np.split(flat, cuts, axis=1)
            parts = [self.matrix(torch.from_numpy(np.ascontiguousarray(one)), place, part).name for one in split]
            return self.add(
                Join(place=place, part=self.free(place, "join"), parts=tuple(parts), axis="channels"),
                (rows, channels),
            )
        raise NoArrangement(f"a row of {channels} values is put together from several tensors")

    def _of_one(self, source: Made, flat: Places, place: str, part: str) -> Made:
        """Values of one tensor."""
        rows, channels = flat.shape
        local = flat - source.base
        row, channel = local // source.channels, local % source.channels
        if not ((row == row[:, :1]).all() and (channel == channel[:1]).all()):
            return self._across(source, flat, place, part)
        made, start = source, int(channel[0, 0])
        if not (np.diff(channel[0]) == 1).all():
            made = self._outputs(source, channel[0], part)
        elif channels != source.channels:
            operator = Part(
                place=place,
                part=self.free(place, part),
                source=source.name,
                axis="channels",
                start=start,
                stop=start + channels,
            )
            made = self._part(operator, source, start, channels)
        taken = row[:, 0]
        if rows == source.rows and (taken == np.arange(rows)).all():
            return made
        if not (np.diff(taken) == 1).all():
            listed = tuple(int(one) for one in taken)
            gather = Gather(place=place, part=self.free(place, part), source=made.name, rows=listed)
            return self.add(gather, (rows, channels))
        operator = Part(
            place=place,
            part=self.free(place, part),
            source=made.name,
            axis="rows",
            start=int(taken[0]),
            stop=int(taken[0]) + rows,
        )
        return self.add(operator, (rows, channels))

    def _across(self, source: Made, flat: Places, place: str, part: str) -> Made:
        """Several rows as one, or rows as channels."""
        rows, channels = flat.shape
        if channels == 1:
            raise NoArrangement(f"values of '{source.name}' are taken across its rows")
        breaks = np.flatnonzero(np.diff(flat[0]) != 1)
        run = math.gcd(int(breaks[0]) + 1 if len(breaks) else channels, source.channels)
        if 1 < run < channels and channels % run == 0 and (np.diff(flat.reshape(-1, run)) == 1).all():
            made = self.matrix(torch.from_numpy(flat.reshape(-1, run)), place, part)
            return self.arranged(made, (rows, channels), place, part)
        if rows == 1:
            raise NoArrangement(
                f"{source.rows} rows of {source.channels} values of '{source.name}' as one row of {channels}, channel "
                "by channel, as Flatten makes of a map; the nearest is a mean over positions, or a convolution as "
                "large as the map"
            )
        turned = np.ascontiguousarray(flat.T)
        if (np.diff(turned) == 1).all():
            made = self.matrix(torch.from_numpy(turned), place, part)
            operator = Transpose(place=place, part=self.free(place, "transposed"), source=made.name)
            return self.add(operator, (rows, channels))
        raise NoArrangement(f"values of '{source.name}' are taken across its rows")

    def _outputs(self, source: Made, channels: Places, part: str) -> Made:
        """Outputs of a linear layer, or of factors behind one, out of their order: the layer with its rows so."""
        key = (source.base, len(channels), channels.tobytes())
        if key not in self._known:
            operator = next(one for one in self.operators if one.name == source.name)
            if not isinstance(operator, (Linear, Scale)):
                raise NoArrangement(f"channels of '{source.name}' are taken out of their order")
            before = operator.source
            if isinstance(operator, Scale):
                before = self._outputs(next(one for one in self._made if one.name == before), channels, part).name
            picked = torch.from_numpy(channels.copy())
            name = self.free(operator.place, f"{operator.part}.{part}")
            weight = self.weight(f"{operator.place}.{name}.weight", self.weights[operator.weight.tensor][picked])
            bias = operator.bias
            if bias is not None:
                bias = self.weight(f"{operator.place}.{name}.bias", self.weights[bias.tensor][picked])
            self._settled.add(source.name)
            ordered = replace(operator, part=name, source=before, weight=weight, bias=bias)
            self._known[key] = self.add(ordered, (source.rows, len(channels)))
        return self._known[key]

    def _part(self, operator: Part, source: Made, start: int, channels: int) -> Made:
        """Channels of all rows of a tensor, once."""
        whole = np.arange(source.rows)[:, None] * source.channels + np.arange(start, start + channels) + source.base
        key = (source.rows, channels, np.ascontiguousarray(whole).tobytes())
        if key not in self._known:
            self._known[key] = self.add(operator, (source.rows, channels))
        return self._known[key]

    def constant(self, value: Tensor, name: str, place: str) -> Made:
        """A constant matrix (rows, channels)."""
        parameter = self.weight(name or f"{place}.constant".lstrip("."), value)
        part = self.free("", (name or "constant").replace(".", "_"))
        return self.add(Constant(part=part, value=parameter), tuple(value.shape))

    def scaled(self, source: Made, factors: Tensor, offsets: Tensor | None) -> Made:
        """A tensor with a factor and an offset for each channel."""
        operator = next(one for one in self.operators if one.name == source.name)
        part = self.free(operator.place, f"{operator.part}.scaled")
        name = f"{operator.place}.{part}".lstrip(".")
        made = Scale(
            place=operator.place,
            part=part,
            source=source.name,
            weight=self.weight(f"{name}.weight", factors.float()),
            bias=None if offsets is None else self.weight(f"{name}.bias", offsets.float()),
        )
        return self.add(made, (source.rows, source.channels))

    def arranged(self, made: Made, to: Shape, place: str, part: str) -> Made:
        """The same rows in another arrangement."""
        return self.add(Reshape(place=place, part=self.free(place, part), source=made.name, to=to), to)

    def picture(self, height: int, width: int) -> Made:
        """Where the picture comes in."""
        return self.add(PictureInput(part="picture", height=height, width=width), (height, width, 3))
