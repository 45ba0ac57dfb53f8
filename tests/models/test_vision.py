"""models.vision: timm beside a CPU-only torch."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_timm_imports_and_runs_in_a_fresh_process() -> None:
    code = (
        "from models.vision import import_timm; import torch\n"
        "import_timm(); timm = import_timm()\n"
        "net = timm.create_model('mobilenetv3_small_050', num_classes=7).eval()\n"
        "print(tuple(net(torch.zeros(1, 3, 32, 32)).shape))"
    )
    assert "(1, 7)" == run(code)


def test_without_timm_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['timm'] = None; sys.modules['torchvision'] = None\n"
        "from hwbench.errors import ConfigError; from models.vision import import_timm\n"
        "try: import_timm()\n"
        "except ConfigError as error: print(error)"
    )
    assert "extra `search`" in run(code)
