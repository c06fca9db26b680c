"""The report page in a real browser. ORNSTEIN_REQUIRE_BROWSER=1 turns a missing browser from a skip into a failure."""

import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ornstein.view.page import render

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
PLAIN = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage")
WATCHED = ("--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom")
U_MAZE = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
CORNERS = [[-1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]


def small_report() -> dict[str, Any]:
    """Three episodes of four points and a film of five frames, small enough to know where each dot must be drawn."""
    episode = {
        "plan": CORNERS,
        "path": CORNERS,
        "start": CORNERS[0],
        "goal": CORNERS[-1],
        "success": True,
        "return": 7.0,
    }
    noise = [[-1.0, 1.0], [9.0, -9.0], [0.0, 0.0], [-1.0, -1.0]]
    film = [
        [[a + (b - a) * k / 4 for a, b in zip(p, q, strict=True)] for p, q in zip(noise, CORNERS, strict=True)]
        for k in range(5)
    ]
    score = {"protocol": "goals", "episodes": 3, "return_mean": 7.0, "return_ci95": [6.0, 8.0], "success_rate": 2 / 3}
    return {
        "title": "A small report",
        "config": {"seed": 0, "agent": {"steps": 4}},
        "timing": {"training": 3.0, "machine": "2 cores"},
        "curves": [{"name": "train/loss", "points": [[step, 10.0 / (1 + step)] for step in range(60)]}],
        "scores": [score | {"returns": [6.0, 7.0, 8.0]}, dict.fromkeys(score) | {"returns": []}],
        "scene": {"map": U_MAZE, "cell": 1.0},
        "episodes": [
            episode,
            episode | {"success": False, "return": 0.0},
            episode | {"goal": None, "success": None, "plan": []},
        ],
        "film": film,
    }


class Page(HTMLParser):
    """The page after its scripts ran: its elements, each with the class of the picture it lies in, and its text."""

    def __init__(self, source: str):
        super().__init__()
        self.elements: list[dict[str, str]] = []
        self.text = ""
        self.picture = ""
        self.feed(source.split('<script type="application/json"')[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = {name: value or "" for name, value in attrs}
        if tag == "svg":
            self.picture = element.get("class", "")
        self.elements.append({"tag": tag, "class": "", "picture": self.picture} | element)

    def handle_endtag(self, tag: str) -> None:
        if tag == "svg":
            self.picture = ""

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, kind: str, picture: str | None = None) -> list[dict[str, str]]:
        """Elements with the class `kind`, if given in the picture of exactly that class."""
        return [e for e in self.elements if kind in e["class"].split() and picture in (None, e["picture"])]

    def sections(self) -> list[str]:
        return [e["id"] for e in self.elements if e["tag"] == "section"]


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        reason = f"no browser found: expected one of {', '.join(BROWSERS)} on the PATH"
        if os.environ.get("ORNSTEIN_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def look(browser: str, folder: Path, data: dict[str, Any], address: str = "", script: str = "") -> Page:
    """The page as the browser leaves it, after a script that acts on it; fails on any error the browser reports."""
    file = folder / "report.html"
    file.write_text(render(data).replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [browser, *QUIET, *PLAIN, *WATCHED, profile, file.as_uri() + address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    page = Page(done.stdout)
    root = page.elements[0]
    assert "data-error" not in root, root
    assert root["data-ready"] == "true"
    assert "CONSOLE" not in done.stderr, done.stderr
    return page


def centres(page: Page) -> list[tuple[str, str]]:
    return [(bead["cx"], bead["cy"]) for bead in page.find("bead", "world film")]


def test_the_page_draws_everything(browser: str, tmp_path: Path) -> None:
    page = look(browser, tmp_path, small_report())
    assert page.sections() == ["scores", "episodes", "film", "curves", "config", "background"]
    (walls,) = page.find("walls", "world")
    assert walls["d"].count("M") == sum(map(sum, U_MAZE))
    paths, plans = page.find("path", "world"), page.find("plan", "world")
    assert len(paths) == len(plans) == 3
    # The picture cuts 0.62 cells off the border: 3.76 cells are 600 units wide, and y points up.
    assert paths[0]["d"] == "M142.4 142.4L461.6 142.4L461.6 461.6L142.4 461.6"
    assert [plan["d"] for plan in plans] == [paths[0]["d"], "", paths[0]["d"]]  # the chosen one is drawn last
    assert len(page.find("failed", "world")) == 1
    assert "95 % interval" in page.text
    assert len(page.find("score")) == 2


def test_the_film_shows_the_step_in_the_address(browser: str, tmp_path: Path) -> None:
    first = look(browser, tmp_path, small_report())
    last = look(browser, tmp_path, small_report(), "#step=4")
    assert [page.find("film")[0]["data-step"] for page in (first, last)] == ["0", "4"]
    # 5.4 cells are 600 units wide here. Noise far outside is drawn at the corner of the picture.
    assert centres(first) == [("190.9", "190.9"), ("602.0", "602.0"), ("302.0", "302.0"), ("190.9", "413.1")]
    assert centres(last) == [("190.9", "190.9"), ("413.1", "190.9"), ("413.1", "413.1"), ("190.9", "413.1")]
    assert len(first.find("outside", "world film")) == 1
    assert "Step 4 of 4" in last.text


def test_slider_and_episodes_answer(browser: str, tmp_path: Path) -> None:
    act = """
      const slider = document.querySelector("input[type=range]");
      slider.value = 3;
      slider.dispatchEvent(new Event("input"));
      document.querySelectorAll("#episodes .pick")[1].click();
    """
    page = look(browser, tmp_path, small_report(), script=act)
    assert page.find("film")[0]["data-step"] == "3"
    assert "Step 3 of 4" in page.text
    assert "Episode 2: missed the goal, return 0" in page.text
    assert [pick["aria-pressed"] for pick in page.find("pick") if "aria-pressed" in pick] == ["false", "true", "false"]


def test_play_runs_to_the_end(browser: str, tmp_path: Path) -> None:
    # With --dump-dom the browser draws no frames, so a timer stands in for them.
    act = """
      window.requestAnimationFrame = (tick) => setTimeout(() => tick(performance.now()), 16);
      document.querySelector(".play").click();
    """
    page = look(browser, tmp_path, small_report(), script=act)
    assert page.find("film")[0]["data-step"] == "4"
    assert "Step 4 of 4" in page.text
    assert "Pause" not in page.text


def test_a_report_without_a_scene_has_axes(browser: str, tmp_path: Path) -> None:
    page = look(browser, tmp_path, small_report() | {"scene": None})
    assert page.sections()[1:3] == ["episodes", "film"]
    assert not page.find("walls")
    assert len(page.find("path", "world")) == 3
    assert page.find("tick", "world")


def test_what_does_not_act_is_shown_as_a_table(browser: str, tmp_path: Path) -> None:
    made = {"task": "toy", "data": "unseen", "rows": 1200, "beside": "returns", "note": "cut", "figures": {}}
    made["figures"] = {"mean value": (0.25, 0.5), "<b>bias": (-0.25, None)}
    page = look(browser, tmp_path, {"measures": [made], "scores": []})
    assert page.sections() == ["measures"]
    assert "foundreturnsmean value0.250.5<b>bias\u22120.25\u2013cut" in page.text
    assert "1,200 rows of unseen" in page.text


def test_an_empty_report_opens(browser: str, tmp_path: Path) -> None:
    page = look(browser, tmp_path, {})
    assert page.sections() == []
    assert "Run report" in page.text


def test_hostile_text_stays_text(browser: str, tmp_path: Path) -> None:
    text = "</script><script>document.documentElement.dataset.error = 1</script><img src=x onerror=alert(1)> {{data}}"
    data = small_report() | {"title": text, "notes": [text], "config": {text: {text: [text]}}, "versions": {text: text}}
    data["scores"][0]["protocol"] = data["curves"][0]["name"] = text
    page = look(browser, tmp_path, data)
    assert not [element for element in page.elements if element["tag"] == "img"]
    assert page.text.count("alert(1)") >= 8


# ---- planners without a map, policies ----

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="


def futures() -> dict[str, Any]:
    """Two plans of three rows, two steps apart, for two numbers; the second was cut short. And a film of two frames."""
    plan = [[0.0, 5.0], [1.0, 5.0], [2.0, None]]
    one = {"episode": 0, "made": 0, "value": 1.5, "plan": plan, "real": [[0.0, 5.0]] * 5}
    return {
        "names": ["height", "speed"],
        "hidden": 3,
        "stride": 2,
        "replan": 4,
        "plans": [one, one | {"made": 4, "value": 2.5, "real": [[0.0, 5.0]]}],
        "values": [[[0, 1.5], [4, 2.5]]],
        "film": {
            "steps": [0, 20],
            "frames": [[[0.0, 5.0], [4.0, 5.0], [-4.0, 5.0]], [[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]]],
        },
    }


def choices(worth: list[float] | None, size: int = 2) -> dict[str, Any]:
    """Two states with three actions each, of which the last is taken."""
    act = [[-0.5, 0.0, 1.0][:size], [0.0, 0.5, 1.0][:size], [0.5, 0.5, 1.0][:size]]
    state = {"row": 7, "episode": 1, "step": 3, "act": act, "value": worth, "chosen": 2, "own": act[1], "near": act}
    names = [f"action {i + 1}" for i in range(size)]
    other = state | {"row": 90, "step": 86, "chosen": 0, "near": []}
    return {"source": "the data", "names": names, "draws": 3, "states": [state, other]}


def test_plans_without_a_map_are_drawn_number_by_number(browser: str, tmp_path: Path) -> None:
    page = look(browser, tmp_path, {"futures": futures()})
    assert page.sections() == ["futures", "film"]
    (path,), (plan,) = (page.find(kind, "panel world") for kind in ("path", "plan"))
    assert path["d"].count("L") == 4
    assert plan["d"].count("L") == 2
    assert len({point.split()[1] for point in path["d"].replace("M", "").split("L")}) == 1, "the height stayed"
    assert "Episode 1, planned at step 0, value 1.5; height came out 1.6 off" in " ".join(page.text.split())
    assert "3 further numbers are not shown" in page.text
    assert "Step 0 of 20" in page.text
    assert [pick["aria-pressed"] for pick in page.find("pick")] == ["true", "false"] * 2


def test_plans_and_numbers_can_be_chosen(browser: str, tmp_path: Path) -> None:
    act = """
      document.querySelectorAll("#futures .side .pick")[1].click();
      const box = document.querySelector("#futures select");
      box.value = 1;
      box.dispatchEvent(new Event("change"));
      const slider = document.querySelector("#film input[type=range]");
      slider.value = 1;
      slider.dispatchEvent(new Event("input"));
      const other = document.querySelector("#film select");
      other.value = 1;
      other.dispatchEvent(new Event("change"));
    """
    page = look(browser, tmp_path, {"futures": futures()}, script=act)
    assert "Episode 1, planned at step 4, value 2.5" in page.text
    assert "came out" not in page.text
    (plan,) = page.find("plan", "panel world")
    assert plan["d"].count("L") == 1, "a number that is not known is left out"
    assert [pick["aria-pressed"] for pick in page.find("pick")] == ["false", "true"] * 2
    assert page.find("film")[0]["data-step"] == "1"
    assert "Step 20 of 20" in page.text
    assert len({bead["cy"] for bead in page.find("bead", "panel world film")}) == 1


def test_the_chosen_action_is_marked_and_worth_has_a_colour(browser: str, tmp_path: Path) -> None:
    page = look(browser, tmp_path, {"choices": choices([3.0, 1.0, 5.0])})
    assert page.sections() == ["choices"]
    offers = page.find("offer", "panel choice")
    assert [offer["style"] for offer in offers] == ["--u:50%", "--u:0%", "--u:100%"]
    (taken,) = page.find("taken", "panel choice")
    assert (taken["cx"], taken["cy"]) == (offers[2]["cx"], offers[2]["cy"])
    assert len(page.find("near", "panel choice")) == 3
    assert "State 1: episode 2, step 3; 3 actions drawn; worth 1 to 5, the one taken 5." in page.text
    assert [e["value"] for e in page.elements if e["tag"] == "option"] == ["0", "1", "2"] * 2


def test_axes_and_states_can_be_chosen(browser: str, tmp_path: Path) -> None:
    act = """
      document.querySelectorAll("#choices .pick")[1].click();
      const [, up] = document.querySelectorAll("#choices select");
      up.value = 2;
      up.dispatchEvent(new Event("change"));
    """
    page = look(browser, tmp_path, {"choices": choices([3.0, 1.0, 5.0])}, script=act)
    offers, (taken,) = page.find("offer", "panel choice"), page.find("taken", "panel choice")
    heights = [float(offer["cy"]) for offer in offers]
    assert heights[1] > heights[0] > heights[2], "more worth is higher up"
    assert (taken["cx"], taken["cy"]) == (offers[0]["cx"], offers[0]["cy"])
    assert not page.find("near", "panel choice")
    assert "State 2: episode 2, step 86" in page.text


@pytest.mark.parametrize("worth", [None, [1.0, 1.0, 1.0]])
def test_actions_of_one_number(browser: str, tmp_path: Path, worth: list[float] | None) -> None:
    """Beside what they are worth, or else in the order in which they were drawn."""
    page = look(browser, tmp_path, {"choices": choices(worth, 1)})
    offers = page.find("offer", "panel choice")
    assert len({offer["cx"] for offer in offers}) == 3
    assert len({offer["cy"] for offer in offers}) == (3 if worth is None else 1)
    assert ("worth" in page.text) is (worth is not None)


def test_a_film_stops_and_goes_on(browser: str, tmp_path: Path) -> None:
    movie = {"gif": PIXEL, "still": PIXEL + "=", "about": "episode 1", "steps": 20, "return": 2.5}
    for presses, source in enumerate((PIXEL, PIXEL + "=")):
        act = 'document.querySelector("#movie button").click();' * presses
        page = look(browser, tmp_path, {"movie": movie}, script=act)
        (image,) = [element for element in page.elements if element["tag"] == "img"]
        assert image["src"] == source
        assert ("Play" if presses else "Stop") in page.text
    assert "Episode 1: 20 steps, return 2.5." in page.text
    absent = look(browser, tmp_path, {"movie": {"missing": "it cannot be drawn"}})
    assert "No film: it cannot be drawn" in absent.text
