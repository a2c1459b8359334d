from types import SimpleNamespace

import psutil
import pytest

from llamacpp_tools.sweep.gate import Gate, TooHot
from llamacpp_tools.sweep.heat import KEPT, HeatLog, MachineSensors, Reading, Thermometer


@pytest.fixture
def chips(monkeypatch):
    """Sets what psutil finds: {chip: [degrees]}."""

    def set_to(**found):
        values = {name: [SimpleNamespace(current=value) for value in row] for name, row in found.items()}
        monkeypatch.setattr(psutil, "sensors_temperatures", lambda: values, raising=False)

    return set_to


def test_the_hottest_chip_counts_and_a_drive_does_not(chips, tmp_path):
    chips(nvme=[99.0], k10temp=[61.5, 60.0], amdgpu=[58.0], acpitz=[90.0])
    assert MachineSensors(gpu=False, drm=tmp_path).read().temperature_c == 61.5


def test_a_chassis_sensor_serves_where_there_is_no_other(chips, tmp_path):
    chips(acpitz=[40.0], nvme=[70.0])
    assert MachineSensors(gpu=False, drm=tmp_path).read().temperature_c == 40.0


def test_a_machine_without_sensors_gives_no_temperature(chips, tmp_path):
    chips(nvme=[40.0])
    assert MachineSensors(gpu=False, drm=tmp_path).read().temperature_c is None


def test_a_gpus_clock_and_power_are_read_from_its_folder(chips, tmp_path):
    chips(amdgpu=[50.0])
    folder = tmp_path / "card0" / "device" / "hwmon" / "hwmon3"
    folder.mkdir(parents=True)
    (folder / "freq1_input").write_text("2900000000\n")
    (folder / "power1_average").write_text("85000000\n")
    reading = MachineSensors(gpu=True, drm=tmp_path).read()
    assert (reading.clock_mhz, reading.power_w) == (2900.0, 85.0)
    (folder / "freq1_input").write_text("nonsense\n")
    assert MachineSensors(gpu=True, drm=tmp_path).read().clock_mhz is None


def test_a_long_rounds_log_is_thinned_out_from_its_beginning_to_its_end():
    log = HeatLog()
    for second in range(5000):
        log.take(float(second), Reading(50.0, 3000.0))
    assert len(log.at_s) == len(log.temperature_c) == len(log.power_w) <= KEPT
    assert (log.at_s[0], log.at_s[-1]) == (0.0, 4999.0)


class Once:
    """Counts how often it is looked at."""

    def __init__(self, reading=None):
        self.looks = 0
        self.reading = reading or Reading()

    def read(self):
        self.looks += 1
        return self.reading


def test_the_sensors_are_looked_at_once_a_second_at_most():
    sensors, now = Once(), [0.0]
    thermometer = Thermometer(sensors, clock=lambda: now[0])
    for tenth in range(31):
        now[0] = tenth / 10
        thermometer.look()
    assert sensors.looks == 4


def test_a_machine_without_a_sensor_is_not_waited_for(limits):
    gate = Gate(Thermometer(Once()), limits, sleep=lambda seconds: pytest.fail("it waited"))
    assert gate.wait() is False


def test_a_hot_machine_is_waited_for_in_vain(limits):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    gate = Gate(Thermometer(Once(Reading(85.0)), lambda: now[0]), limits, wait_s=5.0, sleep=sleep)
    with pytest.raises(TooHot, match="stays at 85 °C"):
        gate.wait()
    assert now[0] == pytest.approx(5.0)
