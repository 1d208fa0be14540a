"""Which compiled library is loaded, and what is said where there is none."""

import importlib.util
import json
import os
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch

from glocal.errors import ArgumentError, GlocalWarning
from glocal.ops.kernels import build, native
from glocal.ops.kernels.library import kernels, library, select

ROOT = Path(__file__).parents[2]
ALL = frozenset(build.VARIANTS)
AVX2 = frozenset({"fma", "avx2"})
EVERY = frozenset(build.FEATURES)

x86 = pytest.mark.skipif("avx2" not in build.VARIANTS, reason="other processors have one variant")
posix = pytest.mark.skipif(sys.platform == "win32", reason="the compiler is a shell script")
built = pytest.mark.skipif(kernels().library is None, reason=kernels().reason)


@pytest.fixture(autouse=True)
def load_anew(monkeypatch):
    """Each test loads the library again, and so does whatever follows."""
    for cached in (library, kernels):
        cached.cache_clear()
    monkeypatch.delenv("GLOCAL_KERNELS", raising=False)
    yield
    monkeypatch.undo()
    for cached in (library, kernels):
        cached.cache_clear()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder of libraries."""
    monkeypatch.setattr(build, "BUILT", tmp_path)
    return tmp_path


def compiler(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@x86
def test_the_fastest_variant_that_the_processor_runs_is_selected():
    assert select("", ALL, EVERY) == "avx512"
    assert select("", ALL, EVERY - {"avx512vl"}) == "avx2"
    assert select("", ALL, AVX2) == "avx2"
    assert select("", ALL, {"avx2"}) == "baseline"  # without fma
    assert select("", {"baseline", "avx512"}, AVX2) == "baseline"


def test_the_baseline_needs_nothing():
    assert select("", ALL, ()) == "baseline"
    assert select("baseline", ALL, EVERY) == "baseline"


@x86
def test_a_variant_that_cannot_run_is_refused():
    with pytest.raises(ArgumentError, match="avx512 needs a processor with avx512f, avx512dq"):
        select("avx512", ALL, AVX2)
    with pytest.raises(ArgumentError, match=r"avx2 is not built; run python .*build\.py"):
        select("avx2", {"baseline"}, EVERY)


@pytest.mark.parametrize("value", ["fast", "/tmp/avx2.so", "../built/baseline", "1"])
def test_only_names_of_variants_are_accepted(monkeypatch, value):
    monkeypatch.setenv("GLOCAL_KERNELS", value)
    with pytest.raises(ArgumentError, match=r"is unknown; set one of baseline.* or 0"):
        kernels()


def test_the_environment_variable_turns_them_off(monkeypatch):
    monkeypatch.setenv("GLOCAL_KERNELS", "0")
    assert kernels().reason == "GLOCAL_KERNELS=0 turns them off"
    assert not native.takes(torch.zeros(1, 1, 8, 8))


@built
def test_the_environment_variable_names_a_variant(monkeypatch):
    monkeypatch.setenv("GLOCAL_KERNELS", "baseline")
    found = kernels()
    assert (found.variant, found.reason) == ("baseline", "")
    assert found.file == build.BUILT / build.file_name("baseline")


@built
def test_libraries_elsewhere_are_not_loaded(monkeypatch, tmp_path):
    """Not those in the user's cache, on the library path or in the working directory."""
    cache = tmp_path / "glocal"
    cache.mkdir()
    for place in (tmp_path, cache):
        shutil.copy(build.BUILT / build.file_name("baseline"), place)
    monkeypatch.setattr(build, "BUILT", tmp_path / "nothing")
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CACHE_HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    assert kernels().library is None


def test_without_libraries_the_reason_is_given(monkeypatch, folder):
    assert "not built: the installed wheel has none" in kernels().reason
    assert not native.takes(torch.zeros(1, 1, 8, 8))
    kernels.cache_clear()
    (folder / build.REASON).write_text("no C++ compiler was found\n")
    assert kernels().reason == (
        f"not built: no C++ compiler was found. To build them, run python {build.__file__}"
    )
    kernels.cache_clear()
    monkeypatch.setenv("GLOCAL_KERNELS", "baseline")
    with pytest.raises(ArgumentError, match="baseline cannot be used: not built"):
        kernels()


