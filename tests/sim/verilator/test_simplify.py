"""Rewriting of Amaranth's Verilog for the fast build: what changes, and what must stay as it is."""

import re

import pytest
from amaranth.hdl import Module, ResetInserter, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.sim.bench.run import run_testbench
from tessera.sim.verilator import simplify
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.natural_widths import natural_widths
from tessera.sim.verilator.options import BuildOptions
from tessera.sim.verilator.verilog import export_verilog

EMPTY = "    if (\\$auto$verilog_backend.cc:2355:dump_module$1 ) begin end\n"


def _process(*lines: str) -> str:
    return "  always @* begin\n" + EMPTY + "".join(f"    {line}\n" for line in lines) + "  end\n"


def _register(name: str, value: str) -> str:
    return f"  always @(posedge clk)\n    {name} <= {value};\n"


def _module(*parts: str) -> str:
    return "module m;\n" + "".join(parts) + "endmodule\n"


def test_zeroed_memories_become_loops():
    zeros = "  initial begin\n    a[0] = 8'd0;\n    a[1] = 8'h00;\n    a[2] = 8'd0;\n  end\n"
    mixed = "  initial begin\n    b[0] = 8'd0;\n    b[1] = 8'd3;\n  end\n"
    text = simplify.loop_zeroing(f"module m;\n{zeros}{mixed}endmodule\n")
    assert text == f"module m;\n  initial for (integer i = 0; i < 3; i = i + 1) a[i] = 0;\n{mixed}endmodule\n"


def test_registers_with_the_same_resets_share_a_branch():
    resets = ("if (clear) begin", "  {0} = 4'h0;", "end", "if (rst) begin", "  {0} = 4'h0;", "end")
    a = _process("\\$1  = a;", "if (on) begin", "  \\$1  = b;", "end", *(line.format("\\$1 ") for line in resets))
    b = _process("\\$2  = a;", *(line.format("\\$2 ") for line in resets))
    text = _module("  reg [3:0] \\$1 ;\n  reg [3:0] \\$2 ;\n", a, b, _register("a", "\\$1 "), _register("b", "\\$2 "))
    assert simplify.merge_registers(text) == _module(
        "  reg [3:0] \\$1 ;\n  reg [3:0] \\$2 ;\n",
        "  always @(posedge clk)\n    if (rst  | clear ) begin\n      a <= 4'h0;\n      b <= 4'h0;\n",
        "    end else begin\n",
        "    if (on) begin\n      a <= b;\n    end\n    b <= a;\n    end\n",
    )


def test_a_later_reset_to_another_value_wins():
    process = _process(
        "\\$1  = b;", "if (c) begin", "  \\$1  = 4'h1;", "end", "if (rst) begin", "  \\$1  = 4'h2;", "end"
    )
    text = simplify.merge_registers(_module("  reg [3:0] \\$1 ;\n", process, _register("a", "\\$1 ")))
    branch = "    if (rst ) begin\n      a <= 4'h2;\n    end else begin\n"
    assert branch + "    a <= b;\n    if (c) begin\n      a <= 4'h1;\n    end\n    end\n" in text


def test_parts_of_a_register_that_hold_stay_out():
    process = _process("{ \\$1 [7:4], \\$1 [1:0] } = { a[7:4], a[1:0] };", "\\$1 [3:2] = b;")
    text = simplify.merge_registers(_module("  reg [7:0] \\$1 ;\n", process, _register("a", "\\$1 ")))
    assert "  always @(posedge clk) begin\n    a[3:2] <= b;\n  end\n" in text.replace("a [", "a[")
    assert text.count("<=") == 1


def test_a_value_that_is_used_elsewhere_stays():
    text = _module("  reg \\$1 ;\n  assign y = \\$1 ;\n", _process("\\$1  = b;"), _register("a", "\\$1 "))
    assert simplify.merge_registers(text) == text


