"""``tessera import --module`` and of ``.pt2`` files: a network of one's own, and every mistake as one message."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from tessera.golden import checkpoint
from tessera.sw.cli import app

HEAD = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.patch(x).flatten(2).transpose(1, 2).mean(1))

def make():
    return Small()

def with_example():
    return Small(), torch.zeros(1, 3, 16, 32)
"""
NAMES = itertools.count()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module of the user's into the current folder; gives its name, which no other test has."""
    monkeypatch.chdir(tmp_path)

    def written(code: str) -> str:
        name = f"users_network_{next(NAMES)}"
        (tmp_path / f"{name}.py").write_text(HEAD + code)
        return name

    return written


def said(*arguments: str, code: int = 0) -> str:
    """What the command says, on one line."""
    result = CliRunner().invoke(app, ["import", "-o", "out.safetensors", *arguments])
    assert result.exit_code == code, result.output + result.stderr
    return " ".join(result.output.split())


def refused(*arguments: str) -> str:
    """The one message of a mistake; nothing is written."""
    message = said(*arguments, code=2)
    assert "Traceback" not in message and message.count("tessera: ") == 1
    assert not list(Path().glob("*.safetensors")) and not list(Path().glob(".*"))
    return message


def test_a_function_in_the_current_folder(write) -> None:
    message = said("--module", f"{write('')}:with_example")
    assert "Presets that can hold it: tiny" in message and "out (classification)" not in message
    network = checkpoint.load("out.safetensors").network
    assert (network.image_height, network.image_width) == (16, 32)


def test_the_size_names_and_pixels_are_options(write) -> None:
    said("--module", f"{write('')}:make", "--size", "32x64", "--tasks", "kind", "--pixels", "imagenet")
    network = checkpoint.load("out.safetensors").network
    assert (network.image_height, network.image_width, network.tasks[0].name) == (32, 64, "kind")


def test_a_module_in_a_package_and_a_class_are_found(write, tmp_path: Path) -> None:
    name = write("")
    (tmp_path / f"package_{name}").mkdir()
    (tmp_path / f"{name}.py").rename(tmp_path / f"package_{name}" / "inside.py")
    said("--module", f"package_{name}.inside:Small", "--size", "16x32")


def test_seeds_draw_the_weights(write) -> None:
    name = write("")

    def first(seed: str) -> Tensor:
        said("--module", f"{name}:make", "--size", "16x32", "--seed", seed)
        return checkpoint.load("out.safetensors").model.weights["head.weight"]

    assert torch.equal(first("1"), first("1")) and not torch.equal(first("1"), first("2"))


def test_weights_are_loaded_from_a_file(write, tmp_path: Path) -> None:
    name = write("")
    state = {"patch.weight": torch.randn(16, 3, 8, 8), "patch.bias": torch.randn(16)}
    state |= {"head.weight": torch.full((3, 16), 0.5), "head.bias": torch.zeros(3)}
    torch.save({"state_dict": state}, "weights.pth")
    save_file({"head.weight": state["head.weight"]}, "part.st")
    said("--module", f"{name}:with_example", "--weights", "weights.pth")
    assert checkpoint.load("out.safetensors").model.weights["head.weight"].eq(0.5).all()
    Path("out.safetensors").unlink()
    message = refused("--module", f"{name}:with_example", "--weights", "part.st")
    assert "part.st does not fit the module" in message and "patch.weight" in message
    assert "no weights at none.pth" in refused("--module", f"{name}:with_example", "--weights", "none.pth")


def test_tasks_may_be_modules_that_share_a_backbone(write) -> None:
    code = """
class Head(nn.Module):
    def __init__(self, backbone, outputs):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.backbone(x).flatten(2).mean(2))

def tasks():
    shared = nn.Conv2d(3, 16, 8, 8)
    return {"kind": Head(shared, 4), "colour": Head(shared, 6)}, torch.zeros(1, 3, 32, 64)
"""
    said("--module", f"{write(code)}:tasks")
    network = checkpoint.load("out.safetensors").network
    assert [(task.name, task.channels) for task in network.tasks] == [("kind", 4), ("colour", 6)]
    assert len([one for one in network.operators if one.tag == "convolution"]) == 1


def test_weights_that_modules_share_are_kept_once(write) -> None:
    code = """
class Tied(Small):
    def __init__(self):
        super().__init__(16)
        self.again = self.head

    def forward(self, x):
        return self.again(super().forward(x))

def tied():
    return Tied(), torch.zeros(1, 3, 16, 32)
"""
    said("--module", f"{write(code)}:tied")
    loaded = checkpoint.load("out.safetensors").model.weights
    assert [name for name in loaded if "head" in name or "again" in name] == ["again.weight", "again.bias"]


