"""What wider activations bring and cost: error of the outputs against float, and cells of an ECP5."""

import tessera

WIDTHS = (8, 12, 16)

scores = tessera.evaluate("pico", sweep=tessera.Sweep(widths=WIDTHS, scenes=2), progress=False)
integer = [result for result in scores.to_dict()["results"] if result["arithmetic"] == "integer"]

print(f"{'bits':>4}  {'error of task0':>14}  {'block RAMs':>10}  {'multipliers':>11}")
for result in integer:
    width = result["activation_width"]
    cells = tessera.estimate("tiny", activation_width=width).total
    print(f"{width:4}  {result['outputs']['task0']['relative_l2']:14.3%}  {cells['bram']:10}  {cells['dsp']:11}")

errors = [result["outputs"]["task0"]["relative_l2"] for result in integer]
assert errors[0] > errors[1], "12 bits are more exact than 8"