class _Counter(wiring.Component):
    on: In(1)
    clear: In(1)
    count: Out(4)

    def elaborate(self, platform):
        m = Module()
        inner = Module()
        value = Signal(4, init=3)
        with inner.If(self.on):
            inner.d.sync += value.eq(value + 1)
        inner.d.comb += self.count.eq(value)
        m.submodules.inner = ResetInserter(self.clear)(inner)
        return m


def test_every_register_of_a_design_is_recognised():
    text = export_verilog(_Counter()).text
    assert "always @* begin" in text, (
        "Amaranth's Verilog looks different now: tessera.sim.verilator.simplify finds nothing"
    )
    simplified = simplify.merge_registers(text)
    assert "always @* begin" not in simplified
    assert "if (rst  | clear ) begin" in simplified and "4'h3;" in simplified


class _Sums(wiring.Component):
    """Sums in registers: exact ones, one that wraps, one that is read bit by bit, one of unsigned numbers."""

    a: In(signed(9))
    b: In(signed(9))
    exact: Out(signed(40))
    wrapping: Out(signed(40))
    sliced: Out(1)
    positive: Out(signed(40))

    def elaborate(self, platform):
        m = Module()
        product = Signal(signed(18))
        total = Signal(signed(35))
        wrapped = Signal(signed(9))
        bits = Signal(signed(10))
        unsigned_sum = Signal(10)
        m.d.sync += [
            product.eq(self.a * self.b),
            total.eq(product + self.exact[:34].as_signed()),
            wrapped.eq(self.a + self.b),
            bits.eq(self.a + self.b),
            unsigned_sum.eq(self.a.as_unsigned() + self.b.as_unsigned()),
            self.exact.eq(total + product),
            self.wrapping.eq(wrapped - product),
            self.sliced.eq(bits[9]),
            self.positive.eq(unsigned_sum - bits),
        ]
        return m


def test_signed_registers_get_natural_widths_where_nothing_can_tell():
    text = natural_widths(simplify.merge_registers(export_verilog(_Sums()).text))
    widths = {name: int(top) + 1 for top, name in re.findall(r"reg \[(\d+):0\] (\w+)", text)}
    assert widths["product"] == 32 and widths["total"] == 64
    assert widths["bits"] == 10 and widths["unsigned_sum"] == 10
    assert "wrapped <= $signed(" in text, "a register that may wrap is extended when it is written"


@pytest.mark.parametrize("optimise", [False, True])
def test_natural_widths_change_no_value(optimise: bool) -> None:
    simulator = build_simulator(_Sums(), BuildOptions(optimise=optimise))
    run_testbench(simulator, "tests.sim.verilator.sums_bench", seed=1)


def test_nets_of_instances_are_declared_in_their_order():
    ports = "    .q(\\q$2 ),\n    .p(\\q$1 )\n"
    instance = f"  unit first (\n{ports}  );\n"
    text = natural_widths(f"module m (clk);\n  wire [7:0] \\q$1 ;\n  wire [7:0] \\q$2 ;\n{instance}endmodule\n")
    assert text.index("wire [7:0] \\q$2") < text.index("wire [7:0] \\q$1") < text.index("unit first")


@pytest.mark.parametrize(("width", "taken"), [(9, "$signed(\\$1 )"), (10, "\\$1 ")])
def test_a_sum_that_may_wrap_is_extended(width: int, taken: str):
    declared = "".join(f"  {kind} [{bits - 1}:0] {name} ;\n" for kind, bits, name in (
        ("wire", 9, "a"), ("wire", 9, "b"), ("reg", width, "r"), ("wire", width, "\\$1"), ("wire", 40, "y")
    ))  # fmt: skip
    body = "  assign \\$1  = $signed(a) + $signed(b);\n  assign y = $signed(r) * $signed(a);\n"
    register = "  always @(posedge clk) begin\n    r <= \\$1 ;\n  end\n"
    text = natural_widths(f"module m (clk);\n{declared}{body}{register}endmodule\n")
    assert "reg [31:0] r" in text and f"r <= {taken};" in text
