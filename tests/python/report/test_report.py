"""`switchyard report` in a browser: every picture has its data, and says them by pointer and by keyboard."""

import base64
import json
import os
import re
import struct
import time
import xml.etree.ElementTree as xml

import fake_runs
import pytest
from runs import records, switchyard

FIGURES = ["loss", "bits-per-byte", "learning-rate", "grad-norm", "aux-loss", "z-loss", "tokens-per-second", "step-time",
           "phases", "memory", "slowest-rank", "exchange-volume", "load", "max-violation", "dropped", "entropy", "dead",
           "exchange", "logits"]


@pytest.fixture
def run(tmp_path):
    return fake_runs.write_run(tmp_path / "quickstart", dead={2: (5,)})


def model_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)[1])


def test_every_picture_has_its_data(browser, report, run):
    page = report(run)
    browser.open(page)
    steps, evaluations = records(run)
    n, v = len(steps), len(evaluations)
    assert (n, v) == (31, 3)
    expected = {"loss": n + v, "bits-per-byte": n + v, "learning-rate": n, "grad-norm": 3 * n, "aux-loss": n, "z-loss": n,
                "tokens-per-second": n, "step-time": n, "phases": 7, "memory": 7, "slowest-rank": 2 * n,
                "exchange-volume": n, "load": n * 4 * 8, "max-violation": 4 * n, "dropped": 4 * n, "entropy": 4 * n,
                "dead": 4 * n, "exchange": 4, "logits": 32}
    assert list(expected) == FIGURES
    assert browser.figures() == {name: ("drawn", marks) for name, marks in expected.items()}
    # What is drawn is what was counted: a vertex of a path for each point, a pixel for each cell.
    vertices = "return [...document.querySelectorAll(arguments[0])].map(p => p.getAttribute('d').split(/[ML]/).length - 1)"
    assert browser.js(vertices, "#max-violation path.series") == [n] * 4
    assert browser.js("return document.querySelectorAll('#loss circle').length") == v + 1  # and one in the legend
    cells = browser.wait_js("""const image = new Image();
        image.onload = () => done([image.naturalWidth, image.naturalHeight]);
        image.src = document.querySelector('#load image.cells').getAttribute('href');""")
    assert cells == [n, 32]
    # The numbers of the page are those of the file, to six digits.
    curves = model_of(page)["runs"][0]["curves"]
    assert curves["step"] == [step["step"] for step in steps]
    assert curves["columns"]["loss"]["mean"] == pytest.approx([step["loss"] for step in steps], rel=1e-5)
    assert browser.js("return document.querySelectorAll('#top-tokens li').length") == 8 * 10
    assert browser.js("return document.querySelectorAll('#settings details tr').length") == 13


def test_values_by_keyboard(browser, report, run):
    browser.open(report(run))
    steps, evaluations = records(run)
    assert browser.press("loss", "End").startswith(f"step 300; train {steps[-1]['loss']:.4g}")
    assert f"val {evaluations[-1]['loss']:.4g}" in browser.press("loss", "End")
    assert browser.press("loss", "Home", "ArrowRight").startswith(f"step 10; train {steps[1]['loss']:.4g}")
    assert "spike, z 5.5" in browser.press("loss", "End", *["ArrowLeft"] * 10)
    assert browser.press("slowest-rank", "Home", "ArrowRight") == "step 10; slowest rank 383 ms, rank 1; typical rank 360 ms"
    # Layer 2's expert 5 is dead in the end: row 2 * 8 + 5 of the map.
    browser.press("load", "End", *["ArrowUp"] * 31)
    said = browser.press("load", *["ArrowDown"] * 21)
    assert said == "step 300; layer 2, expert 5 no tokens"
    share = steps[-1]["moe.2.load"][4] * 8
    assert browser.press("load", "ArrowUp") == f"step 300; layer 2, expert 4 {share:.2f} \u00d7 even"
    assert browser.press("exchange", "Home", "ArrowRight") == \
        "rank 0 to rank 1; rows 910; all that 0 sends 1,910; all that 1 gets 1,920"
    assert browser.press("phases", "Home", "ArrowRight").startswith("step; forward 120 ms; share ")
    assert browser.press("memory", "Home").startswith("planned; parameters 172 MiB")
    assert browser.press("logits", "Home").startswith("-4 to -3.75; logits ")
    # Every picture can be reached and says what it is.
    labels = browser.js("return [...document.querySelectorAll('.plot svg')].map(s => [s.tabIndex, s.getAttribute('aria-label')])")
    assert len(labels) == len(FIGURES) and all(index == 0 and len(label) > 30 for index, label in labels)
    browser.press("loss", "Escape")
    assert browser.js("return document.querySelector('#loss .tip').hidden")


