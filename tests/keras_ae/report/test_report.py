import copy
import importlib.resources
import json
import re
import xml.dom.minidom

import jsonschema
import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from keras_ae.comparison.records import Comparison, Run
from keras_ae.report import card, formatting, pictures, slices
from keras_ae.report.page import MAX_BYTES, write_report
from tests.keras_ae.report.reports import RUN, VERDICT, make_comparison, make_pictures

SCHEMA = json.loads(
    (importlib.resources.files("keras_ae.comparison") / "comparison.schema.json").read_text()
)


@pytest.fixture
def write(tmp_path):
    """Writes the page of a comparison and returns its text."""

    def written(comparison, folder=None):
        jsonschema.validate(comparison, SCHEMA)
        path = tmp_path / "report.html"
        write_report(Comparison.model_validate(comparison), folder, path)
        return path.read_text()

    return written


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photographs):
    folder = tmp_path_factory.mktemp("pictures")
    make_pictures(folder, photographs, side=96, names=["a<b>.png", "</script>.png", "c.png"])
    return folder


def words(page, selector=None):
    """The text of the page, or of each of its elements of a kind, without markup."""
    if selector:
        found = re.findall(rf"<{selector}\b[^>]*>(.*?)</{selector}>", page, re.DOTALL)
        return [words(part) for part in found]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).strip()


def svgs(page, name):
    return re.findall(rf'<svg class="figure {name}".*?</svg>', page.replace("\n", " "), re.DOTALL)


def test_the_schema_is_valid():
    validator = jsonschema.Draft202012Validator
    assert list(validator(validator.META_SCHEMA).iter_errors(SCHEMA)) == []


def test_the_answer_is_the_title_and_comes_first(write, folder):
    comparison = make_comparison()
    page = write(comparison, folder)
    assert words(page, "h1") == [comparison["answer"]["sentence"]]
    titles = words(page, "h2")
    order = (
        "Notes", "Not blessed", "Quality", "Test images", "The best", "Slices", "Cost",
        "Losses", "Codecs at", "The plain", "Seeds", "Trials", "Model and",
    )  # fmt: skip
    assert [title[: len(start)] for title, start in zip(titles, order, strict=True)] == [*order]
    for note in comparison["answer"]["notes"]:
        assert note["text"] in words(page)


def test_headings_skip_no_level(write, folder):
    levels = [int(level) for level in re.findall(r"<h(\d)", write(make_comparison(), folder))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))


def test_the_table_has_every_budget_with_its_intervals_and_marks_the_chosen_one(write):
    comparison = make_comparison()
    page = write(comparison)
    table = page[page.index("<caption><span>Quality by budget") :]
    rows = words(table[: table.index("</table>")], "tr")
    assert rows[1].startswith("PCA of patches 28.90 28.30 28.60")
    assert [row.split()[0] for row in rows[2:]] == ["10", "100", "500", "1,000", "2,000"]
    assert [row.split()[1] for row in rows[2:]].count("chosen") == 1
    psnr = comparison["budgets"][3]["splits"]["val"]["psnr"]
    shown = f"{psnr['mean']:.2f} {psnr['interval'][0]:.2f} to {psnr['interval'][1]:.2f}"
    assert rows[5].startswith("1,000 chosen 1 min 40 s")
    assert shown in rows[5]
    assert "Of 48 test images, SSIM is not defined for 2 and MS-SSIM for 0." in words(page)


def test_gains_of_steps_have_intervals_and_p_values(write):
    comparison = make_comparison()
    page = words(write(comparison))
    step = comparison["differences"][0]["splits"]["test"]
    low, high = step["psnr"]["interval"]
    assert f"{step['psnr']['mean']:+.2f} {low:+.2f} to {high:+.2f} p &lt; 0.001" in page
    low, high = step["ssim"]["interval"]
    assert f"{step['ssim']['mean']:+.4f} {low:+.4f} to {high:+.4f} p = 0.031" in page


