"""NVIDIA's management library through ctypes: what a GPU says of its power, energy, heat and clocks.

Names, argument types and units: NVML API Reference Guide (nvml.h). Nothing has to be installed but the driver.
"""

import ctypes
from typing import Any, Dict, Optional, Tuple

_LIBRARY = "libnvidia-ml.so.1"
_OK = 0
# nvmlClockType_t SM and MEM, nvmlTemperatureSensors_t GPU.
_SM, _MEMORY, _GPU = 1, 2, 0
# nvmlClocksEventReason bits that are no throttling: idle (0x1), clocks that somebody asked for (0x2, 0x100).
_CHOSEN = 0x1 | 0x2 | 0x100
# Quantity: function, first argument after the device, type of the result, factor to mW, uJ, °C, MHz.
_CALLS: Dict[str, Tuple[str, Optional[int], Any, float]] = {
    "power": ("nvmlDeviceGetPowerUsage", None, ctypes.c_uint, 1.0),
    "energy": ("nvmlDeviceGetTotalEnergyConsumption", None, ctypes.c_ulonglong, 1000.0),  # told in mJ
    "temp": ("nvmlDeviceGetTemperature", _GPU, ctypes.c_uint, 1.0),
    "clock": ("nvmlDeviceGetClockInfo", _SM, ctypes.c_uint, 1.0),
    "memory_clock": ("nvmlDeviceGetClockInfo", _MEMORY, ctypes.c_uint, 1.0),
    "throttle": ("nvmlDeviceGetCurrentClocksThrottleReasons", None, ctypes.c_ulonglong, 1.0),
}


class Device:
    """One GPU, by its number in PCI order or by its UUID; OSError where there is no driver or no such GPU.

    The number is the library's: CUDA_VISIBLE_DEVICES does not change it, so a UUID is the safer name.
    """

    def __init__(self, name: str) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        if self._library.nvmlInit_v2() != _OK:
            raise OSError("{} finds no driver that answers".format(_LIBRARY))
        self._handle = ctypes.c_void_p()
        if name.isdigit():
            status = self._library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(name)), ctypes.byref(self._handle))
        else:
            status = self._library.nvmlDeviceGetHandleByUUID(name.encode("ascii"), ctypes.byref(self._handle))
        if status != _OK:
            self.close()
            raise OSError("{} knows no GPU {}".format(_LIBRARY, name))

    def read(self, what: str) -> Optional[float]:
        """mW, uJ, °C, MHz, or reasons of throttling as bits; None where this GPU does not tell (a Jetson's power)."""
        function, argument, kind, factor = _CALLS[what]
        call = getattr(self._library, function, None)
        if call is None:
            return None
        told = kind()
        arguments = [] if argument is None else [ctypes.c_uint(argument)]
        if call(self._handle, *(arguments + [ctypes.byref(told)])) != _OK:
            return None
        if what == "throttle":
            return float(told.value & ~_CHOSEN)
        # A GPU that is on draws power and has run: 0 is how some say that they do not know.
        return float(told.value) * factor if told.value or what not in ("power", "energy") else None

    def close(self) -> None:
        """End our use of the library."""
        self._library.nvmlShutdown()
