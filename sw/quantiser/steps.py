"""Quantising every step of a network, with everything foldable folded."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tessera.common.arrays import Floats
from tessera.golden.integer.parameters import (
    FACTOR_FRACTION,
    Parameters,
    QuantisedAttention,
    QuantisedLayerNorm,
    QuantisedProduct,
    QuantisedStream,
)
from tessera.golden.integer.steps import (
    AttentionStep,
    ExpertsStep,
    NormStep,
    PatchStep,
    ProductStep,
    Step,
    StreamStep,
)
from tessera.sw.quantiser.attention import attention_scales
from tessera.sw.quantiser.bias import centred_bias, least_unit, quantise_bias
from tessera.sw.quantiser.experts import quantise_experts
from tessera.sw.quantiser.norms import quantise_norm
from tessera.sw.quantiser.scales import LinearInput, fitting, reach
from tessera.sw.quantiser.sources import Sources
from tessera.sw.quantiser.windows import Folded


class StepQuantiser:
    """Walks the steps and makes the integers of each.

    Parameters
    ----------
    sources:
        What products read; is filled on the way.

    Attributes
    ----------
    parameters:
        Integers of the steps by name.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources, self.numerics = sources, sources.numerics
        self.seen, self.folding, self.plan = sources.seen, sources.folding, sources.seen.plan
        self.parameters: dict[str, Parameters] = {}
        self._absorbed: dict[tuple[str, str, int, int], Floats] = {}
        for step in self.plan.steps:
            self._visit(step)
        for step in self.plan.of_kind(StreamStep):
            self.parameters[step.name] = self._stream(step)

    def _visit(self, step: Step) -> None:
        match step:
            case PatchStep():
                pass
            case StreamStep():
                self.sources.scale(step.name, self.sources.residual_scale)
            case NormStep():
                self.parameters[step.name] = self._norm(step)
            case ProductStep():
                if step.name not in self.folding.attention_of:  # those are quantised together
                    self.parameters[step.name] = self._product(step)
            case AttentionStep():
                self.parameters[step.name] = self._attend(step)
            case ExpertsStep():
                self.sources.scale(step.name, self.sources.residual_scale)
                self.parameters[step.name] = quantise_experts(step, self.sources)

    def _norm(self, step: NormStep) -> QuantisedLayerNorm:
        following = self.folding.readers(step.name)
        gain = self.folding.gain(step.name)
        form = self.numerics.unsigned_activation if step.rectified else self.numerics.activation
        quantised = quantise_norm(
            self.sources.ranges(step.name, form),
            self.seen.samples[step.name],
            np.concatenate(following) * gain,
            epsilon=step.epsilon,
            kind=step.kind,
            rectified=step.rectified,
            numerics=self.numerics,
        )
        source = LinearInput(form=form, scale=quantised.scale, moments=self.seen.moments(step.name))
        self.sources.give(step.name, source)
        if step.wide:
            self.sources.scale(step.inner("wide"), quantised.wide_scale)
        return quantised.parameters

    # Products ---------------------------------------------------------------------------------------------------------

    def _product(self, step: ProductStep) -> QuantisedProduct:
        made = self._rows(step)
        return made if step.taps is None else replace(made, padding=self.sources.padding(step))

    def _rows(self, step: ProductStep) -> QuantisedProduct:
        """The same, but for what lies beyond a map."""
        if step.factor:
            return self._factor(step)
        if step.function is not None:
            return self._before_function(step)
        if step.onto is not None:
            return self._onto_stream(step)
        return self._result(step) if step.residual else self._alone(step)

    def _before_function(self, step: ProductStep) -> QuantisedProduct:
        assert step.function is not None
        form = self.numerics.gelu_input
        multiplier, shift = self.sources.function_scale(step.name, step.function)
        with fitting(step.name, "an activation function's input", form):
            linear = self.sources.folded(step).quantised(2.0**-form.fraction, self.numerics)
        self.sources.give(step.name, self.sources.positive(multiplier, shift, step.name, step.function))
        return QuantisedProduct(linear=linear, function_multiplier=multiplier, function_shift=shift)

    def _factor(self, step: ProductStep) -> QuantisedProduct:
        """What rows of a stream are multiplied by, in the format of a function's input whether there is one or not."""
        self.sources.scale(step.name, self.sources.residual_scale)
        form = self.numerics.gelu_input
        with fitting(step.name, "a factor", form):
            linear = self.sources.folded(step).quantised(2.0**-form.fraction, self.numerics)
        return QuantisedProduct(linear=linear, function_shift=FACTOR_FRACTION)

    def _onto_stream(self, step: ProductStep) -> QuantisedProduct:
        self.sources.scale(step.name, self.sources.residual_scale)
        folded = self.sources.folded(step, constant=not step.absorbed)
        with self.sources.onto_residual(step.product):
            linear = folded.quantised(self.sources.residual_scale, self.numerics)
        if step.absorbed:
            assert step.onto is not None
            error = folded.mean_error(linear, self.sources.residual_scale)
            key = (self._start(step.onto.tensor), step.product, step.onto.start, step.at)
            self._absorbed[key] = self._absorbed.get(key, 0.0) + self.sources.folded(step).bias + error
        return QuantisedProduct(linear=linear)

    def _start(self, name: str) -> str:
        """Name of the step that a stream begins with."""
        step = self.plan.by_name[name]
        while isinstance(step, (ProductStep, ExpertsStep)) and step.onto is not None:
            step = self.plan.by_name[step.onto.tensor]
        return step.name

    def _result(self, step: ProductStep) -> QuantisedProduct:
        """A product in the residual's format; values beyond its range get a power of two."""
        residual, folded = self.sources.residual_scale, self.sources.folded(step)
        limit = self.numerics.residual.maximum * residual
        needed = max(self.sources.largest(step.name) / limit, float(folded.finest(self.numerics).max()) / residual)
        alone = not self.plan.readers[step.name]  # what others read has the residual's own scale
        scale = residual * 2.0 ** math.ceil(math.log2(max(needed, 1.0))) if alone else residual
        self.sources.scale(step.name, scale)
        return QuantisedProduct(linear=folded.quantised(scale, self.numerics))

    def _alone(self, step: ProductStep) -> QuantisedProduct:
        """An activation that another product reads."""
        folded = self.sources.folded(step)
        scale = np.maximum(self.sources.finest(step.name), folded.finest(self.numerics))
        if step.swapped:  # outputs are rows, and all rows of what a product reads have one scale
            scale = np.full(step.channels, scale.max())
        source = LinearInput(form=self.numerics.activation, scale=scale, moments=self.seen.moments(step.name))
        self.sources.give(step.name, source)
        return QuantisedProduct(linear=folded.quantised(scale[0] if step.swapped else scale, self.numerics))

    # Attention --------------------------------------------------------------------------------------------------------

    def _attend(self, step: AttentionStep) -> QuantisedAttention:
        parts = {part: self._part(step, part) for part in ("query", "key", "value")}
        wanted = {
            part: np.maximum(self.sources.finest(made.name), folded.finest(self.numerics))
            for part, (made, folded) in parts.items()
        }
        wanted["attention"] = self.sources.finest(step.name)
        columns = np.square(np.concatenate(self.folding.readers(step.name))).sum(axis=0)
        bias = None if step.bias is None else centred_bias(self.folding.value(step.bias), self.seen.peaks.reach(step))
        least = 0.0 if bias is None else least_unit(bias, self.numerics)
        scales = attention_scales(step.name, wanted, columns, step.scale, self.numerics, least)
        self.sources.scale(step.inner("scores"), math.log(2) / 2.0**self.numerics.score.fraction)
        self.sources.scale(step.inner("exponentials"), 2.0**-self.numerics.activation_width)
        for part, (made, folded) in parts.items():
            scale = getattr(scales, part)
            self.sources.scale(made.name, scale)
            linear = folded.quantised(scale, self.numerics)
            self.parameters[made.name] = QuantisedProduct(linear=linear)
            if part == "value" and not folded.constant:
                self.sources.add_constant(step.name, folded.mean_error(linear, scale))
        source = LinearInput(
            form=self.numerics.activation, scale=scales.attention, moments=self.seen.moments(step.name)
        )
        self.sources.give(step.name, source)
        added = None if bias is None else quantise_bias(bias, scales.score_unit, self.numerics)
        return QuantisedAttention(
            score_multiplier=scales.score_multiplier,
            score_shift=scales.score_shift,
            output_multiplier=scales.output_multiplier,
            output_shift=scales.output_shift,
            bias=None if added is None else added.values,
            bias_factors=None if added is None else added.factors,
        )

    def _part(self, step: AttentionStep, part: str) -> tuple[ProductStep, Folded]:
        """The product that makes queries, keys or values."""
        made = self.plan.by_name[getattr(step, part).tensor]
        if not isinstance(made, ProductStep) or made.positive or made.residual:
            raise ValueError(f"{step.name}: its {part} must be what a linear layer makes, not '{made.name}'")
        return made, self.sources.folded(made, constant=self.folding.cancelling(made.name) is None)

    # Streams ----------------------------------------------------------------------------------------------------------

    def _stream(self, step: StreamStep) -> QuantisedStream:
        """The constants and what products leave to them, rounded."""
        initial = np.zeros((step.rows, step.channels))
        for placed in step.constants:
            value = self.folding.value(placed.value).reshape(-1, step.channels)
            initial[placed.first : placed.first + placed.rows] += value
        for absorbed in step.absorbed:
            # Products of one name and place, as in x + x, have left all of it together.
            left = self._absorbed.pop((step.name, absorbed.product, absorbed.first, absorbed.at), 0.0)
            values = self.folding.bias(absorbed.matrix) + left
            span = slice(absorbed.at, absorbed.at + len(values))
            initial[absorbed.first : absorbed.first + absorbed.rows, span] += values
        # An integer only once it is known to fit: others would wrap around.
        rounded = np.floor(initial / self.sources.residual_scale + 0.5)
        if np.abs(rounded).max() > self.numerics.residual.maximum:
            names = ", ".join(placed.value.tensor for placed in step.constants)
            raise ValueError(
                f"{names} reach {np.abs(initial).max():g}, and the residual stream holds less than "
                f"{reach(self.numerics.residual):g}. Scale the stream down where the network allows it "
                "(docs/numerics.md, Numbers that no format holds)"
            )
        return QuantisedStream(values=rounded.astype(np.int64))
