"""CPUs and memory that may be used, from files of both versions of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hodei_core.backends.local.limits import cpu_quota, usable_cpus, usable_memory

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 30 0:28 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory\n"
    "33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
V1_GROUPS = "4:memory:/box\n3:cpu,cpuacct:/box/inner\n0::/\n"


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v2(root: Path, path: str, files: dict[str, str]) -> Path:
    return system(
        root,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": f"0::{path}\n",
            **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
        },
    )


def v1(root: Path, files: dict[str, str], groups: str = V1_GROUPS) -> Path:
    return system(
        root,
        {
            "proc/self/mountinfo": V1_MOUNTS,
            "proc/self/cgroup": groups,
            **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
        },
    )


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        pytest.param({"a/b/cpu.max": "150000 100000\n"}, 1.5, id="own"),
        pytest.param(
            {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5, id="parent"
        ),
        pytest.param(
            {"a/b/cpu.max": "100000 100000\n", "a/cpu.max": "300000 100000\n"}, 1.0, id="least"
        ),
        pytest.param({"a/b/cpu.max": "max 100000\n"}, None, id="none"),
        pytest.param({"a/b/cgroup.procs": ""}, None, id="controller not enabled"),
        pytest.param({"cpu.max": "250000 100000\n"}, 2.5, id="a container's own root"),
        pytest.param({"a/b/cpu.max": "junk\n", "a/cpu.max": ""}, None, id="junk"),
        pytest.param({"other/cpu.max": "1000 100000\n"}, None, id="a stranger's"),
    ],
)
def test_cpu_quota_of_version_2(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(v2(tmp_path, "/a/b", files)) == quota


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        pytest.param(
            {
                "cpu,cpuacct/box/inner/cpu.cfs_quota_us": "200000\n",
                "cpu,cpuacct/box/inner/cpu.cfs_period_us": "100000\n",
            },
            2.0,
            id="own",
        ),
        pytest.param(
            {
                "cpu,cpuacct/box/inner/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/box/inner/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/box/cpu.cfs_quota_us": "25000\n",
                "cpu,cpuacct/box/cpu.cfs_period_us": "50000\n",
            },
            0.5,
            id="parent",
        ),
        pytest.param(
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3.0,
            id="a container's own root",
        ),
        pytest.param({"cpu,cpuacct/box/inner/cpu.cfs_quota_us": "-1\n"}, None, id="none"),
    ],
)
def test_cpu_quota_of_version_1(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(v1(tmp_path, files)) == quota


def test_cpu_quota_without_cgroups_is_none(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


def test_usable_cpus_are_whole_at_least_one_and_within_affinity(tmp_path: Path) -> None:
    allowed = len(os.sched_getaffinity(0))
    assert usable_cpus(tmp_path) == allowed
    assert usable_cpus(v2(tmp_path / "few", "/", {"cpu.max": "10000 100000"})) == 1
    assert usable_cpus(v2(tmp_path / "many", "/", {"cpu.max": "990000 1000"})) == allowed
    one_and_more = v2(tmp_path / "some", "/", {"cpu.max": "190000 100000"})
    assert usable_cpus(one_and_more) == 1


def test_usable_cpus_follow_the_affinity_of_the_process() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)


MEMINFO = {"proc/meminfo": "MemTotal:        8000000 kB\nMemFree:  1 kB\n"}


def test_usable_memory_is_the_machines_or_the_least_limit(tmp_path: Path) -> None:
    machine = 8_000_000 * 1024
    assert usable_memory(system(tmp_path / "0", MEMINFO)) == machine
    limited = v2(tmp_path / "1", "/a", {"a/memory.max": "1048576\n", "memory.max": "max\n"})
    assert usable_memory(system(limited, MEMINFO)) == 1048576
    unlimited = v2(tmp_path / "2", "/a", {"a/memory.max": "max\n"})
    assert usable_memory(system(unlimited, MEMINFO)) == machine
    old = v1(tmp_path / "3", {"memory/box/memory.limit_in_bytes": "4096000\n"})
    assert usable_memory(system(old, MEMINFO)) == 4096000
    huge = v1(tmp_path / "4", {"memory/box/memory.limit_in_bytes": "9223372036854771712\n"})
    assert usable_memory(system(huge, MEMINFO)) == machine
    assert usable_memory(tmp_path / "nothing") is None


def test_a_mount_point_with_a_space_is_found(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        {
            "proc/self/mountinfo": "30 23 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\nshort\n",
            "proc/self/cgroup": "0::/a/../b\n",
            "my groups/a/b/cpu.max": "100000 100000",
        },
    )
    assert cpu_quota(root) == 1.0