@built
@pytest.mark.parametrize("threads", [1, 3])
def test_every_source_of_threads_gives_the_same_result(threads):
    x = torch.randn(2, 19, 40, 50)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        wanted = native.instance_norm(x, (16, 20), None, None, 1e-5)
        kernels().library.glocal_use_openmp(None)
        assert torch.equal(native.instance_norm(x, (16, 20), None, None, 1e-5), wanted)
    finally:
        torch.set_num_threads(before)  # the library is loaded anew, with torch's threads


@pytest.fixture
def copies(monkeypatch, tmp_path):
    """A folder of one's own with copies of the libraries."""
    shutil.copytree(build.BUILT, tmp_path / "built")
    monkeypatch.setattr(build, "BUILT", tmp_path / "built")
    return tmp_path / "built"


@pytest.fixture
def never_loaded(monkeypatch):
    """Loading a library fails the test."""

    def load(path):
        raise AssertionError(f"{path} was loaded")

    monkeypatch.setattr("glocal.ops.kernels.library.ctypes.CDLL", load)


def refusal():
    with pytest.warns(GlocalWarning, match="torch alone is used, more slowly"):
        found = kernels()
    assert found.library is None
    assert "run python" in found.reason
    return found.reason


@built
def test_a_library_of_other_sources_is_refused(monkeypatch, never_loaded):
    monkeypatch.setattr(build, "digest", lambda: "another")
    assert "was built from other sources. To build it again" in refusal()


@built
@pytest.mark.parametrize("change", ["truncated", "one bit", "foreign", "empty"])
def test_a_damaged_library_is_refused_before_it_is_loaded(change, copies, never_loaded):
    path = copies / build.file_name("baseline")
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    changed = {"truncated": data[:9000], "one bit": data, "foreign": b"\x7fELF", "empty": b""}
    path.write_bytes(changed[change])
    assert "is damaged or was replaced" in refusal()


@built
@pytest.mark.parametrize("text", [None, "", "{}", '{"sources": 1, "libraries": {}}', "[" * 9999])
def test_a_library_without_a_digest_is_refused(text, copies, never_loaded):
    manifest = copies / build.MANIFEST
    manifest.unlink() if text is None else manifest.write_text(text)
    assert f"has no digest in {build.MANIFEST}" in refusal()


@built
@posix
@pytest.mark.parametrize("name", ["", build.file_name("baseline")])
def test_a_library_that_others_may_write_to_is_refused(name, copies, never_loaded):
    place = copies / name
    place.chmod(place.stat().st_mode | 0o002)
    assert f"other users may write to {place}" in refusal()


@built
@posix
def test_the_owner_of_a_library_is_trusted_with_code_already(monkeypatch, copies, never_loaded):
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    owners = {str(copies): 12345}
    real = Path.stat

    def stat(path, **options):
        found = real(path, **options)
        owner = owners.get(str(path), found.st_uid)
        return os.stat_result((*found[:4], owner, *found[5:]))

    monkeypatch.setattr(Path, "stat", stat)
    assert f"other users may write to {copies}" in refusal()


@built
@x86
def test_a_slower_variant_takes_the_place_of_a_damaged_one(monkeypatch, copies):
    best = kernels().variant
    if best == "baseline":
        pytest.skip("the processor runs the baseline alone")
    kernels.cache_clear()
    path = copies / build.file_name(best)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.warns(GlocalWarning, match=r"damaged .* the \w+ kernels are used, more slowly"):
        found = kernels()
    assert found.library is not None
    assert found.variant != best
    assert "is damaged or was replaced" in found.skipped
    kernels.cache_clear()
    monkeypatch.setenv("GLOCAL_KERNELS", best)
    with pytest.raises(ArgumentError, match=r"cannot be used: .* is damaged or was replaced"):
        kernels()


