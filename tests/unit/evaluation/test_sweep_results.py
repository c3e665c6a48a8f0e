"""What a sweep makes of its trainings: constraints, means over seeds, and which setting is chosen."""

import re
from base64 import b64decode

import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.evaluation.sweep_page import render_sweep
from lapa_ray.evaluation.sweep_results import (
    RESULTS,
    Constraint,
    SweepResults,
    SweepTrial,
    settings_of,
    sheets_in,
    significant,
)


def trial(size: int, seed: int, perplexity: float, psnr: float = 20.0, state="whole") -> SweepTrial:
    figures = {"perplexity": perplexity, "changed_psnr_db": psnr} if state != "failed" else {}
    name, failure = f"{size}_{seed}", "its process died" if state == "failed" else ""
    return SweepTrial(name, {"model.code_dim": size}, seed, state, figures, failure)


TRIALS = [
    *(trial(512, 0, 30), trial(512, 1, 50)),
    *(trial(64, 0, 90, psnr=9), trial(64, 1, 110, psnr=11)),
    *(trial(32, 0, 70), trial(32, 1, 60)),
    *(trial(16, 0, 200), trial(16, 1, 300, state="ended early")),
    *(trial(8, 0, 400), trial(8, 1, 0, state="failed")),
]


def test_means_and_deviations_are_over_seeds():
    setting = settings_of(TRIALS, [])[0]
    assert (setting.means["perplexity"], setting.num_whole, setting.num_trials) == (40, 2, 2)
    assert setting.deviations["perplexity"] == pytest.approx(200**0.5)
    assert settings_of([trial(512, 0, 30)], [])[0].deviations["perplexity"] is None


@pytest.mark.parametrize(
    ("constraints", "mode", "expected"),
    [
        ((), "max", 8),
        (("changed_psnr_db >= 15", "perplexity < 150"), "max", 32),
        ((), "min", 512),
        (("ssim > 1",), "max", None),
    ],
)
def test_the_best_is_whole_and_meets_the_constraints(constraints, mode, expected):
    best = SweepResults.of(TRIALS, "perplexity", mode, constraints).best
    assert (best and best.values["model.code_dim"]) == expected


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(257.676, 2, "258"), (28672.0, 4, "28,672"), (14.0604, 4, "14.06"), (99.6, 2, "100"), (0.000589, 2, "0.00059")],
)
def test_a_large_figure_has_no_exponent_and_a_small_one_few_digits(value, digits, shown):
    assert significant(value, digits) == shown


@pytest.mark.parametrize("text", ["psnr", "psnr_db => 3", "psnr_db >= 1.2.3", "psnr_db >= three", ">= 3", ""])
def test_what_is_no_constraint_is_refused(text):
    with pytest.raises(LapaError, match="should read like 'changed_psnr_db >= 17'"):
        Constraint.parse(text)


def test_the_page_shows_every_training_and_the_choice():
    constraints = ("changed_psnr_db >= 15", "perplexity < 150")
    html = render_sweep(SweepResults.of(TRIALS, "perplexity", "max", constraints), {}, "today", {})
    assert all(f"<code>{each.name}</code>" in html for each in TRIALS)
    chosen = "Of 5 settings of those with changed_psnr_db &gt;= 15 and perplexity &lt; 150, model.code_dim 32 has the"
    assert chosen in html
    assert html.count("<b>best</b>") == 1
    assert "highest mean perplexity: 65 ± 7.1; next is model.code_dim 512: 40 ± 14." in html
    assert html.count("misses a constraint") == 3
    assert "Failed: <code>8_1</code> (its process died)." in html
    assert html.count("<svg") == 2
    none = render_sweep(SweepResults.of(TRIALS, "perplexity", "max", ["ssim > 1"]), {}, "today", {})
    assert "None of 5 settings has a whole training and meets ssim &gt; 1." in none
    none = render_sweep(SweepResults.of(TRIALS, "samples_per_s", "max"), {}, "today", {})
    assert "None of 5 settings has a whole training that tells samples_per_s." in none


def test_the_page_shows_pictures_of_the_best_settings_first(tmp_path):
    for name in ("32_1", "64_0", "8_1"):  # of 32's second training alone; 8_1 failed
        (tmp_path / "trials" / name).mkdir(parents=True)
        (tmp_path / "trials" / name / "reconstructions.png").write_bytes(name.encode())
    (tmp_path / "trials" / "32_1" / "swaps.png").write_bytes(b"swaps")
    html = render_sweep(SweepResults.of(TRIALS, "perplexity", "max"), {}, "today", sheets_in(tmp_path))
    section = html.partition('<section id="pictures"')[2].partition("</section>")[0]
    shown = [
        (heading, [b64decode(uri) for uri in re.findall(r'base64,(.+?)"', part)])
        for heading, part in re.findall(r"<h3>(.+?)</h3>(.+?)(?=<h3>|$)", section, re.DOTALL)
    ]
    assert shown == [("model.code_dim 64", [b"64_0"]), ("model.code_dim 32", [b"32_1", b"swaps"])]
    assert 'id="pictures"' not in render_sweep(SweepResults.of(TRIALS, "perplexity", "max"), {}, "today", {})


def measured(size: int, psnr: float, moving: float, still: float, **more: float) -> SweepTrial:
    figures = {"perplexity": 50.0, "psnr_db": 29.0, "copy_last_psnr_db": 28.0, "changed_psnr_db": psnr}
    figures |= {"copy_last_changed_psnr_db": 6.0, "delta_changed_psnr_db": moving, "delta_still_psnr_db": still}
    return SweepTrial(f"{size}_0", {"model.code_dim": size}, 0, "whole", figures | more)


