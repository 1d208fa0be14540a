"""Measure what is missing, then write docs/replication.md and its figures.

    python experiments/replication/report.py

All tables and figures come from the stored weights; PSNR values that results.json holds for these
weights are not measured again. The figures need matplotlib (`pip install -e ".[plots]"`).
"""

import argparse
import pickle

import figures
import numpy as np
import padding
import tables
import torch
from evaluate import (
    FEW,
    FULL,
    SCALES,
    STITCH,
    TILES,
    complete,
    crops,
    pair,
    restored,
    results,
    tlc,
    variants,
    weights_digest,
)
from jobs import MECHANISMS, PIXELS_A_STEP, STEPS, WEIGHTS, Job, finished, parameters, trained
from photos import CACHE, HERE, LONGER_SIDE, ROOT, names

import glocal
from glocal import StatisticsShift
from glocal.images.files import write_whole
from glocal.metrics import psnr
from glocal.study.shift import plots

DOCS = ROOT / "docs"
IMAGES = DOCS / "images"
LAYERS = {  # the first operation of the second level, as in the paper's figure
    "nafnet": "encoders.1.0.sca.0",
    "hinet": "down_path_1.1.norm",
    "restormer": "encoder_level2.0.attn",
}
SEEN = 640
AMPLIFY = 2.0
CROPS_A_PHOTO = 24
SHIFT_PHOTOS = 5
"""Photographs of which the statistics are compared; `analyze` runs a network four times on each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured-only", action="store_true", help="measure no PSNR")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    measured = results() if arguments.measured_only else complete()
    found = tables.groups(measured)
    jobs = [job for job in finished() if job.seed == 0]
    statistics = {job.name: statistics_of(job) for job in jobs}
    IMAGES.mkdir(parents=True, exist_ok=True)
    density_figure({job: statistics[job.name] for job in jobs})
    window_figures(found)
    visible = comparison_figure(jobs[0])
    more_ways = tables.more_ways(measured)
    (DOCS / "replication.md").write_text(document(found, statistics, visible, more_ways))
    print(f"wrote {DOCS / 'replication.md'}")


def statistics_of(job: Job) -> StatisticsShift:
    """Statistics of a network over held-out crops, whole photographs, and with TLC."""
    kept = CACHE / f"{job.name}-{weights_digest(job)[:16]}.statistics"
    if not kept.exists():
        print(f"{job.name}: statistics", flush=True)
        photographs = [pair(job.task, name)[1] for name in names("held-out")[:SHIFT_PHOTOS]]
        found = glocal.analyze(trained(job), photographs, job.crop, crops_per_image=CROPS_A_PHOTO)
        CACHE.mkdir(parents=True, exist_ok=True)
        write_whole(kept, pickle.dumps(found), glocal.GlocalError)
    return pickle.loads(kept.read_bytes())


def density_figure(statistics: dict[Job, StatisticsShift]) -> None:
    """The paper's first figure, one panel per mechanism."""
    panels = {
        f"{job.network}: {LAYERS[job.network]}": shift
        for job, found in statistics.items()
        for shift in found.shifts
        if (job.task, job.crop, shift.path) == ("dehaze", 64, LAYERS[job.network])
    }
    plots.densities(panels, IMAGES / "replication-statistics.png")


def window_figures(found: list[tables.Group]) -> None:
    """PSNR against the window: by mechanism, then by crop size and task."""

    def panel(group: tables.Group):
        gains = np.stack([group.gain(tlc(s)) for s in SCALES], -1)  # (seeds, photographs, scales)
        half = np.array([tables.over_photographs(g).half_width for g in np.moveaxis(gains, -1, 0)])
        levels = (group.gain(STITCH).mean(1), group.gain(crops(1.0)).mean(1))
        return SCALES, gains.mean(1), half, *levels

    by_mechanism = {g.title: panel(g) for g in found if g.title.endswith("crop 64")}
    main = {t: p for t, p in by_mechanism.items() if t.startswith("dehaze")}
    others = {g.title: panel(g) for g in found if g.title not in main}
    figures.windows(main, IMAGES / "replication-window.png")
    if others:
        figures.windows(others, IMAGES / "replication-window-more.png")


