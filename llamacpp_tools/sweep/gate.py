"""Heat's say in a sweep: a round begins only on a cool machine, and none goes on above the limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from llamacpp_tools.sweep.config import ThermalConfig
from llamacpp_tools.sweep.heat import HeatLog, Thermometer

# A machine that has not cooled down by then will not: the room is too warm, or something else heats it.
WAIT_S = 1800.0
LOOK_S = 0.5

OnWait = Callable[[float, float], None]


class TooHot(Exception):
    """The sweep has to stop; the message says why."""


@dataclass
class Gate:
    """Watches the sensors for a sweep.

    Attributes:
        thermometer: what is looked at.
        limits: `abort_c` and `resume_c`; None to log only.
        wait_s: how long to wait for the machine to cool down.
        sleep: waits so many seconds.
    """

    thermometer: Thermometer
    limits: ThermalConfig | None = None
    wait_s: float = WAIT_S
    sleep: Callable[[float], None] = time.sleep

    def wait(self, on_wait: OnWait = lambda now_c, until_c: None) -> bool:
        """Return once the machine is cool enough for a round; True if that took any waiting.

        Args:
            on_wait: called with (temperature, temperature to reach) at each look while it waits.

        Raises:
            TooHot: it does not cool down.
        """
        if self.limits is None:
            return False
        waited = 0.0
        while True:
            reading = self.thermometer.look() or self.thermometer.last
            if reading.temperature_c is None or reading.temperature_c <= self.limits.resume_c:
                return waited > 0
            if waited >= self.wait_s:
                raise TooHot(
                    f"the machine stays at {reading.temperature_c:.0f} °C and does not cool down to `resume_c`,"
                    f" {self.limits.resume_c:g} °C"
                )
            on_wait(reading.temperature_c, self.limits.resume_c)
            self.sleep(LOOK_S)
            waited += LOOK_S

    def last_look(self, log: HeatLog, at_s: float) -> None:
        """Add a reading at the end of a round, which may have been too short for any other."""
        log.take(at_s, self.thermometer.sensors.read())

    def watcher(self, log: HeatLog, and_then: Callable[[], None] = lambda: None) -> Callable[[], None]:
        """What to call while a round runs: fills `log`, and raises `TooHot` above the limit.

        Args:
            log: the round's readings.
            and_then: called each time, too.
        """
        begun = self.thermometer.clock()

        def watch() -> None:
            reading = self.thermometer.look()
            if reading is not None:
                log.take(self.thermometer.clock() - begun, reading)
                now_c = reading.temperature_c
                if self.limits is not None and now_c is not None and now_c > self.limits.abort_c:
                    raise TooHot(f"{now_c:.0f} °C is above `abort_c`, {self.limits.abort_c:g} °C")
            and_then()

        return watch
