"""Gridded data with xarray: append day by day, correct a part on a branch, compare, merge.

A year of temperatures on a grid, made by a formula: the same in every run. Needs xarray and dask.

Run ``python examples/weather.py [URL]``.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from place import place

import hangarlake as hl

LAT, LON = np.arange(-85.0, 90.0, 5.0), np.arange(0.0, 360.0, 5.0)


def weather(first: str, days: int) -> xr.Dataset:
    """Return some days of temperature and pressure, by latitude, season and passing waves."""
    time = np.datetime64(first, "ns") + np.arange(days) * np.timedelta64(1, "D")
    day = (time - np.datetime64("2026-01-01", "ns")) / np.timedelta64(1, "D")
    t, y, x = np.meshgrid(day, np.deg2rad(LAT), np.deg2rad(LON), indexing="ij")
    wave = np.sin(4 * x - t / 3) * np.cos(y) ** 2
    temperature = 28 * np.cos(y) - 8 + 14 * np.sin(y) * -np.cos(2 * np.pi * t / 365) + 4 * wave
    pressure = 1013 + 12 * np.roll(wave, 3, axis=2)
    dims = ("time", "lat", "lon")
    return xr.Dataset(
        {
            "temperature": (dims, temperature.astype("float32"), {"units": "degC"}),
            "pressure": (dims, pressure.astype("float32"), {"units": "hPa"}),
        },
        {"time": time, "lat": LAT, "lon": LON},
    ).chunk({"time": 30})


def read(repo: hl.Repository, rev: str) -> xr.Dataset:
    """Open a revision lazily."""
    return xr.open_zarr(repo.checkout(rev).store, consolidated=False)


def main() -> None:
    with place("weather") as url:
        repo = hl.Repository.create(url, author="Ada <ada@example.org>")
        with repo.checkout("main", write=True) as w:
            weather("2026-01-01", 90).to_zarr(w.store, mode="w", consolidated=False)
            w.commit("Add the first quarter")
        for first in ("2026-04-01", "2026-06-30", "2026-09-28"):
            with repo.checkout("main", write=True) as w:
                weather(first, 90).to_zarr(w.store, append_dim="time", consolidated=False)
                commit = w.commit(f"Add 90 days from {first}")
            print(f"{commit.message}: {repo.diff(commit.parents[0], commit).summary()}")

        now = read(repo, "main")
        print(f"main holds {dict(now.sizes)}, from {str(now.time.values[0])[:10]} to {str(now.time.values[-1])[:10]}.")
        north = now.temperature.sel(lat=50).mean("lon").isel(time=slice(0, None, 90))
        print("At 50 degrees north, every 90 days:", north.values.round(1))

        repo.create_branch("calibration")
        with repo.checkout("calibration", write=True) as w:
            array = w.arrays["temperature"]
            array[60:120] = array[60:120] - np.float32(0.3)
            w.commit("Correct 60 days, in which a sensor read 0.3 degrees too much")
        changed = repo.diff("main", "calibration").arrays["temperature"].modified
        print(f"A correction on a branch changed {len(changed)} of {array_chunks(repo)} chunks: {list(changed)}")
        difference = (read(repo, "calibration") - read(repo, "main")).temperature.mean(("lat", "lon"))
        print(f"By xarray: {int((difference < -0.1).sum())} days differ, by {float(difference.min()):.2f} degrees.")

        with repo.checkout("main", write=True) as w:
            w.arrays["pressure"].attrs["units"] = "mbar"
            w.commit("Name the unit as the archive does")
        repo.merge("calibration", message="Merge the calibration")
        repo.create_tag("release-2026")
        released = read(repo, "release-2026")
        print(f"Merged: pressure in {released.pressure.units}, mean {float(released.temperature.mean()):.3f} degrees.")
        stats = repo.stats()
        print(f"{stats.commits} commits, {stats.stored_bytes / 1e6:.1f} MB stored; every one of them can be opened.")
        repo.close()


def array_chunks(repo: hl.Repository) -> int:
    """Return how many chunks the temperature has on main."""
    with repo.checkout("main") as co:
        return co.arrays["temperature"].nchunks_initialized


if __name__ == "__main__":
    main()