def test_the_verdict_names_every_check_with_its_numbers(write):
    comparison = make_comparison()
    items = words(write(comparison), "li")
    assert (
        "met Its mean test PSNR is +1.57 dB relative to the linear floor "
        "(required: more than 0 dB)." in items
    )
    assert "not compared Its mean test PSNR was compared with the floor only." in items
    assert any(i.startswith("not met Its PSNR on detail: 4 finest (12 images)") for i in items)
    assert "too few Label: cat: not judged, because it has 5 images and 8 are needed." in items
    assert any(item.startswith("served Its served predictions match") for item in items)
    assert any(item.startswith("note The model in service may have been") for item in items)
    blessed = {**VERDICT, "blessed": True, "checks": []}
    assert "Blessed: the model meets all requirements" in write({**comparison, "verdict": blessed})


def test_floors_are_rows_or_have_a_reason(write):
    without = write(make_comparison())
    assert "No PCA of whole images: images of 500x741 pixels are larger than 64x64." in without
    assert "PCA of images" not in without
    page = write(make_comparison(whole_floor=True))
    assert "PCA of images 28.30 27.70 28.00 -0.60" in words(page)
    assert "No PCA of whole images" not in page
    assert all("PCA of whole images" in svg for svg in svgs(page, "wide")[:1])


def test_the_card_has_the_facts_of_the_run_and_its_command(write):
    page = words(write(make_comparison()))
    for text in (
        "photos &amp; &lt;more&gt;",
        "400 train, 52 val, 48 test",
        "362 MB decoded, in memory",
        "316,816",
        "9,856",
        "8 channels at stride 8: 0.125 values per pixel, 4.2 % of the image&#39;s values",
        "3,200 tiles of 64x64",
        "the folders training (400), val (52), test (48)",
        "1,200 .xyz, 3 .mov",
        "906 tiles/s",
        "seeds 0, 1, 2",
        "Intel Xeon, 2 cores",
        "with uncommitted changes",
        "Trained on",
        "avx2, avx512f",
        "python 3.11.7, keras 3.15.0, tensorflow 2.21.0",
        "OMP_NUM_THREADS=2",
        "2026-03-04 05:06:07 UTC",
        "keras 3.15.0",
        "scans/&lt;b&gt;.jpg not an image",
        "4 Comparison Comparison comparison Comparison/output/4",
        "python pipeline/run_local.py --data &#39;my photos&#39; --seeds 3 --with-baseline",
    ):
        assert text in page


@pytest.mark.parametrize("name", ["images", "machine", "packages", "quarantined", "seeds"])
def test_any_fact_of_the_run_may_be_missing(write, name):
    comparison = make_comparison((10,), full=False)
    for run in ({k: v for k, v in RUN.items() if k != name}, {name: RUN[name]}):
        assert "Model and data card" in write({**comparison, "run": run})


def test_the_card_omits_unknown_facts():
    for name in RUN:
        known = {k: v for k, v in RUN.items() if k != name}
        assert card.card(Run(**known)) == card.card(Run(**{**RUN, name: None}))
        assert all(rows for _, rows in card.card(Run(**{name: RUN[name]})))
    assert card.card(Run()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"budgets": (10,)},
        {"budgets": (10,), "intervals": False, "full": False},
        {"intervals": False},
        {"budgets": tuple(range(1, 31))},
    ],
)
def test_pages_of_few_and_of_many_facts(write, folder, arguments):
    comparison = make_comparison(**arguments)
    page = write(comparison)
    assert 'id="viewer"' not in page
    for svg in svgs(page, "wide") + svgs(page, "narrow"):
        xml.dom.minidom.parseString(svg)
    if not comparison["run"]:
        assert "There is no information about the run" in page
        assert "lessed" not in page
    aims = set(re.findall(r'href="#([^"]+)', page))
    assert aims <= set(re.findall(r'\bid="([^"]+)"', page))
    if not arguments.get("intervals", True):
        assert "No interval on val: 3 source images; an interval needs 8." in page


