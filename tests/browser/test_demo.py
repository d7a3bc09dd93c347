"""The browser page: real inference by onnxruntime-web, compared with the runtime."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.browser
DEMO = Path(__file__).resolve().parents[2] / "docs" / "demo"
STEPS = 4


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """What ``python -m http.server`` uses, without its log."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A built copy of the page."""
    if not DEMO.is_dir():
        pytest.skip("the page is not beside the tests")
    told = os.environ.get("ONNX2SNN_ORT_WEB")
    library = Path(told) if told else DEMO / "node_modules" / "onnxruntime-web" / "dist"
    if not library.is_dir():
        pytest.skip("needs onnxruntime-web: npm install in docs/demo, or set ONNX2SNN_ORT_WEB")
    copy = tmp_path_factory.mktemp("demo")
    for name in ("index.html", "demo.css", "demo.js"):
        shutil.copyfile(DEMO / name, copy / name)
    subprocess.run(
        [sys.executable, DEMO / "build.py", "--library", library, "--output", copy / "built"],
        check=True, timeout=300,
    )  # fmt: skip
    return copy


@pytest.fixture
def address(folder):
    """The page served as ``python -m http.server`` would."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()
        thread.join()


def wait(chromium, text):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(chromium, 120).until(lambda d: text in d.find_element("id", "status").text)


def evidence(chromium):
    return [float(cell.text) for cell in chromium.find_elements("css selector", "td.value")]


def open_page(chromium, address):
    chromium.get(address)
    wait(chromium, "Ready")


def test_inference_equals_the_runtime(chromium, address, folder):
    import onnx2snn_runtime
    from onnx2snn.embedded import EMBEDDED_TEST, embedded_file

    open_page(chromium, address)
    data = np.load(embedded_file(EMBEDDED_TEST))
    network = onnx2snn_runtime.load(folder / "built" / "network.snn.onnx")
    for label in (0, 7):
        chromium.find_elements("css selector", "#samples button")[label].click()
        for step in range(1, STEPS + 1):
            chromium.find_element("id", "step").click()
            wait(chromium, f"Step {step}:")
        index = int(np.flatnonzero(data["labels"] == label)[0])
        image = data["images"][index : index + 1].astype(np.float32) / 255
        result = network.run(image, STEPS)
        found = np.array(evidence(chromium))
        # a rounding may move a spike: two engines agree nearly, not to the bit
        np.testing.assert_allclose(found, result.logits[0], rtol=0, atol=0.15)
        assert found.argmax() == result.logits[0].argmax()
    counts = [e.text for e in chromium.find_elements("css selector", "#layers .count")]
    assert len(counts) == 7 and all(not count.startswith("0 ") for count in counts)
    assert chromium.get_log("browser") == []


def test_drawing_and_playing(chromium, address):
    from selenium.webdriver.common.action_chains import ActionChains

    open_page(chromium, address)
    chromium.find_element("id", "clear").click()
    canvas = chromium.find_element("id", "picture")
    pen = ActionChains(chromium).move_to_element_with_offset(canvas, -60, -60).click_and_hold()
    pen.move_by_offset(120, 0).move_by_offset(0, 120).release().perform()
    bright = chromium.execute_script(
        "const c = document.getElementById('picture').getContext('2d');"
        "return c.getImageData(0, 0, 28, 28).data.filter((v, i) => i % 4 === 0 && v > 128).length"
    )
    assert bright > 20
    chromium.find_element("id", "play").click()
    wait(chromium, "Step 16:")
    assert len(set(evidence(chromium))) > 1


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits(chromium, address, resize, width):
    resize(width)
    open_page(chromium, address)
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
