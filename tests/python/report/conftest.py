"""The functions of support/runs.py, and a browser without a window."""

import json
import pathlib
import sys

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
from runs import switchyard  # noqa: E402


class Browser:
    """Chromium on one page. Whatever the page says on the console or loads is an error."""

    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.driver.set_script_timeout(30)

    def size(self, width, height=900):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                    {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})

    def prefer(self, scheme):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                    {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def open(self, page, width=1280, scheme="light"):
        self.size(width)
        self.prefer(scheme)
        self.check()
        self.driver.get(page if "://" in str(page) else pathlib.Path(page).absolute().as_uri())
        self.check()
        return self

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait_js(self, script, *arguments):
        """A script that hands its result to `done`."""
        return self.driver.execute_async_script(f"const done = arguments[arguments.length - 1]; {script}", *arguments)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def figures(self):
        """{id: (state, marks)}"""
        rows = self.js("return figures.map(f => [f.id, f.card.attr('data-state'), Number(f.card.attr('data-marks'))])")
        return {name: (state, marks) for name, state, marks in rows}

    def press(self, figure, *keys):
        """Focuses a picture, presses keys, and returns what a screen reader says."""
        self.js("document.querySelector(arguments[0]).focus()", f"#{figure} svg")
        for key in keys:
            self.js("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))", key)
        return self.text(f"#{figure} output")

    def loaded(self):
        """URLs that were asked for since the last call."""
        urls = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
        return urls

    def check(self):
        console = [entry["message"] for entry in self.driver.get_log("browser")]
        assert console == [], console
        away = [url for url in self.loaded() if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:"))]
        assert away == [], away


@pytest.fixture(scope="session")
def chromium():
    browser = Browser()
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(chromium):
    """The browser; at the end of the test it has had no objection."""
    yield chromium
    chromium.check()


@pytest.fixture
def report(tmp_path):
    """report(run, ...) makes the page of some runs and returns its path."""

    def run(*folders):
        out = tmp_path / "page.html"
        done = switchyard("report", *folders, "--out", out)
        assert done.returncode == 0, done.stderr
        return out

    return run