def page_of(*trials: SweepTrial) -> str:
    return " ".join(render_sweep(SweepResults.of(trials, "perplexity", "max"), {}, "today", {}).split())


def test_the_page_sets_tokens_beside_actions():
    swaps = {"random_swap_agreement": 0.25, "leakage_r2": 0.125}
    swaps |= {"leakage_probe_steps": 2000, "cell_leakage_r2_low": 0.75}
    html = page_of(
        measured(64, 17, 2.5, 6),
        measured(32, 14, 5.5, 3, code_swap_agreement=0.5, **swaps),
        measured(16, 11, 4, -0.25, code_swap_agreement=0.875, **swaps),
        measured(8, 11, 0.5, 0, code_swap_agreement=0.9375, **swaps),
        measured(4, 11, 4, 0, code_swap_agreement=0.75, **swaps | {"leakage_r2": 0.5}),
        measured(2, 11, 4, 0, code_swap_agreement=0.75, **swaps | {"leakage_probe_steps": 500}),
        measured(1, 11, 4, 0, code_swap_agreement=0.75, **swaps | {"cell_leakage_r2_low": 0.125}),
    )
    assert (
        "Good as frame tokens, with a PSNR above copy-last and on changed pixels at least 6 dB above it: "
        "model.code_dim 64 and model.code_dim 32. What changes is rebuilt best by model.code_dim 64 (17 dB)."
    ) in html
    assert (
        "in at least 75 %, with a leakage R² of at most 0.25 and a ΔPSNR₁ on changed pixels of at least 1 dB: "
        "model.code_dim 16. Codes of model.code_dim 8 move it alike most often, in 93.8 %, random ones in 25 %. "
        "Of model.code_dim 2 and model.code_dim 1 too little data tells what codes say of the place. "
        "No swaps were measured of model.code_dim 64."
    ) in html
    assert '<td class="num">87.5</td>' in html
    assert html.count("<svg") == 5
    legends = [len(re.findall(rf">\s*code_dim {size}\s*<", html)) for size in (64, 32)]
    assert legends[0] == legends[1] == 4, "a colour of its own in every chart, though 64 has no swaps"
    assert 'id="uses"' not in render_sweep(SweepResults.of(TRIALS, "perplexity", "max"), {}, "today", {})


def test_without_swaps_a_decoder_that_loses_as_much_where_nothing_moves_is_no_better():
    html = page_of(measured(64, 17, 4.9, 4.9), measured(32, 14, 3, 0.1), measured(16, 14, 4, -3))
    assert (
        "No code swaps were measured. Beyond what it is on still pixels, ΔPSNR₁ on changed ones is highest with codes "
        "of model.code_dim 32 (3 against 0.1 dB)."
    ) in html


def test_shares_are_shown_in_percent_beside_copy_last():
    figures = {"perplexity": 9.0, "player_recall_2px": 0.25, "copy_last_player_recall_2px": 0.125}
    html = render_sweep(
        SweepResults.of([SweepTrial("one", {}, 0, "whole", figures)], "perplexity", "max"), {}, "today", {}
    )
    assert '<th scope="col">player found within 2 px, %</th>' in html
    assert '<td class="num">25</td>' in html
    assert "Copy-last on the same pairs: player found within 2 px, %: 12.5." in html
    trials = [SweepTrial(str(one), {"x": one}, 0, "whole", {"sue_recall_2px": one}) for one in (0.25, 0.75)]
    html = render_sweep(SweepResults.of(trials, "sue_recall_2px", "max"), {}, "today", {})
    assert "x 0.75 has the highest mean sue found within 2 px, %: 75; next is x 0.25: 25." in html
    assert ">37.5<" in html, "a mark of the axis"


def test_copy_last_is_told_by_setting_where_settings_see_other_pictures():
    def seen(colour: str, copy_last: float) -> SweepTrial:
        figures = {"perplexity": 9.0, "psnr_db": 30.0, "copy_last_psnr_db": copy_last}
        return SweepTrial(colour, {"model.colour": colour}, 0, "whole", figures)

    html = render_sweep(SweepResults.of([seen("rgb", 28), seen("grey", 32)], "perplexity", "max"), {}, "today", {})
    assert "PSNR, dB: 28 (model.colour rgb); PSNR, dB: 32 (model.colour grey)." in html


def test_the_page_says_that_asha_leaves_the_more_promising_seeds():
    told = [render_sweep(SweepResults.of(some, "perplexity", "max"), {}, "today", {}) for some in (TRIALS, TRIALS[:4])]
    assert ["its mean is of the seeds that promised more" in html for html in told] == [True, False]


def test_results_are_the_same_once_saved_and_loaded(tmp_path):
    results = SweepResults.of(TRIALS, "perplexity", "max", ("changed_psnr_db >= 15", "perplexity < 150"))
    results.save(tmp_path)
    loaded = SweepResults.load(tmp_path)
    assert loaded == results
    assert loaded.best.values == {"model.code_dim": 32}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"trials": []}', '{"settings": [], "best": null}', '{"trials": [{"nome": "x"}]}']
)
def test_damaged_results_and_those_of_before_are_named(tmp_path, text):
    (tmp_path / RESULTS).write_text(text)
    with pytest.raises(LapaError, match=f"{RESULTS}: damaged, or of an older version .*; sweep again"):
        SweepResults.load(tmp_path)
