/* Stands in for NVIDIA's management library: GPU 0, also called GPU-5f3e, tells what environment variables say. */
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6 };

static int gpu;

static int tell(const char *name, unsigned long long *value) {
    const char *said = getenv(name);
    if (said == NULL) return NOT_SUPPORTED;
    *value = strtoull(said, NULL, 10);
    return OK;
}

static int tell_int(const char *name, unsigned int *value) {
    unsigned long long said;
    int status = tell(name, &said);
    if (status == OK) *value = (unsigned int)said;
    return status;
}

int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = &gpu;
    return index == 0 ? OK : NOT_FOUND;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    *device = &gpu;
    return strcmp(uuid, "GPU-5f3e") == 0 ? OK : NOT_FOUND;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *mw) { return tell_int("NVML_POWER", mw); }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj) { return tell("NVML_ENERGY", mj); }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *c) { return tell_int("NVML_TEMP", c); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *bits) { return tell("NVML_REASONS", bits); }

int nvmlDeviceGetClockInfo(void *device, int which, unsigned int *mhz) {
    return tell_int(which == 1 ? "NVML_CLOCK" : "NVML_MEMORY_CLOCK", mhz);
}
