"""A switch is off when its variable says so in words."""

import pytest

from tessera.common.switches import switched_on


@pytest.mark.parametrize(
    ("value", "on"), [("1", True), ("yes", True), ("", False), ("0", False), (" No", False), ("off", False)]
)
def test_a_switch_is_what_it_says(monkeypatch, value, on):
    monkeypatch.setenv("TESSERA_SWITCH", value)
    assert switched_on("TESSERA_SWITCH") is on


def test_a_variable_that_is_not_set_is_off(monkeypatch):
    monkeypatch.delenv("TESSERA_SWITCH", raising=False)
    assert not switched_on("TESSERA_SWITCH")
