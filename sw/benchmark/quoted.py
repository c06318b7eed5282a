"""Published accelerators for mixture-of-experts vision transformers: their figures as their authors give them."""

from __future__ import annotations

from typing import Any

QUOTED: tuple[dict[str, Any], ...] = (
    {
        "name": "Edge-MoE (ICCAD 2023)",
        "board": "ZCU102",
        "clock_mhz": 300,
        "precision": "W16 A32",
        "latency_ms": 34.64,
        "power_w": 14.54,
        "mac_utilisation": 0.235,
    },
    {
        "name": "UbiMoE (2025)",
        "board": "ZCU102",
        "clock_mhz": 300,
        "precision": "W16 A32",
        "latency_ms": 25.76,
        "power_w": 11.50,
        "mac_utilisation": 0.11,
    },
    {
        "name": "CoQMoE (2025)",
        "board": "ZCU102",
        "clock_mhz": 300,
        "precision": "W8 A8, attention map 4 bit",
        "latency_ms": 6.47,
        "power_w": 9.83,
        "mac_utilisation": 0.23,
    },
)
"""M3ViT-Tiny; latency and power are quoted from the papers, ``mac_utilisation`` is computed from their multipliers and
clock for 129 tokens (782.7 million multiply-accumulates a frame)."""
