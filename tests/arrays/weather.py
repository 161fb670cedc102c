"""Deterministic data like that of weather services: coordinates, CF attributes, times, strings, missing values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr


def weather(hours: int = 24, start: str = "2026-01-01", *, side: int = 12) -> xr.Dataset:
    """Return a dataset of some hours on a grid of side × 2 side points."""
    rng = np.random.default_rng(7)
    lat = np.linspace(-60, 60, side)
    lon = np.linspace(0, 345, 2 * side)
    time = pd.date_range(start, periods=hours, freq="h")
    first = (time[0] - pd.Timestamp("2026-01-01")) // pd.Timedelta("1h")
    clock = np.arange(first, first + hours)
    wave = 15 * np.cos(np.deg2rad(lat))[None, :, None] + 5 * np.sin(2 * np.pi * clock / 24)[:, None, None]
    temperature = (wave + rng.normal(0, 1, (hours, side, 2 * side)) + 273).astype("f4")
    temperature[:, 0, 0] = np.nan
    rain = rng.gamma(0.3, 2.0, temperature.shape).astype("f4")
    stations = np.array(["Ålesund", "Bern", "Curaçao", "東京"])
    return xr.Dataset(
        {
            "t2m": (
                ("time", "lat", "lon"),
                temperature,
                {"units": "K", "standard_name": "air_temperature", "valid_range": [180.0, 340.0]},
            ),
            "tp": (("time", "lat", "lon"), rain, {"units": "mm", "long_name": "total precipitation"}),
            "elevation": (("lat", "lon"), rng.integers(-10, 4000, (side, 2 * side)).astype("i2")),
            "station_name": (("station",), stations),
        },
        coords={
            "time": ("time", time, {"standard_name": "time"}),
            "lat": ("lat", lat, {"units": "degrees_north", "axis": "Y"}),
            "lon": ("lon", lon, {"units": "degrees_east", "axis": "X"}),
            "station": ("station", np.arange(4)),
        },
        attrs={"title": "Deterministic weather", "Conventions": "CF-1.11", "missing": float("nan"), "levels": [1, 2]},
    )