def comparison_figure(job: Job) -> str:
    """Draw a part of the photograph with the median gain; returns its name."""
    measured = results()[job.name]["photographs"]
    order = sorted(
        measured,
        key=lambda n: measured[n]["psnr_db"][tlc(1.5)] - measured[n]["psnr_db"][FULL],
    )
    name = order[len(order) // 2]
    sharp, degraded = pair(job.task, name)
    ways = (FULL, TILES, STITCH, tlc(1.5), crops(1.0))
    networks = variants(job, ways)
    images = {way: restored(job, networks, degraded, way) for way in ways}
    # where full image and TLC differ most
    apart = np.abs(images[FULL].astype(float) - images[tlc(1.5)]).mean(2)
    sums = np.pad(apart.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    s = SEEN
    boxes = sums[s:, s:] - sums[:-s, s:] - sums[s:, :-s] + sums[:-s, :-s]
    y, x = np.unravel_index(boxes.argmax(), boxes.shape)
    area = np.s_[y : y + s, x : x + s]
    shown = {"degraded": degraded, **images}
    parts = {
        way: (image[area], f"{psnr(image[area], sharp[area]):.2f} dB: error")
        for way, image in shown.items()
    }
    figures.comparison(sharp[area], parts, IMAGES / "replication-crops.png", AMPLIFY)
    return name


def document(
    found: list[tables.Group],
    statistics: dict[str, StatisticsShift],
    visible: str,
    more_ways: str,
) -> str:
    """The text of docs/replication.md."""
    held_out = len(found[0].photographs)
    networks = tables.markdown(
        ["network", "mechanism", "parameters"],
        [[n, text, f"{parameters(n):,}"] for n, text in MECHANISMS.items()],
    )
    more = "\n![other crops and tasks](images/replication-window-more.png)\n" * any(
        "crop 64" not in g.title or not g.title.startswith("dehaze") for g in found
    )
    size = sum(path.stat().st_size for path in WEIGHTS.glob("*.safetensors")) / 1e6
    lost = tables.losses(found)
    by_hand = HERE / "discussion.md"
    discussion = by_hand.read_text().strip() if by_hand.exists() else ""
    return f"""<!-- Written by experiments/replication/report.py; edit that. -->
# Replication: does TLC do what its paper says?

Small networks, trained from scratch on free photographs, one for each kind of global operation.
One command regenerates everything here from stored weights ({size:.1f} MB):

```
python experiments/replication/report.py
```

{networks}

Each was trained for {STEPS:,} steps of {PIXELS_A_STEP:,} pixels (8 crops of 64×64; other crop
sizes: the same pixels a step) on 26 photographs, and is measured on {held_out} held-out ones,
{LONGER_SIDE} pixels on the longer side, degraded and restored as a whole. The strength of each
degradation varies over the photograph: haze of optical depth 0.1 to 1.5 ("dehaze"), motion blur of
0 to 13 px with noise of σ 2 ("deblur"), noise of σ 5 to 50 ("denoise"). Details and reasons:
[`experiments/replication`](../experiments/replication/README.md).

*Full image*: the unconverted network on the whole photograph. *Crop-and-stitch*: the unconverted
network on tiles of the training size that overlap by a quarter and are blended linearly (*tiles*
in the picture: tiles edge to edge). *TLC s×*: the converted network, windows of s × the training
size; 1.5× is the paper's, and the default of `localize`. *crops s*: the converted network with
[statistics from crops](crops.md) that are at most s training sizes apart.

## Results

{tables.verdicts(found, statistics)}

{discussion}

### Mean PSNR (dB)

{tables.means(found)}

### Paired differences (dB)

Differences are paired by photograph and averaged over the seeds. The interval is Student's 95 %
interval over the {held_out} photographs; the range over the seeds is a column of its own.

{tables.differences(found)}

### Statistics from crops

"Picked on other photographs" is the way, of all windows and crops, that has the best mean on the
nine other photographs, as `glocal tune` picks one on other images.

{tables.crop_differences(found)}

Larger strides, and the strongest reference: crop-and-stitch with overlaps of a half and of three
quarters, which costs 4 and 16 passes. Mean PSNR of the first {FEW} photographs, networks of the
first seed (–: not measured yet):

{more_ways}

### Window against PSNR

![window size against the gain in PSNR](images/replication-window.png)

Thick: mean over seeds with the interval over photographs; thin: the seeds.
{more}
## The statistics shift

The paper's figure: the statistic of one operation over crops of the training size, whole
photographs, and whole photographs with TLC, for the first global operation of each dehazing
network's second level. All channels together, each standardised by its mean and deviation over
the crops. The crops come from the first {SHIFT_PHOTOS} held-out photographs ({CROPS_A_PHOTO} of
each), so only the size of the view differs.

![densities of the statistic](images/replication-statistics.png)

Distance of the statistic from that over the crops (`glocal analyze`): Wasserstein distance of each
channel in units of its deviation over crops, averaged over the channels. The statistic is the
pooled mean (nafnet), mean and inverse deviation (hinet), the product of query and key channels
(restormer).

{tables.shifts(statistics)}

## Padding

Deviation of the channels before HINet's first instance norm, in crops of the training size:
computed from the crop alone, with zero padding as in training, and cut out of the map of the whole
photograph, as windows are. Distance: of the inverse deviations, in units of their deviation over
padded crops. `python experiments/replication/padding.py`

{padding.table()}

## Seams

The jump of the error across the borders of edge-to-edge tiles, divided by the jump between all
other neighbouring pixels: 1 means no seams.

{tables.seams(found)}

![crops of a photograph, and their errors](images/replication-crops.png)

{visible}, the photograph with the median gain: the {SEEN}×{SEEN} pixels where full image and TLC
differ most. Below, amplified (grey: zero): the error; the difference from statistics from crops,
which shows the seams.

## Where TLC loses

{lost or "On no photograph is the default window worse than the full image or crop-and-stitch."}

## Photograph by photograph (dB, mean over the seeds)

{tables.photographs(found)}

Raw numbers of every photograph, seed and window:
[`results.json`](../experiments/replication/results.json).
"""


if __name__ == "__main__":
    main()
