"""What the machine's sensors say while a round runs: temperature, clocks, power.

Chips that warm up with the work are read (amdgpu, k10temp, zenpower, coretemp, cpu_thermal and the NVIDIA library
where it is installed); drives, power supplies and radios are not. A machine without sensors, as virtual ones are,
gives readings without a temperature, and nothing is gated on it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil

CHIPS = ("amdgpu", "k10temp", "zenpower", "coretemp", "cpu_thermal", "acpitz", "soc_thermal")
# A chassis sensor says little about the chip; it counts only where there is nothing better.
LAST_RESORT = ("acpitz",)
EVERY_S = 1.0
KEPT = 240


@dataclass(frozen=True)
class Reading:
    """One look at the sensors; what cannot be read is None.

    Attributes:
        temperature_c: the hottest of the chips.
        clock_mhz: the fastest core's clock, or the GPU's where that is what is read.
        power_w: the GPU's power.
    """

    temperature_c: float | None = None
    clock_mhz: float | None = None
    power_w: float | None = None


class Sensors(Protocol):
    """Anything that can be looked at."""

    def read(self) -> Reading:
        """One look; never raises."""


class MachineSensors:
    """This machine's own sensors, through psutil, sysfs and, if installed, the NVIDIA library."""

    def __init__(self, gpu: bool, drm: Path = Path("/sys/class/drm")) -> None:
        """Find out what is there.

        Args:
            gpu: the model runs on a GPU, so its clock counts and not the CPU's.
            drm: sysfs' folder of graphics cards.
        """
        self._gpu = gpu
        self._amd = sorted(drm.glob("card*/device/hwmon/hwmon*")) if gpu and drm.is_dir() else []
        self._nvidia = _nvidia() if gpu else None

    def read(self) -> Reading:
        """The hottest chip, the fastest clock, the power drawn."""
        temperatures = [*_temperatures()]
        clock = power = None
        if self._nvidia is not None:
            nvml, handle = self._nvidia
            with contextlib.suppress(nvml.NVMLError):
                temperatures.append(float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)))
                clock = float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
                power = nvml.nvmlDeviceGetPowerUsage(handle) / 1e3
        for folder in self._amd:
            clock = clock or _scaled(folder / "freq1_input", 1e-6)
            power = (
                power or _scaled(folder / "power1_average", 1e-6) or _scaled(folder / "power1_input", 1e-6)
            )
        hottest: float | None = max(temperatures, default=None)
        return Reading(hottest, clock if self._gpu else _cpu_clock(), power)


@dataclass
class HeatLog:
    """The readings of one round, about one a second.

    Attributes:
        at_s: seconds since the round began.
    """

    at_s: list[float] = field(default_factory=list)
    temperature_c: list[float | None] = field(default_factory=list)
    clock_mhz: list[float | None] = field(default_factory=list)
    power_w: list[float | None] = field(default_factory=list)

    def take(self, at_s: float, reading: Reading) -> None:
        """Add a reading; a long round's are thinned out to every other one."""
        self.at_s.append(round(at_s, 2))
        self.temperature_c.append(reading.temperature_c)
        self.clock_mhz.append(reading.clock_mhz)
        self.power_w.append(reading.power_w)
        if len(self.at_s) > KEPT:
            for values in (self.at_s, self.temperature_c, self.clock_mhz, self.power_w):
                del values[1:-1:2]


@dataclass
class Thermometer:
    """Looks at the sensors once a second at most, however often it is asked.

    Attributes:
        sensors: what is looked at.
        clock: monotonic seconds.
    """

    sensors: Sensors
    clock: Callable[[], float] = time.monotonic
    last: Reading = field(default_factory=Reading)
    _at: float | None = None

    def look(self) -> Reading | None:
        """A new reading, None if the last one is fresh."""
        now = self.clock()
        if self._at is not None and now - self._at < EVERY_S:
            return None
        self._at = now
        self.last = self.sensors.read()
        return self.last


def _temperatures() -> list[float]:
    # Not every system that psutil runs on has the call.
    read: Callable[[], dict[str, list[Any]]] | None = getattr(psutil, "sensors_temperatures", None)
    if read is None:
        return []
    with contextlib.suppress(OSError, ValueError):
        found = {chip: values for chip, values in read().items() if chip in CHIPS}
        best = {chip: values for chip, values in found.items() if chip not in LAST_RESORT} or found
        return [float(value.current) for values in best.values() for value in values if value.current]
    return []


def _cpu_clock() -> float | None:
    with contextlib.suppress(OSError, ValueError, NotImplementedError, AttributeError):
        clocks = [float(core.current) for core in psutil.cpu_freq(percpu=True) or []]
        fastest = max(clocks, default=0.0)
        return round(fastest, 1) if fastest else None
    return None


def _scaled(path: Path, factor: float) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        return float(path.read_text(encoding="ascii")) * factor
    return None


def _nvidia() -> tuple[Any, Any] | None:
    with contextlib.suppress(Exception):  # the library raises errors of its own where no driver is
        import pynvml

        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    return None