def test_values_by_pointer(browser, report, run):
    browser.open(report(run))
    steps, _ = records(run)
    hover = """const svg = document.querySelector(arguments[0]), box = svg.getBoundingClientRect();
        svg.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, clientX: box.left + arguments[1] * box.width,
                                                           clientY: box.top + arguments[2] * box.height}));
        const tip = svg.parentNode.querySelector('.tip');
        return [tip.hidden, tip.textContent];"""
    assert browser.js(hover, "#loss svg", 0.99, 0.5)[1].startswith(f"step 300train{steps[-1]['loss']:.4g}")
    assert browser.js(hover, "#loss svg", 0.01, 0.5)[1].startswith("step 1train")
    hidden, tip = browser.js(hover, "#load svg", 0.97, 0.5)
    assert not hidden and tip.startswith("step 300layer ")
    assert browser.js("""document.querySelector('#load svg').dispatchEvent(new PointerEvent('pointerleave'));
        return document.querySelector('#load .tip').hidden""")


def test_light_dark_and_narrow(browser, report, run, tmp_path):
    page = report(run, fake_runs.write_run(tmp_path / "wide", experts=16, seed=2, texts=fake_runs.HOSTILE))
    paper = "return getComputedStyle(document.body).backgroundColor"
    overflow = "return document.documentElement.scrollWidth - innerWidth"
    seen = set()
    for scheme in ("light", "dark"):
        for width in (360, 768, 1280):
            browser.open(page, width, scheme)
            assert browser.js(overflow) <= 0, (scheme, width)
            # No picture is wider than its frame, and none of its text sticks out.
            out = browser.js("""return [...document.querySelectorAll('.plot svg')].flatMap(svg => {
                const box = svg.getBoundingClientRect();
                return [...svg.querySelectorAll('text')].filter(t => {
                    const b = t.getBoundingClientRect();
                    return b.width > 0 && (b.left < box.left - 0.5 || b.right > box.right + 0.5);
                }).map(t => svg.closest('figure').id + ': ' + t.textContent);
            })""")
            assert out == [], (scheme, width, out)
        seen.add(browser.js(paper))
    assert len(seen) == 2
    click = "document.getElementById('theme').click(); return [document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor]"
    light, dark = browser.js(click), browser.js(click)
    assert (light[0], dark[0]) == ("light", "dark") and {light[1], dark[1]} == seen
    assert browser.js("return document.querySelector('#loss path.series').getAttribute('stroke')") == "#56b4e9"
    browser.js("document.getElementById('theme').click()")


