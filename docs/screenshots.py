"""Pictures of the report and the browser page of the embedded network, for the README.

    pip install '.[cpu,report,dev]' && (cd docs/demo && npm install && python build.py)
    python docs/screenshots.py            # needs chromium and chromedriver

Writes ``docs/pictures/``.
"""

import base64
import functools
import http.server
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

import onnx2snn
from onnx2snn.embedded import EMBEDDED_CALIBRATION, EMBEDDED_MODEL, EMBEDDED_TEST, embedded_file
from onnx2snn.report.collect import collect
from onnx2snn.report.page import render

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
WIDTH, HEIGHT, STEPS = 1200, 1350, 6


def write_report(path: Path) -> None:
    """The report of the embedded network on 300 test images."""
    test = embedded_file(EMBEDDED_TEST)
    network = onnx2snn.convert(
        embedded_file(EMBEDDED_MODEL),
        calibration=embedded_file(EMBEDDED_CALIBRATION),
        preprocess="unit",
    ).network()
    results = onnx2snn.evaluate(network, test, timesteps=[1, 2, 4, 8], limit=300)
    results["report"] = collect(network, test, timesteps=8)
    path.write_text(render(results, "fashion_cnn.snn.onnx"), encoding="utf-8")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def open_browser() -> Any:
    """A headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))


def shoot(browser: Any, name: str, height: int = HEIGHT) -> None:
    """One picture of the top of the page."""
    size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / name).write_bytes(base64.b64decode(taken["data"]))


def main() -> None:
    """Both pictures."""
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        report = Path(folder) / "report.html"
        write_report(report)
        browser.get(report.as_uri())
        shoot(browser, "report.png")
        if not (HERE / "demo" / "built").is_dir():
            raise SystemExit("build docs/demo first: npm install && python build.py")
        with served(HERE / "demo") as address:
            browser.get(f"{address}/index.html")
            status = functools.partial(browser.find_element, "id", "status")
            WebDriverWait(browser, 120).until(lambda _: "Ready" in status().text)
            for number in range(1, STEPS + 1):
                browser.find_element("id", "step").click()
                WebDriverWait(browser, 60).until(
                    lambda _, n=number: status().text.startswith(f"Step {n}:")
                )
            shoot(browser, "demo.png", height=1150)


if __name__ == "__main__":
    main()
