"""Group environment: Python, packages, and what this machine computes."""

from __future__ import annotations

import os
import secrets
from typing import TypeVar

import torch

from helix_cli.backend import host
from helix_cli.backend.probe import wrong_sums
from helix_cli.checks.check import Check, Outcome, Skip, judged
from helix_cli.checks.subject import Subject
from helix_cli.model.products import float_product
from helix_cli.packages import dependencies, mismatches, python_range
from helix_cli.sampling import Noise, Purpose
from helix_cli.storage import Storage, read_record, write_record

T = TypeVar("T")
KNOWN_UNIFORM = 0.18901367118621892
KNOWN_GUMBEL = (3.0928, 2.0389, 1.6364)
"""Noise of seed 1234 in the round that starts at 7, for position 9; computed on an x86 processor."""
EPSILONS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Relative error of a sum of 256 products in each type, with room."""


def python(subject: Subject) -> Outcome:
    """The interpreter against the range that the package asks for."""
    version, wanted, holds = known(python_range())
    return judged(holds, f"Python {version}; {wanted} is supported", version=version, wanted=wanted)


def packages(subject: Subject) -> Outcome:
    """Every dependency against its range."""
    found, wrong = known(dependencies())
    wrong += [one.message.rstrip(".") for one in mismatches(found)]
    return judged(not wrong, "; ".join(wrong) or f"{len(found)} packages in their ranges", versions=found)


def assertions(subject: Subject) -> Outcome:
    """Whether this Python checks `assert` at all."""
    try:
        _claim(False)
    except AssertionError:
        return judged(True, "Python checks assertions")
    return judged(False, "Python runs with -O, so the engine's invariants are not checked")


def _claim(statement: bool) -> None:
    assert statement


def device(subject: Subject) -> Outcome:
    """A product of whole numbers, which every device computes exactly or wrongly."""
    backend = subject.backend
    wrong = wrong_sums(backend.device, subject.seed)
    return judged(wrong == 0, f"{backend.description}: {wrong} sums wrong", device=backend.name)


def products(subject: Subject) -> Outcome:
    """The matrix kernel that this machine runs, in each number type it offers, against float64."""
    generator = torch.Generator().manual_seed(subject.seed)
    errors: dict[str, float] = {}
    too_large = []
    for dtype in subject.backend.dtypes:
        weight = torch.randn(48, 256, generator=generator).to(dtype)
        rows = torch.randn(5, 256, generator=generator).to(dtype)
        product = float_product(weight.to(subject.backend.device), None, subject.backend)
        found = product(rows.to(subject.backend.device)).cpu().double()
        wanted = rows.double() @ weight.double().t()
        name = str(dtype).removeprefix("torch.")
        errors[name] = float((found - wanted).abs().max() / wanted.std())
        if not errors[name] <= EPSILONS[dtype] * 4:
            too_large.append(name)
    listed = ", ".join(f"{name} {error:.1g}" for name, error in errors.items())
    return judged(not too_large, f"largest error in standard deviations: {listed}", errors=errors)


def memory(subject: Subject) -> Outcome:
    """The whole of the pools against what is free now."""
    free = subject.backend.free_memory()
    if free is None:
        raise Skip("This device does not say how much memory is free.")
    caches = [subject.session.engine.scheduler.cache]
    if subject.draft is not None:
        caches.append(subject.session.engine.drafter.cache)  # type: ignore[attr-defined]
    need = sum(cache.num_blocks * cache.block_bytes for cache in caches)
    reason = f"the K/V pools may grow to {need / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free"
    return judged(need <= free, reason, pool_bytes=need, free_bytes=free)


def threads(subject: Subject) -> Outcome:
    """Threads against cores: more of them wait for each other in every product."""
    cores = host.usable_cores()
    if cores is None:
        raise Skip("This system does not say how many cores there are.")
    count = subject.session.info.threads
    return judged(count <= cores, f"{count} threads on {cores} usable cores", threads=count, cores=cores)


def noise(subject: Subject) -> Outcome:
    """Known answers of the generator that all sampling rests on."""
    one = Noise(1234, 7)
    uniform, gumbel = one.uniform(9, Purpose.ACCEPT), one.gumbel(9, Purpose.PICK, len(KNOWN_GUMBEL)).tolist()
    same = uniform == KNOWN_UNIFORM and all(
        abs(mine - known) < 1e-4 for mine, known in zip(gumbel, KNOWN_GUMBEL, strict=True)
    )
    reason = "a seed means the same here as elsewhere" if same else "the noise differs from the recorded one"
    return judged(same, reason, uniform=uniform, gumbel=gumbel)


def storage(subject: Subject) -> Outcome:
    """A record written to the cache directory and read again."""
    store = Storage()
    key, value = f"validate-{secrets.token_hex(8)}", [1, "two", None]
    place = next((folder for folder in (store.root, *store.root.parents) if folder.exists()), store.root)
    if not os.access(place, os.W_OK):
        raise Skip(f"{store.root} cannot be written, so every start measures anew.")
    try:
        write_record(store, "measurements", key, "helix validate", value)
        found = read_record(store, "measurements", key)
    finally:
        store.remove("measurements", key)
    reason = f"{store.root} keeps what is written to it" if found == value else f"{store.root} lost a record"
    return judged(found == value, reason, directory=str(store.root))


def known(found: T | None) -> T:
    """What the installation says; raises Skip where there is none."""
    if found is None:
        raise Skip("Helix runs from its sources without being installed, so no ranges are known.")
    return found


CHECKS = (
    Check("environment.python", "This Python is one that Helix supports.", python),
    Check("environment.packages", "Every package is in the range that Helix asks for.", packages),
    Check("environment.assertions", "Broken invariants are noticed.", assertions),
    Check("environment.device", "The device adds and multiplies correctly.", device),
    Check("environment.products", "The matrix kernels agree with float64 in every number type.", products),
    Check("environment.memory", "The K/V pools fit into the memory that is free.", memory),
    Check("environment.threads", "No more threads run than there are cores.", threads),
    Check("environment.noise", "A seed gives the same noise on this machine as on any other.", noise),
    Check("environment.storage", "What is kept on disk between runs comes back as it was written.", storage),
)
