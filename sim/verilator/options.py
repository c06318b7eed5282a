"""How a simulator is built, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tessera.common.switches import switched_on

QUICK_BUILDS = switched_on("TESSERA_QUICK_BUILDS")
"""Set for tests: simulators that run briefly, compiled once and with less optimisation, whatever their options say."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build a simulator.

    Parameters
    ----------
    top
        Top module; needed when ``sources`` contain the top, else the exported design's.
    sources
        SystemVerilog (``.sv``, ``.v``) and C++ (``.cpp``) files added to the design.
    public
        (module, variable) pairs that Python may read and write besides the top's ports, such as a memory to load
        through the back door. A SystemVerilog source may equally say ``/* verilator public_flat_rw */``.
    parameters
        Values of the top module's parameters.
    defines
        Preprocessor definitions for SystemVerilog sources.
    optimise
        Compile for speed of the simulation (long runs) rather than of the compilation (unit benches).
    debug
        Make every signal visible and let a run record waves.
    main
        Main program that takes the place of cocotb's and drives the clock.
    all_public
        Make every signal visible without waves, as cocotb's own runner builds: a reference for speed.
    coverage
        Count lines, branches and toggles; a run leaves ``coverage.dat``.
    profile
        Runs a typical load on the simulator that it is given. A fast build is compiled twice then, the second time for
        the paths that were taken: a quarter more speed. Ignored for compilers other than GCC.
    """

    top: str = "top"
    sources: Sequence[Path] = ()
    public: Sequence[tuple[str, str]] = ()
    parameters: Mapping[str, int | str] | None = None
    defines: Mapping[str, int | str] | None = None
    optimise: bool = False
    debug: bool = False
    main: Path | None = None
    all_public: bool = False
    coverage: bool = False
    profile: Callable[[Simulator], object] | None = None

    @property
    def level(self) -> str:
        """The C++ compiler's optimisation of the model."""
        if self.debug:
            return (
                "-O0"  # every signal is written back at each step, whatever the compiler does: half the time to build
            )
        if QUICK_BUILDS or not self.optimise:
            return "-O1"
        return "-O3" if self.profile else "-O2"

    @property
    def fast(self) -> bool:
        """Whether anything that keeps the design's behaviour may be done for speed."""
        return self.optimise and not self.all_public


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """A finished build, for ``tessera.sim.bench.run``. With ``own_clock`` its main program drives ``clk``."""

    directory: Path
    top: str
    debug: bool
    own_clock: bool = False

    @classmethod
    def of(cls, directory: Path, options: BuildOptions) -> Simulator:
        """The simulator that was built in a folder with these options."""
        return cls(directory=directory, top=options.top, debug=options.debug, own_clock=options.main is not None)

    @property
    def executable(self) -> Path:
        """The simulation program."""
        return self.directory / "simulator"

    @property
    def ports_file(self) -> Path:
        """JSON description of the top's ports (an empty list when the top is not an Amaranth component)."""
        return self.directory / "ports.json"