@posix
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo 'In file included from a.h' >&2; echo 'a.h:1: error: no' >&2; exit 3",
            "failed with status 3: a.h:1: error: no",
        ),
        ("exit 1", "failed with status 1: "),
    ],
)
def test_a_failing_compiler_gives_one_line(monkeypatch, tmp_path, script, reason):
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", script))
    monkeypatch.setattr(build, "BUILT", tmp_path / "built")
    said = build.try_build(build.BUILT)
    assert said == f"{tmp_path}/cxx {reason}"
    assert "\n" not in said
    assert [path.name for path in build.BUILT.iterdir()] == [build.REASON]
    assert said.strip() in kernels().reason


def test_a_missing_compiler_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert build.try_build(tmp_path) == "the C++ compiler CXX=no-such-compiler was not found"
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    assert "no C++ compiler was found (tried " in build.try_build(tmp_path)


@posix
def test_the_compiler_may_have_options(monkeypatch, tmp_path):
    log = tmp_path / "log"
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", f'echo "$@" >> {log}; exit 1') + " -v")
    build.try_build(tmp_path)
    assert log.read_text().startswith("-v -std=c++17")


@pytest.fixture
def hook(monkeypatch, tmp_path):
    """The build hook, with a stand-in for hatchling's class, and what it said."""
    interface = types.ModuleType("hatchling.builders.hooks.plugin.interface")
    interface.BuildHookInterface = type("Hook", (), {"__class_getitem__": lambda cls, _: cls})
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    for parent in ("", ".builders", ".builders.hooks", ".builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, f"hatchling{parent}", types.ModuleType("parent"))
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hook = module.KernelsHook()
    hook.root = str(ROOT)
    hook.said = []
    hook.app = types.SimpleNamespace(display_warning=hook.said.append)
    return hook


def built_with(hook):
    data = {"force_include": {}}
    hook.initialize("standard", data)
    included = {name: Path(path).read_bytes() for path, name in data["force_include"].items()}
    hook.finalize("standard", data, "")
    assert not any(Path(path).exists() for path in data["force_include"])
    return data, {Path(name).name: content for name, content in included.items()}


@posix
def test_a_wheel_without_compiler_is_pure_and_says_so_once(monkeypatch, tmp_path, hook):
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", "exit 1"))
    data, included = built_with(hook)
    assert "tag" not in data
    assert "pure_python" not in data
    assert [*included] == [build.REASON]
    assert len(hook.said) == 1
    assert "the kernels were not built:" in hook.said[0]
    monkeypatch.setenv("GLOCAL_REQUIRE_KERNELS", "1")
    with pytest.raises(RuntimeError, match="the kernels were not built"):
        hook.initialize("standard", data)
    hook.finalize("standard", data, "")


@posix
def test_a_wheel_with_kernels_serves_one_platform(monkeypatch, tmp_path, hook):
    compile_nothing = 'while [ "$1" != -o ]; do shift; done; echo library > "$2"'
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", compile_nothing))
    data, included = built_with(hook)
    assert data["pure_python"] is False
    assert data["tag"].startswith("py3-none-")
    assert data["tag"] != "py3-none-any"
    manifest = json.loads(included.pop(build.MANIFEST))
    assert manifest["sources"] == build.digest()
    assert manifest["libraries"].keys() == included.keys()
    assert included == {build.file_name(variant): b"library\n" for variant in build.VARIANTS}
    assert not hook.said


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("linux-x86_64", "linux_x86_64"),
        ("win-amd64", "win_amd64"),
        ("macosx-11.0-arm64", "macosx_11_0_arm64"),
        ("macosx-10.9-universal2", "macosx_11_0_arm64"),
    ],
)
def test_a_wheel_is_tagged_with_what_is_compiled(monkeypatch, hook, name, tag):
    monkeypatch.setattr("sysconfig.get_platform", lambda: name)
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert hook.initialize.__globals__["_platform"]() == tag
