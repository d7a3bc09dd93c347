"""The report in a real browser: no errors, sorting, keyboard, narrow and dark."""

import itertools

import networks
import numpy as np
import pytest

from onnx2snn import convert, evaluate

pytestmark = pytest.mark.browser
NASTY = '</script><script>document.title="taken"</script><img src=x onerror=document.title="taken">'
RED, GREEN, BLUE = 0.2126, 0.7152, 0.0722


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of a network with hostile names, as a file."""
    pytest.importorskip("matplotlib", reason="needs the extra 'report'")
    pytest.importorskip("jinja2", reason="needs the extra 'report'")
    from onnx2snn.report.collect import collect
    from onnx2snn.report.page import render

    model = networks.small_cnn(seed=3)
    for index, node in enumerate(model.graph.node):
        node.name = f"{index}{NASTY}"
    network = convert(model, calibration=networks.images(48, seed=4)).network()
    data = {"images": networks.images(12), "labels": np.arange(12) % 4}
    results = evaluate(network, data, timesteps=[1, 2, 4])
    results["report"] = collect(network, data, timesteps=4)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(results, "net.snn.onnx"), encoding="utf-8")
    return path.as_uri()


def test_no_errors_and_nothing_taken_over(chromium, page):
    chromium.get(page)
    assert chromium.get_log("browser") == []
    assert chromium.title == "net.snn.onnx: spiking network report"
    assert chromium.execute_script("return performance.getEntriesByType('resource').length") == 0


def column(chromium, number):
    return chromium.execute_script(
        "return [...document.querySelectorAll('table.sortable tbody tr')]"
        ".map(row => row.cells[arguments[0]].dataset.value)",
        number,
    )


def test_sorting_by_mouse_and_keyboard(chromium, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    chromium.get(page)
    buttons = chromium.find_elements(By.CSS_SELECTOR, "table.sortable th button")
    names = [button.text for button in buttons]
    error, rate = names.index("error"), names.index("rate")
    chromium.execute_script("arguments[0].click()", buttons[error])
    rising = [float(value) for value in column(chromium, error)]
    assert rising == sorted(rising)
    buttons[error].send_keys(Keys.ENTER)
    assert [float(value) for value in column(chromium, error)] == rising[::-1]
    heading = buttons[error].find_element(By.XPATH, "..")
    assert heading.get_attribute("aria-sort") == "descending"
    buttons[rate].send_keys(Keys.SPACE)
    values = column(chromium, rate)
    assert values[-1] == "" and "" not in values[:-1]  # the pool sends no spikes of its own
    assert heading.get_attribute("aria-sort") == "none"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_can_be_read(chromium, page, resize, width, theme):
    resize(width, theme)
    chromium.get(page)
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
    ratios = chromium.execute_script(
        """
        const light = (text) => {
          const parts = text.match(/[\\d.]+/g).slice(0, 3).map(Number).map((value) => {
            const part = value / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
          });
          return arguments[0] * parts[0] + arguments[1] * parts[1] + arguments[2] * parts[2];
        };
        const paper = light(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll("p, li, td, th, figcaption, svg text, a, dd, dt")]
          .map((element) => {
            const style = getComputedStyle(element);
            const ink = light(element instanceof SVGElement ? style.fill : style.color);
            const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
            return [ratio, element.textContent.slice(0, 40)];
          });
        """, RED, GREEN, BLUE,
    )  # fmt: skip
    assert min(ratios)[0] >= 4.5, min(ratios)  # WCAG 2.1, AA


def test_every_picture_has_a_name_and_headings_do_not_skip(chromium, page):
    chromium.get(page)
    unnamed = chromium.execute_script(
        "return [...document.querySelectorAll('[role=img], [role=region], section, nav, img')]"
        ".filter(e => !(e.alt || e.ariaLabel ||"
        " document.getElementById(e.getAttribute('aria-labelledby') || '')?.textContent.trim()))"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert unnamed == []
    levels = chromium.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map(e => Number(e.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_it_prints(chromium, page):
    from selenium.webdriver.common.print_page_options import PrintOptions

    chromium.get(page)
    assert chromium.print_page(PrintOptions()).startswith("JVBER")  # %PDF in base64
