"""Reading cores and memory from a made-up file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from helix_cli.backend import host

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> Path:
    """Put `files` under `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def cpuinfo(cores: list[tuple[int, int]]) -> str:
    """/proc/cpuinfo of processors on the given (package, core)."""
    return "\n\n".join(
        f"processor\t: {i}\nmodel name\t: Chip 9\nflags\t\t: fpu avx2\nphysical id\t: {package}\ncore id\t\t: {core}"
        for i, (package, core) in enumerate(cores)
    )


@pytest.fixture
def affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors 0 to 5 may be used."""
    monkeypatch.setattr(host, "_affinity", lambda: frozenset(range(6)))


@pytest.mark.usefixtures("affinity")
def test_hyper_threads_and_forbidden_processors_do_not_count(tmp_path: Path) -> None:
    cores = [(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0), (1, 1), (1, 1)]
    assert host.usable_cores(write(tmp_path, {"proc/cpuinfo": cpuinfo(cores)})) == 3


@pytest.mark.usefixtures("affinity")
def test_processors_without_core_ids_are_cores(tmp_path: Path) -> None:
    text = "processor\t: 0\nFeatures\t: fp bf16\n\nprocessor\t: 1\nFeatures\t: fp bf16\n"
    root = write(tmp_path, {"proc/cpuinfo": text})
    assert host.usable_cores(root) == 2
    assert "bf16" in host.processor_flags(root)


@pytest.mark.usefixtures("affinity")
@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000",
        },
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/a\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        },
    ],
)
def test_a_quota_bounds_the_cores(tmp_path: Path, files: dict[str, str]) -> None:
    root = write(tmp_path, {"proc/cpuinfo": cpuinfo([(0, i) for i in range(6)]), **files})
    assert host.usable_cores(root) == 2


def test_nothing_to_read_means_unknown(tmp_path: Path) -> None:
    assert host.usable_cores(tmp_path) is None
    assert host.available_memory(tmp_path) is None
    assert host.processor_name(tmp_path) is None
    assert host.processor_flags(tmp_path) == frozenset()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8 * GIB),
        (
            {
                "proc/self/cgroup": "0::/pod\n",
                "sys/fs/cgroup/pod/memory.max": f"{4 * GIB}\n",
                "sys/fs/cgroup/pod/memory.current": f"{3 * GIB}\n",
                "sys/fs/cgroup/pod/memory.stat": f"anon 1\ninactive_file {GIB}\n",
            },
            2 * GIB,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/pod\n",
                "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/pod/memory.usage_in_bytes": f"{GIB}\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{5 * GIB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{2 * GIB}\n",
            },
            3 * GIB,
        ),
    ],
)
def test_memory_is_bounded_by_the_control_group(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    meminfo = f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {8 * GIB // 1024} kB\n"
    assert host.available_memory(write(tmp_path, {"proc/meminfo": meminfo, **files})) == expected


def test_a_group_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": f"{GIB}\n",
        "sys/fs/cgroup/memory.current": f"{2 * GIB}\n",
    }
    assert host.available_memory(write(tmp_path, files)) == 0