def test_missing_numbers_are_dashes(write):
    comparison = make_comparison()

    def emptied(value):
        if isinstance(value, dict):
            skip = ("mean", "median", "worst_decile", "interval", "wilcoxon_p", "gain")
            return {k: None if k in skip and not isinstance(v, dict) else emptied(v)
                    for k, v in value.items()}  # fmt: skip
        return [emptied(item) for item in value] if isinstance(value, list) else value

    kept = copy.deepcopy(comparison["slices"]["worse"])
    comparison = emptied(comparison)
    comparison["slices"]["worse"] = kept
    page = write(comparison)
    assert "&ndash;" in page
    assert "None" not in words(page)


def test_names_are_escaped_and_scripts_cannot_be_closed(write, folder):
    page = write(make_comparison(), folder)
    assert "a&lt;b&gt;.png" in page
    assert "a<b>" not in page
    assert "</script>.png" not in page
    assert page.count("</script>") == 2


def test_the_page_loads_nothing_from_elsewhere(write, folder):
    page = write(make_comparison(), folder)
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) > 50
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "http" not in re.sub(r"http-equiv|http://www\.w3\.org/[\w/.]*", "", page)
    assert "default-src 'none'; img-src data:;" in page


def test_every_picture_is_stored_once_and_every_reference_resolves(write, folder):
    page = write(make_comparison(), folder)
    urls = re.findall(r'"(data:image/webp[^"]+)"', page)
    assert len(urls) == len(set(urls)) == 3 * (2 + 2 * 5)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    aims = set(re.findall(r'(?:href="#|url\(#|aria-labelledby="|for=")([^")]+)', page))
    assert aims <= set(ids)


def test_figures_are_well_formed_have_two_sizes_and_the_colours_of_the_page(write):
    page = write(make_comparison())
    wide, narrow = svgs(page, "wide"), svgs(page, "narrow")
    assert len(wide) == len(narrow) == 3
    for svg in wide + narrow:
        tree = xml.dom.minidom.parseString(svg)
        assert tree.documentElement.getAttribute("aria-label")
        assert tree.getElementsByTagName("text")
        assert "font-family" not in svg
        assert "DejaVu" not in svg
        assert "var(--" in svg
        assert not re.search(r"#0a0b|#000000", svg)
        assert "Date" not in svg
    for text in ("train", "val", "test", "chosen", "1,000", "extrapolated", "baseline, on test"):
        assert f">{text}</text>" in wide[0]
        assert f">{text}</text>" in narrow[0]
    assert ">JPEG</text>" in wide[-1]


def test_higher_psnr_is_drawn_higher_and_epochs_grow_to_the_right(write):
    svg = svgs(write(make_comparison()), "wide")[0]
    (path,) = re.findall(
        r'<path d="([^"]+)"[^>]*style="fill: none; stroke: var\(--train\); stroke-width: 2.2', svg
    )
    points = [
        [float(n) for n in point.split()] for point in re.split("[ML]", path) if point.strip()
    ]
    xs, ys = zip(*points)
    assert len(xs) == 5
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)


def test_a_baseline_far_below_does_not_flatten_the_curve(write):
    comparison = make_comparison()
    near = svgs(write(comparison), "wide")[0]
    for entry in comparison["baseline"]["budgets"]:
        psnr = entry["splits"]["test"]["psnr"]
        psnr["mean"], psnr["interval"] = 12.0, [8.0, 31.0]
    far = svgs(write(comparison), "wide")[0]
    assert "baseline" in near
    assert "baseline" not in far
    assert far.count("var(--base)") == 0
    train = r'<path d="([^"]+)"[^>]*stroke: var\(--train\); stroke-width: 2.2'
    assert re.findall(train, near) == re.findall(train, far)


def test_the_same_comparison_gives_the_same_page_and_leaves_matplotlib_alone(write, folder):
    before = dict(mpl.rcParams)
    comparison = make_comparison()
    assert write(comparison, folder) == write(comparison, folder)
    assert dict(mpl.rcParams) == before


