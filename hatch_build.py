"""The build hook: compile the kernels into a wheel, or into the source tree if it is editable.

A wheel with kernels is tagged py3-none-<platform>: the libraries need neither Python's nor torch's
headers. Without a working compiler the wheel is py3-none-any, and the build says why in one line.
``GLOCAL_REQUIRE_KERNELS=1`` turns that line into an error.
"""

import importlib.util
import os
import platform
import re
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = Path("src/glocal/ops/kernels")


class KernelsHook(BuildHookInterface[Any]):
    """Adds the libraries to the wheel, or the reason why there are none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and set the wheel's tag and contents."""
        build = _load(Path(self.root) / KERNELS / "build.py")
        if version == "editable":
            folder = build.BUILT
        else:
            self._temporary = tempfile.TemporaryDirectory()
            folder = Path(self._temporary.name)
        reason = build.try_build(folder)
        if reason and os.environ.get("GLOCAL_REQUIRE_KERNELS") == "1":
            raise RuntimeError(f"the kernels were not built: {reason}")
        if reason:
            self.app.display_warning(
                f"glocal: the kernels were not built: {reason}. glocal works without them, more "
                "slowly; `glocal doctor` tells how to build them later."
            )
        else:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"
        if version != "editable":
            names = (
                [build.REASON]
                if reason
                else [*map(build.file_name, build.VARIANTS), build.MANIFEST]
            )
            for name in names:
                build_data["force_include"][str(folder / name)] = f"glocal/ops/kernels/built/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Delete the temporary libraries."""
        if version != "editable":
            self._temporary.cleanup()


def _load(path: Path) -> ModuleType:
    """A module by its path: glocal itself cannot be imported before it is installed."""
    spec = importlib.util.spec_from_file_location("glocal_kernels_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform() -> str:
    """The platform tag of what the compiler builds."""
    name = sysconfig.get_platform()
    if name.endswith("universal2"):  # of the two architectures, the compiler builds this one
        name = f"macosx-11.0-{platform.machine()}"
    return re.sub(r"[-.]", "_", name)