def test_pictures_are_saved(browser, report, run):
    browser.open(report(run))
    save = """const [id, kind] = arguments;
        window.save = (blob, name) => {
            const reader = new FileReader();
            reader.onload = () => done([name, blob.type, reader.result.split(',')[1]]);
            reader.readAsDataURL(blob);
        };
        document.querySelector(`#${id} button.${kind}`).click();"""
    for figure in FIGURES:
        name, kind, content = browser.wait_js(save, figure, "svg")
        assert (name, kind) == (f"{figure}.svg", "image/svg+xml")
        root = xml.fromstring(base64.b64decode(content))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        text = xml.tostring(root, encoding="unicode")
        assert "var(" not in text and " class=\"cursor\"" not in text and float(root.get("height")) > 100
    for figure in ("loss", "load", "exchange"):
        name, kind, content = browser.wait_js(save, figure, "png")
        png = base64.b64decode(content)
        assert (name, kind, png[:8]) == (f"{figure}.png", "image/png", b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        drawn = browser.js("return Number(document.querySelector(arguments[0]).getAttribute('width'))", f"#{figure} svg")
        assert width == 2 * drawn and height > 200 and len(png) > 5000


def test_several_runs_lie_over_each_other(browser, report, run, tmp_path):
    other = fake_runs.write_run(tmp_path / "wide", experts=16, lr=0.003, seed=2, ranks=4)
    browser.open(report(run, other))
    figures = browser.figures()
    assert figures["loss"] == ("drawn", 2 * 34) and figures["load"] == ("drawn", 31 * 32) and figures["exchange"][1] == 4
    colours = browser.js("return [...document.querySelectorAll('#loss path.series')].map(p => p.getAttribute('stroke'))")
    assert len(set(colours)) == 2 and len(colours) == 4
    assert "quickstart" in browser.press("loss", "End") and "wide" in browser.press("loss", "End")
    rows = browser.js("return [...document.querySelectorAll('#differences tbody tr')].map(r => [...r.children].map(c => c.textContent))")
    assert rows == [["run.name", "quickstart", "wide"], ["optim.lr", "0.002", "0.003"], ["moe.num_experts", "8", "16"]]
    browser.js("""const choice = document.getElementById('run-choice');
        choice.value = '1'; choice.dispatchEvent(new Event('change'));""")
    assert browser.figures()["load"][1] == 31 * 64 and browser.figures()["exchange"][1] == 16
    browser.js("""const choice = document.getElementById('layer-choice');
        choice.value = '2'; choice.dispatchEvent(new Event('change'));""")
    assert browser.figures()["load"][1] == 31 * 16
    browser.js("""const choice = document.getElementById('layer-choice');
        choice.value = 'max'; choice.dispatchEvent(new Event('change'));""")
    assert browser.figures()["load"][1] == 31 * 4
    assert browser.press("load", "Home").startswith("step 1; busiest expert of layer 0 ")


def test_smoothing_and_log_scales(browser, report, run):
    browser.open(report(run))
    path = "return document.querySelector('#grad-norm path.series').getAttribute('d')"
    plain = browser.js(path)
    browser.js("""const choice = document.getElementById('smoothing');
        choice.value = '0.9'; choice.dispatchEvent(new Event('change'));""")
    smooth = browser.js(path)
    browser.js("document.getElementById('log-steps').click()")
    log_steps = browser.js(path)
    browser.js("document.getElementById('log-values').click()")
    assert len({plain, smooth, log_steps, browser.js(path)}) == 4
    assert browser.figures()["grad-norm"] == ("drawn", 93)


def test_text_from_files_stays_text(browser, report, tmp_path):
    name = "a&b <i>'\"c"
    run = fake_runs.write_run(tmp_path / name, texts=fake_runs.HOSTILE, layers=[0])
    facts = json.loads((run / "run.json").read_text())
    facts["data"][0]["name"] = facts["started"][0]["hosts"][0] = facts["switchyard"] = fake_runs.HOSTILE[0]
    facts["started"][0]["resumed_from"] = fake_runs.HOSTILE[1]
    (run / "run.json").write_text(json.dumps(facts))
    (run / "config.yaml").write_text(json.dumps({"run": {"name": "</script><img src=x>"}, "<b>": "&amp;"}))
    with open(run / "metrics.jsonl", "a") as metrics:
        metrics.write(json.dumps({"step": 301, "eval": "</script><b>val", "loss": 2.0, "bits_per_byte": 1.0}) + "\n")
    page = report(run)
    browser.open(page)
    assert browser.text("#title") == name and browser.js("return document.title").startswith(name)
    assert browser.js("return document.querySelectorAll('img, main script, main b:not(li b)').length") == 0
    tokens = browser.js("return [...document.querySelectorAll('.expert:first-child li span')].map(s => s.textContent)")
    assert tokens[0] == "</script><script>document.title='owned'</script>".replace(" ", "\u2423")
    assert tokens[2] == "&lt;b&gt;&amp;" and tokens[3] == "U+2028U+2029" and tokens[5] == "{{data}}"
    assert tokens[7] == "U+0007U+202E" and tokens[8] == "\u2423the" and tokens[9] == "\u21b5"
    assert "</script><script>" in browser.text("#facts table")
    assert "</script><img src=x>" in browser.text("#settings details")
    assert "</script><b>val" in browser.press("loss", "End")


def test_what_is_not_there_is_said(browser, report, tmp_path):
    browser.open(report(fake_runs.write_run(tmp_path / "old", old=True)))
    state = browser.figures()
    assert [name for name in FIGURES if state[name][0] == "empty"] == ["slowest-rank", "exchange-volume", "exchange", "logits"]
    assert "by no run before routing.json was" in browser.text("#exchange .empty")
    assert state["dead"] == ("drawn", 4 * 31)

    browser.open(report(fake_runs.write_run(tmp_path / "dense", layers=[], steps=50)))
    assert browser.text("#load .empty") == "A dense model: no routing."
    assert browser.text("#top-tokens .empty") == "A dense model: no routing."
    assert browser.text("#bits-per-byte .empty") == "No evaluation yet."

    # From a run that has lists of tokens to one that has none: they go.
    browser.open(report(fake_runs.write_run(tmp_path / "moe"), tmp_path / "dense"))
    assert browser.js("return document.querySelector('.experts').offsetHeight") > 100
    browser.js("""const choice = document.getElementById('run-choice');
        choice.value = '1'; choice.dispatchEvent(new Event('change'));""")
    assert browser.js("return document.querySelector('.experts').offsetHeight") == 0
    assert browser.text("#load .empty") == "A dense model: no routing."

    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "metrics.jsonl").write_text("")
    browser.open(report(empty))
    assert {state for state, _ in browser.figures().values()} == {"empty"}
    assert browser.text("#loss .empty") == "No step is recorded yet."

    one = tmp_path / "one"
    one.mkdir()
    (one / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5, "moe.0.load": [0.0, 1.0]}\n')
    browser.open(report(one))
    assert browser.figures()["loss"] == ("drawn", 1) and browser.figures()["load"] == ("drawn", 2)


