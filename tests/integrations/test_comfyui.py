"""The nodes for ComfyUI, in the ComfyUI of a checkout, through its HTTP API.

GLOCAL_COMFYUI names the checkout, GLOCAL_COMFYUI_PYTHON the Python that has what it requires.
"""

import importlib
import json
import os
import sys
import tomllib
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from comfyui_server import PACK, ComfyUI, Events
from safetensors.torch import save_file

import glocal
from glocal.networks import NAFNet, spandrel_network

CHECKOUT = os.environ.get("GLOCAL_COMFYUI")
WORKFLOWS = PACK / "example_workflows"
HEIGHT, WIDTH = 400, 500

runs_comfyui = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHECKOUT, reason="GLOCAL_COMFYUI names no checkout of ComfyUI"),
]


@pytest.fixture(scope="module")
def network():
    """The network of the file, as glocal reads it."""
    return glocal.load("nafnet-motion-blur")


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory, network):
    folder = tmp_path_factory.mktemp("comfyui")
    server = ComfyUI(
        Path(CHECKOUT), os.environ.get("GLOCAL_COMFYUI_PYTHON", sys.executable), folder
    )
    try:
        torch.save({"params": network.state_dict()}, server.models / "blur.pth")
        slow = NAFNet(3, 32, 12, [1, 1], [1, 1])
        save_file(slow.state_dict(), server.models / "slow.safetensors", {"train_size": "64"})
        save_file(slow.state_dict(), server.models / "unknown.safetensors")
        glocal.write_image(server.input / "example.png", glocal.Image(photo()))
        server.wait()
        yield server
    finally:
        server.stop()


def photo():
    """A part of a photograph: larger than windows, smaller than ComfyUI's tiles."""
    path = Path(__file__).parents[2] / "examples" / "handshake.jpg"
    return glocal.read_image(path).pixels[300 : 300 + HEIGHT, 500 : 500 + WIDTH]


def workflow(name):
    """A workflow of the pack, in the API's format, for the files of the test."""
    prompt = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())
    for node in prompt.values():
        if "model_name" in node["inputs"]:
            node["inputs"]["model_name"] = "blur.pth"
        if "train_size" in node["inputs"]:
            node["inputs"]["train_size"] = 64
    return prompt


def close(found, expected):
    """True if no 8-bit value differs by more than one."""
    return np.abs(found.astype(int) - expected.astype(int)).max() <= 1


