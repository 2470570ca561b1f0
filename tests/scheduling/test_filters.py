from __future__ import annotations

import pytest

from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.needs import Needs
from hodei_core.workers import Offer
from tests.scheduling.helpers import needs, offer


def test_what_asks_for_nothing_runs_anywhere() -> None:
    asks_nothing = needs(cpus=0)
    for has in (offer(), offer(cpus=0), offer(image="debian", labels={"x": "y"}, memory=0)):
        assert mismatch(asks_nothing, has) is None


def test_a_worker_of_another_provider_is_refused() -> None:
    assert mismatch(needs(provider="docker"), offer("docker")) is None
    assert (
        mismatch(needs(provider="docker"), offer("local"))
        == "it is of provider 'local', the job wants 'docker'"
    )


def test_a_worker_with_another_image_is_refused() -> None:
    wants = needs(image="debian:12")
    assert mismatch(wants, offer(image="debian:12")) is None
    assert mismatch(wants, offer(image="alpine")) == (
        "it offers image 'alpine', the job wants 'debian:12'"
    )
    assert mismatch(wants, offer()) == "it offers no image, the job wants 'debian:12'"


def test_a_job_without_an_image_runs_in_any() -> None:
    assert mismatch(needs(), offer(image="alpine")) is None


def test_a_worker_without_a_required_label_is_refused() -> None:
    wants = needs(requires={"gpu": "a100"})
    assert mismatch(wants, offer(labels={"gpu": "a100", "disk": "ssd"})) is None
    assert mismatch(wants, offer()) == "it has no label 'gpu', the job requires gpu=a100"
    assert mismatch(wants, offer(labels={"gpu": "t4"})) == (
        "its label 'gpu' is 't4', the job requires 'a100'"
    )


def test_every_required_label_counts() -> None:
    wants = needs(requires={"gpu": "a100", "disk": "ssd"})
    assert mismatch(wants, offer(labels={"gpu": "a100"})) == (
        "it has no label 'disk', the job requires disk=ssd"
    )


@pytest.mark.parametrize(
    ("has", "words"),
    [
        (1, "it has 1 CPU, the job asks for 2.5"),
        (2, "it has 2 CPUs, the job asks for 2.5"),
        (0.5, "it has 0.5 CPUs, the job asks for 2.5"),
    ],
)
def test_a_worker_with_too_few_cpus_is_refused(has: float, words: str) -> None:
    assert mismatch(needs(cpus=2.5), offer(cpus=has)) == words
    assert mismatch(needs(cpus=2.5), offer(cpus=2.5)) is None


def test_a_worker_with_too_little_memory_is_refused() -> None:
    wants = needs(memory="2GiB")
    assert mismatch(wants, offer(memory="2GiB")) is None
    assert mismatch(wants, offer(memory="512MiB")) == (
        "it has 512 MiB of memory, the job asks for 2 GiB"
    )


def test_a_worker_without_a_limit_has_enough_memory() -> None:
    assert mismatch(needs(memory="900TiB"), offer(memory=None)) is None


def test_what_other_jobs_use_does_not_count() -> None:
    assert mismatch(needs(cpus=4), offer(cpus=4, slots=1)) is None


@pytest.mark.parametrize(
    ("wants", "has", "first"),
    [
        (needs(provider="a", image="i"), offer("b"), "it is of provider"),
        (needs(image="i", requires={"x": "y"}), offer(), "it offers"),
        (needs(requires={"x": "y"}, cpus=9), offer(), "it has no label"),
        (needs(cpus=9, memory="9GiB"), offer(memory=1), "it has 4 CPUs"),
    ],
    ids=["provider", "image", "label", "cpus"],
)
def test_the_plainest_reason_comes_first(wants: Needs, has: Offer, first: str) -> None:
    reason = mismatch(wants, has)
    assert reason is not None
    assert reason.startswith(first)
