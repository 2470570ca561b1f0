from __future__ import annotations

import random
import uuid

from hodei_core.ids import IdSource
from tests.values.helpers import run_python

FORKS = """
import os
from hodei_core.ids import IdSource
source = IdSource()
source.job_id()
reader, writer = os.pipe()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        text = "".join(source.job_id() + "\\n" for _ in range(200))
        written = 0
        while written < len(text):
            written += os.write(writer, text[written:].encode())
        os._exit(0)
    children.append(child)
    os.waitpid(child, 0)
os.close(writer)
data = b""
while chunk := os.read(reader, 65536):
    data += chunk
ids = data.decode().split() + [source.job_id() for _ in range(200)]
print(len(ids), len(set(ids)))
"""


def test_ids_are_unique_across_forks() -> None:
    assert run_python(FORKS).split() == [b"1000", b"1000"]


def test_an_id_of_a_job_is_a_random_uuid_as_text() -> None:
    text = IdSource().job_id()
    assert str(uuid.UUID(text)) == text
    assert uuid.UUID(text).version == 4


def test_ids_are_unique_in_one_process() -> None:
    source = IdSource()
    assert len({source.job_id() for _ in range(1000)}) == 1000


def test_an_id_of_a_worker_begins_with_its_provider() -> None:
    source = IdSource()
    assert source.worker_id("local").startswith("local-")
    assert source.worker_id("local") != source.worker_id("local")


def test_each_incarnation_of_a_host_has_an_id_of_its_own() -> None:
    source = IdSource()
    assert source.host_id() != source.host_id()


def ids_of(seed: int) -> list[str]:
    source = IdSource(random.Random(seed).randbytes)
    return [source.job_id(), source.worker_id("w"), source.host_id(), source.job_id()]


def test_a_seed_gives_the_same_ids_again() -> None:
    assert ids_of(1) == ids_of(1)
    assert ids_of(0) == ids_of(0)
    assert ids_of(1) != ids_of(2)
    assert uuid.UUID(ids_of(1)[0]).version == 4


def test_a_seed_gives_the_same_ids_in_another_process() -> None:
    script = (
        "import random\n"
        "from hodei_core.ids import IdSource\n"
        "s = IdSource(random.Random(1).randbytes)\n"
        "print(s.job_id(), s.worker_id('w'), s.host_id(), s.job_id())"
    )
    assert run_python(script, hash_seed=3).decode().split() == ids_of(1)


def test_a_seeded_source_is_independent_of_others() -> None:
    first, second = (IdSource(random.Random(5).randbytes) for _ in range(2))
    mixed = [first.job_id(), second.job_id(), first.job_id(), second.job_id()]
    assert mixed[0] == mixed[1]
    assert mixed[2] == mixed[3]


def test_a_chance_lies_between_0_and_1() -> None:
    source = IdSource()
    chances = [source.chance() for _ in range(1000)]
    assert all(0 <= chance < 1 for chance in chances)
    assert min(chances) < 0.1
    assert max(chances) > 0.9
    assert IdSource(lambda count: b"\0" * count).chance() == 0
    assert IdSource(lambda count: b"\xff" * count).chance() < 1