def test_parameters_without_use_are_named(write) -> None:
    code = """
class Spare(Small):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)

def spare():
    return Spare(), torch.zeros(1, 3, 16, 32)
"""
    message = said("--module", f"{write(code)}:spare")
    assert "no result depends on spare.weight, spare.bias: left out" in message
    assert checkpoint.load("out.safetensors").assumed[0] in message


KEYS = """
class Keys(Small):
    def forward(self, x):
        y = super().forward(x)
        return RESULT

def faulty():
    return Keys(), torch.zeros(1, 3, 16, 32)
"""


def _keys(result: str) -> str:
    """A function whose module gives a dictionary."""
    return KEYS.replace("RESULT", result)


FAULTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "raises": (
        "def faulty():\n    raise KeyError('width')\n",
        ("its code fails, KeyError: 'width'", ".py, line 19"),
    ),
    "exits": (
        "import sys\ndef faulty():\n    sys.exit(3)\n",
        ("its code ends the program, sys.exit(3)", ".py, line 20"),
    ),
    "no_file": (
        "def faulty():\n    return torch.load('none.pth')\n",
        ("FileNotFoundError", "none.pth", "network_", "line 19"),
    ),
    "no_network": (
        "import urllib.request\ndef faulty():\n    urllib.request.urlopen('http://127.0.0.1:1/w')\n",
        ("URLError", "refused", "network_", "line 20"),
    ),
    "other_kind": ("def faulty():\n    return 7\n", ("gives 7, of the type int", "expected a torch.nn.Module")),
    "other_example": ("def faulty():\n    return Small(), 'big'\n", ("gives the text 'big' as its example",)),
    "arguments": ("def faulty(width):\n    return Small()\n", ("is called without arguments", "'width'")),
    "no_function": ("faulty = 3\n", ("is 3, of the type int; expected a function",)),
    "nan": (
        (
            "def faulty():\n    made = Small()\n    made.head.weight.data[0, 0] = float('nan')\n"
            "    return made, torch.zeros(1, 3, 16, 32)\n"
        ),
        ("'head.weight' has values that are not finite",),
    ),
    "forward_fails": (
        (
            "class Bad(Small):\n    def forward(self, x):\n        return self.head(x)\n"
            "def faulty():\n    return Bad(), torch.zeros(1, 3, 16, 32)\n"
        ),
        ("'out' cannot be exported", "[48, 32] X [16, 3]", "network_", ".py, line 20"),
    ),
    "by_value": (
        (
            "class Bad(Small):\n    def forward(self, x):\n        return x if x.sum() > 0 else -x\n"
            "def faulty():\n    return Bad(), torch.zeros(1, 3, 16, 32)\n"
        ),
        ("'out' cannot be exported",),
    ),
    "forward_exits": (
        (
            "import sys\nclass Bad(Small):\n    def forward(self, x):\n        sys.exit()\n"
            "def faulty():\n    return Bad(), torch.zeros(1, 3, 16, 32)\n"
        ),
        ("'out' cannot be exported: its code ends the program, sys.exit(None)", "network_", ".py, line 21"),
    ),
    "two_inputs": (
        (
            "class Bad(Small):\n    def forward(self, x, y):\n        return x\n"
            "def faulty():\n    return Bad(), torch.zeros(1, 3, 16, 32)\n"
        ),
        ("'out' cannot be exported: missing a required argument: 'y'", "before any line of its own"),
    ),
    "meta": (
        "def faulty():\n    return Small().to('meta'), torch.zeros(1, 3, 16, 32)\n",
        ("'patch.weight' is on the device meta", "make the module on cpu"),
    ),
    "lazy": (
        "def faulty():\n    return nn.LazyConv2d(8, 8, 8), torch.zeros(1, 3, 16, 32)\n",
        ("'weight' has no shape yet",),
    ),
    "constant": (
        (
            "class Bad(Small):\n    scale = torch.tensor(float('nan'))\n    def forward(self, x):\n"
            "        return super().forward(x) * self.scale\n"
            "def faulty():\n    return Bad(), torch.zeros(1, 3, 16, 32)\n"
        ),
        ("has values that are not finite",),
    ),
    "path_as_key": (_keys("{'../up': y}"), ("a task cannot be called '../up'",)),
    "empty_key": (_keys("{'': y}"), ("a task cannot be called ''",)),
    "markup_key": (_keys("{'<b>': y}"), ("a task cannot be called '<b>'",)),
    "key_all": (_keys("{'all': y}"), ("a task cannot be called 'all'",)),
    "long_key": (_keys("{'x' * 41: y}"), ("use 1 to 40 letters",)),
    "comma_key": (_keys("{'a,b': y}"), ("a task cannot be called 'a,b'",)),
    "equal_keys": (_keys("{1: y, '1': y}"), ("give each task a name of its own",)),
    "task_name": (
        "def faulty():\n    return {'a b': Small()}, torch.zeros(1, 3, 16, 32)\n",
        ("a task cannot be called 'a b'",),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_mistakes_in_the_function(fault: str, write) -> None:
    code, words = FAULTS[fault]
    message = refused("--module", f"{write(code)}:faulty")
    assert all(word in message for word in words), message


def test_names_of_tasks_are_the_keys_of_the_dictionary(write) -> None:
    name = write(_keys("{'kind': y, 'mark': y[:, :2]}"))
    said("--module", f"{name}:faulty", "--tasks", "mark,kind")
    tasks = checkpoint.load("out.safetensors").network.tasks
    assert [(task.name, task.channels) for task in tasks] == [("kind", 3), ("mark", 2)]
    Path("out.safetensors").unlink()
    message = refused("--module", f"{name}:faulty", "--tasks", "mark,colour")
    assert "the tasks are named mark, colour, but 'out' gives a dictionary with kind, mark" in message


def test_a_module_may_take_exactly_one_picture(write) -> None:
    code = """
class One(Small):
    def forward(self, x):
        return super().forward(x).reshape(1, 3) * len(x)

def one():
    return One(), torch.zeros(1, 3, 16, 32)
"""
    said("--module", f"{write(code)}:one")


def test_a_function_may_give_a_program(write) -> None:
    code = """
def program():
    return torch.export.export(Small().eval(), (torch.zeros(1, 3, 16, 32),))
"""
    said("--module", f"{write(code)}:program")


def test_mistakes_of_the_command_line(write) -> None:
    name = write("")
    assert "no module 'nowhere'" in refused("--module", "nowhere:make")
    assert f"no module '{name}'" not in refused("--module", f"{name}:mak")
    assert "has no function 'mak'; did you mean make?" in refused("--module", f"{name}:mak")
    assert "it has Small, make, with_example" in refused("--module", f"{name}:zzz")
    assert "give a module and a function in it" in refused("--module", name)
    assert "say its size with --image-size" in refused("--module", f"{name}:make")
    assert "--heads is for files of weights" in refused("--module", f"{name}:with_example", "--heads", "2")
    assert "--seed belongs to --module" in refused("x.pt2", "--seed", "2")
    assert "leave one out" in refused("x.pt2", "--module", f"{name}:make")
    assert "nothing to import" in refused()
    assert "say with --format" in refused("x.pth")
    (Path() / "broken_users_network.py").write_text("def make(:\n")
    assert "SyntaxError" in refused("--module", "broken_users_network:make")
    (Path() / "needing_users_network.py").write_text("import not_installed_here\n")
    message = refused("--module", "needing_users_network:make")
    assert "No module named 'not_installed_here'" in message and "line 1" in message


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.blocks = nn.Conv2d(3, 16, 8, 8), nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            y = y + block(y)
        return {"classes": y.mean(1)}


def saved(shape: tuple[int, ...], dynamic: dict[int, torch.export.Dim] | None = None) -> None:
    shapes = None if dynamic is None else {"x": dynamic}
    program = torch.export.export(Small().eval(), (torch.zeros(shape),), dynamic_shapes=shapes)
    torch.export.save(program, "network.pt2")


@pytest.mark.parametrize("dynamic", [None, {0: torch.export.Dim("batch")}], ids=["one", "any_number"])
def test_a_program_has_its_graph(dynamic, write) -> None:
    saved((1 if dynamic is None else 2, 3, 32, 64), dynamic)
    assert "classes (classification)" in said("network.pt2")
    network = checkpoint.load("out.safetensors").network
    assert network.places == ("blocks.0", "blocks.1") and network.image_width == 64


def test_programs_that_cannot_be_read(write) -> None:
    saved((2, 3, 32, 64))
    assert "export it with one picture" in refused("network.pt2")
    saved((1, 3, 32, 64))
    assert "takes pictures of 32x64" in refused("network.pt2", "--size", "16x16")
    whole = Path("network.pt2").read_bytes()
    Path("network.pt2").write_bytes(whole[: len(whole) // 2])
    assert "no whole program that PyTorch" in refused("network.pt2")
    Path("network.pt2").write_bytes(b"")
    assert "no whole program" in refused("network.pt2")
    Path("network.pt2").unlink()
    assert "no program at network.pt2" in refused("network.pt2")