def test_lines_that_are_no_record(browser, report, run):
    with open(run / "metrics.jsonl", "a") as metrics:
        metrics.write('rubbish\n{"step": 310, "loss": null, "grad_norm": 1.0}\n{"step": 3')
    page = report(run)
    browser.open(page)
    assert "1 line of metrics.jsonl could not be read" in browser.text(".notes")
    assert browser.figures()["loss"][1] == 34 and browser.figures()["learning-rate"][1] == 31
    assert model_of(page)["runs"][0]["last_step"] == 310


def test_a_long_run(browser, report, tmp_path):
    """100,000 steps of 12 layers of 64 experts, a record every ten, as train.log_interval has it."""
    run = fake_runs.write_long_run(tmp_path / "long", records=10_000, interval=10)
    start = time.monotonic()
    page = report(run)
    made = time.monotonic() - start
    assert page.stat().st_size < 6 << 20
    browser.open(page)
    opened = browser.js("const t = performance.timing; return t.loadEventEnd - t.navigationStart")
    print(f"report of 100,000 steps: {page.stat().st_size >> 10} KiB, made in {made:.1f} s, opened in {opened} ms")
    state = browser.figures()
    assert state["loss"][0] == "drawn" and 500 <= state["loss"][1] <= 1000
    assert state["max-violation"][1] <= 12 * 500
    assert browser.js("return document.getElementsByTagName('*').length") < 4000
    assert "each point of a curve stands for 16 of them" in browser.text(".notes")
    # The one step that stands out is there still.
    assert max(model_of(page)["runs"][0]["curves"]["columns"]["loss"]["highest"]) > 90


def refused(code, *arguments):
    done = switchyard("report", *arguments)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_wrong_input(run, tmp_path):
    assert f"{tmp_path / 'none'}: no such folder" in refused(3, tmp_path / "none")
    assert "has no metrics.jsonl" in refused(3, tmp_path)
    assert "given twice" in refused(2, run, f"{run}/")
    assert "/no/such/place" in refused(3, run, "--out", "/no/such/place/report.html")
    assert "runs" in refused(2)
    done = switchyard("report", run)
    assert done.returncode == 0 and done.stdout.startswith(f"{run}/report.html: ")
    assert (run / "report.html").stat().st_size > 300_000
    assert [name for name in os.listdir(run) if "tmp" in name] == []
