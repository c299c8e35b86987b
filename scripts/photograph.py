#!/usr/bin/env python3
"""photograph.py OUTDIR REPORT.html [CONSOLE.txt]: the pictures of scripts/take_pictures.sh, by Chromium.

REPORT.html is photographed in light down to the heat map, in dark from there on, and as on a phone; CONSOLE.txt, a
terminal's text with its colour codes, as a terminal.
"""
import base64
import html
import pathlib
import re
import sys

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; background: #14181d; }
pre { display: inline-block; margin: 0; padding: 14px 18px; color: #d7dce2; font: 13px/1.4 "DejaVu Sans Mono", monospace; }
</style><pre>%s</pre>"""
PAINTS = {"1": "font-weight:700;color:#fff", "31": "color:#ff7b72", "32": "color:#6ad08a", "33": "color:#e8c268",
          "34": "color:#79b8ff", "35": "color:#d2a8ff", "36": "color:#76d3d3", "2": "color:#8a939e", "90": "color:#8a939e"}


def terminal_page(text):
    """The text of `tmux capture-pane -e` as HTML."""
    page, paint = "", {}
    for piece in re.split(r"(\x1b\[[\d;]*m)", text.rstrip()):
        if code := re.fullmatch(r"\x1b\[([\d;]*)m", piece):
            for number in code[1].split(";"):
                paint = {} if number in ("", "0", "39") else {**paint, number: PAINTS.get(number, "")}
        elif piece:
            page += f'<span style="{";".join(paint.values())}">{html.escape(piece)}</span>'
    return TERMINAL % page


def start():
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)


def photograph(browser, page, out, width, scheme="light", first=None, last=None, crop=None):
    """From the top of the element `first` to the bottom of `last`, the whole page without them."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(page.absolute().as_uri())
    place = """const box = name => document.querySelector(name).getBoundingClientRect();
        const bar = document.querySelector('.bar');
        if (bar) bar.style.position = 'static';
        const whole = document.querySelector('pre') || document.documentElement;
        return [arguments[0] ? box(arguments[0]).top + 12 : 0,
                arguments[1] ? box(arguments[1]).bottom + 16 : whole.getBoundingClientRect().bottom];"""
    top, bottom = browser.execute_script(place, first, last)
    if crop:
        width = browser.execute_script("return Math.ceil(document.querySelector(arguments[0]).getBoundingClientRect().width)", crop)
    clip = {"x": 0, "y": max(0, top), "width": width, "height": bottom - max(0, top), "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    out.write_bytes(base64.b64decode(shot["data"]))


def main(out, report, console=None):
    out, report = pathlib.Path(out), pathlib.Path(report)
    browser = start()
    photograph(browser, report, out / "report-light.png", 1000, last="#load")
    photograph(browser, report, out / "report-dark.png", 1000, "dark", first="#routing", last="#logits")
    photograph(browser, report, out / "report-narrow.png", 390, last="#grad-norm")
    if console:
        page = pathlib.Path(console).with_suffix(".html")
        page.write_text(terminal_page(pathlib.Path(console).read_text()))
        photograph(browser, page, out / "console.png", 1600, crop="pre")
    browser.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