def test_of_many_slices_worse_ones_and_lowest_gains_come_first(write):
    comparison = make_comparison(labels=1000)
    page = write(comparison)
    shown = slices.order_slices(Comparison.model_validate(comparison))
    assert shown.first[0].value == "4 finest"
    assert len(shown.first) + len(shown.rest) == 1012
    assert len(shown.first) <= slices.WORST + 1
    assert shown.worse == {("detail", "4 finest")}
    least = min(row.gain_over_floor for row in shown.rest if row.images >= 8)
    assert all(row.gain_over_floor <= least for row in shown.first[1:])
    part = page[page.index('id="slices"') : page.index('id="cost"')]
    first, rest = part.split("<details>")
    assert first.count('<th scope="row">') == len(shown.first)
    assert rest.count('<th scope="row">') == len(shown.rest)


def test_a_page_stays_small_and_states_how_many_images_are_left_out(write, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.webp", quality=90, method=0)
    budgets = {
        str(b): {"image": "noise.webp", "error": "noise.webp", "psnr": 20.0, "ssim": 0.5}
        for b in (10, 100)
    }
    images = [
        {
            "name": f"{i}.png", "rank": {3: "worst", 30: "best", 49: "median"}.get(i, ""),
            "height": 4000, "width": 4000, "shown": [512, 512], "original": "noise.webp",
            "floor": "noise.webp", "floor_psnr": None, "budgets": budgets,
        }
        for i in range(50)
    ]  # fmt: skip
    (tmp_path / "pictures.json").write_text(json.dumps({"error_top": 32, "images": images}))
    page = write(make_comparison((10, 100)), tmp_path)
    assert MAX_BYTES / 2 < len(page.encode()) < MAX_BYTES
    kept = len(re.findall(r'type="radio" name="image"', page))
    assert 3 < kept < 50
    assert f"{50 - kept} more images are left out" in page
    assert words(page, "h3")[kept + 2 :] != []
    for name in ("30.png, the best", "49.png, the median", "3.png, the worst"):
        assert f'aria-label="{name}"' in page


def test_the_best_the_median_and_the_worst_are_kept_even_without_room(folder):
    kept = pictures.load(folder, 0)
    assert [image["rank"] for image in kept.images] == ["best", "median", "worst"]
    assert kept.left_out == 0


def luminance(colour):
    levels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_text_has_enough_contrast_in_both_themes_and_in_print():
    style = (importlib.resources.files("keras_ae.report") / "style.css").read_text()
    themes = re.findall(r":root \{([^}]+)\}", style)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w{6});", theme))
        texts = ("ink", "soft", "train", "val", "test", "base", "bad", "good")
        pairs = [(text, "page") for text in texts]
        pairs += [(text, ground) for text in ("ink", "soft") for ground in ("band", "mark")]
        for text, ground in pairs:
            low, high = sorted(luminance(colours[name]) for name in (text, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formatting.decimal(1.005), "1.00"),
        (formatting.decimal(1.5, 2, True), "+1.50"),
        (formatting.decimal(-1.5, 2, True), "-1.50"),
        (formatting.decimal(None), "&ndash;"),
        (formatting.interval((28.716, 30.26)), "28.72 to 30.26"),
        (formatting.interval(None), "&ndash;"),
        (formatting.p_value(0.0029), "p = 0.003"),
        (formatting.p_value(1e-9), "p < 0.001"),
        (formatting.count(1234567), "1,234,567"),
        (formatting.duration(0.84), "0.8 s"),
        (formatting.duration(9.97), "10 s"),
        (formatting.duration(59.6), "1 min 00 s"),
        (formatting.duration(189), "3 min 09 s"),
        (formatting.duration(7500), "2 h 05 min"),
        (formatting.duration(270000), "3 d 03 h"),
        (formatting.size(36_200_000), "36.2 MB"),
        (formatting.size(None), "&ndash;"),
        (formatting.sentence("its end"), "Its end."),
        (formatting.sentence("Why?"), "Why?"),
    ],
)
def test_numbers_are_formatted(text, expected):
    assert text == expected