class TestInComfyUI:
    pytestmark = runs_comfyui

    def test_it_lists_the_nodes(self, comfyui):
        found = {
            name: comfyui.ask(f"object_info/{name}")[name]
            for name in ("GlocalLocalize", "GlocalRestore", "GlocalScan")
        }
        assert {name: (node["display_name"], node["output"]) for name, node in found.items()} == {
            "GlocalLocalize": ("Localize (TLC)", ["UPSCALE_MODEL"]),
            "GlocalRestore": ("Restore (glocal)", ["IMAGE"]),
            "GlocalScan": ("Scan (glocal)", ["STRING"]),
        }
        models = found["GlocalRestore"]["input"]["required"]["model"][1]["options"]
        assert {"nafnet-motion-blur", "blur.pth", "slow.safetensors"} <= set(models)

    def test_it_offers_the_workflows_as_templates(self, comfyui):
        names = comfyui.ask("api/workflow_templates")["glocal-tlc"]
        assert sorted(names) == ["localize-upscale-model", "restore-photograph"]

    def test_a_photograph_is_restored_as_by_glocal(self, comfyui, network):
        shown = comfyui.pixels(comfyui.run(workflow("restore-photograph")), "3")
        local = glocal.localize(network, statistics="auto")
        assert close(shown, glocal.restore(local, photo()))

    def test_tiles_show_no_seams(self, comfyui, network):
        prompt = workflow("restore-photograph")
        prompt["2"]["inputs"]["tile_size"] = 256
        shown = comfyui.pixels(comfyui.run(prompt), "3")
        assert close(shown, glocal.restore(glocal.localize(network, statistics="auto"), photo()))

    @pytest.mark.parametrize(("statistics", "window"), [("auto", 0), ("windows", 80), ("crops", 0)])
    def test_every_node_takes_a_localized_model(self, comfyui, network, statistics, window):
        prompt = workflow("localize-upscale-model")
        prompt["3"]["inputs"] |= {"statistics": statistics, "window": window}
        done = comfyui.run(prompt)
        local = glocal.localize(network, 64, window=window or None, statistics=statistics)
        expected = glocal.restore(local, photo())
        assert close(comfyui.pixels(done, "5"), expected)  # Restore
        assert close(comfyui.pixels(done, "7"), expected)  # Upscale Image (using Model)
        assert not close(expected, glocal.restore(network, photo()))

    @pytest.mark.parametrize(
        ("name", "arguments", "scale"),
        [
            (
                "RCAN",
                {"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 16, "norm": False},
                2,
            ),
            ("MixDehazeNet", {"embed_dims": [8] * 5, "depths": [1] * 5}, 1),  # of certain sizes
        ],
    )
    def test_models_that_enlarge_or_need_certain_sizes(
        self, comfyui, spandrel, name, arguments, scale
    ):
        module = importlib.import_module(f"spandrel.architectures.{name}")
        state_dict = oracles.randomise(getattr(module, name)(**arguments), seed=3).state_dict()
        torch.save(state_dict, comfyui.models / f"{name}.pth")
        image = photo()[:61, :75]
        glocal.write_image(comfyui.input / "small.png", glocal.Image(image))
        prompt = workflow("localize-upscale-model")
        prompt["1"]["inputs"]["image"] = "small.png"
        prompt["2"]["inputs"]["model_name"] = f"{name}.pth"
        prompt["3"]["inputs"] |= {"train_size": 32, "statistics": "windows"}
        done = comfyui.run(prompt)
        descriptor = spandrel.ModelLoader().load_from_state_dict(state_dict).eval()
        local = glocal.localize(spandrel_network(descriptor), 32)
        expected = glocal.restore(local, image)
        assert expected.shape == (61 * scale, 75 * scale, 3)
        assert close(comfyui.pixels(done, "5"), expected)
        assert close(comfyui.pixels(done, "7"), expected)

    def test_the_model_that_comes_in_stays_as_it_is(self, comfyui, network):
        prompt = workflow("localize-upscale-model")
        prompt["6"]["inputs"]["upscale_model"] = ["2", 0]  # it runs after the others
        done = comfyui.run(prompt)
        assert close(comfyui.pixels(done, "7"), glocal.restore(network, photo()))

    @pytest.mark.parametrize("model", [["2", 0], ["3", 0]])
    def test_scan_writes_the_plan(self, comfyui, network, spandrel, model):
        prompt = workflow("localize-upscale-model")
        prompt["8"]["inputs"]["upscale_model"] = model
        done = comfyui.run(prompt)
        loaded = spandrel.ModelLoader().load_from_state_dict(network.state_dict())
        plan = glocal.scan(spandrel_network(loaded), 64, statistics="auto")
        assert done["outputs"]["8"]["text"] == [str(plan)]
        assert done["outputs"]["9"]["text"] == [str(plan)]  # Preview Any

    def test_a_mistake_is_an_error_in_glocals_words(self, comfyui):
        prompt = workflow("restore-photograph")
        prompt["2"]["inputs"]["model"] = "unknown.safetensors"
        done = comfyui.run(prompt)
        kind, problem = done["status"]["messages"][-1]
        assert kind == "execution_error"
        assert problem["node_type"] == "GlocalRestore"
        assert "training size" in problem["exception_message"]

    def test_it_shows_progress_and_can_be_interrupted(self, comfyui):
        prompt = workflow("restore-photograph")
        prompt["2"]["inputs"] |= {"model": "slow.safetensors", "tile_size": 256}
        with Events(comfyui.port) as events:
            comfyui.ask("prompt", {"prompt": prompt, "client_id": events.client})
            while (progress := events.wait_for("progress")["data"])["value"] < 1:
                pass
            assert progress["max"] > 1
            comfyui.ask("interrupt", {})
            ended = events.wait_for("execution_interrupted", "execution_success")
        assert ended["type"] == "execution_interrupted"
        assert ended["data"]["node_type"] == "GlocalRestore"

    @pytest.mark.parametrize("name", ["restore-photograph", "localize-upscale-model"])
    def test_both_formats_of_a_workflow_are_the_same(self, comfyui, name):
        drawn = json.loads((WORKFLOWS / f"{name}.json").read_text())
        source = {link[0]: [str(link[1]), link[2]] for link in drawn["links"]}
        found = {}
        for node in drawn["nodes"]:
            info = comfyui.ask(f"object_info/{node['type']}")[node["type"]]
            widgets = iter(node.get("widgets_values") or ())
            inputs = {
                each["name"]: source[each["link"]] if each["link"] else next(widgets)
                for each in node["inputs"]
                if each["link"] or "widget" in each
            }
            known = info["input_order"]["required"] + info["input_order"].get("optional", [])
            found[str(node["id"])] = {
                "class_type": node["type"],
                "inputs": {name: value for name, value in inputs.items() if name in known},
            }
        assert found == json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())


def test_the_pack_requires_the_same_everywhere():
    stated = tomllib.loads((PACK / "pyproject.toml").read_text())["project"]["dependencies"]
    assert stated == (PACK / "requirements.txt").read_text().split()
