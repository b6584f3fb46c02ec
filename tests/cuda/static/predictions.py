# SPDX-License-Identifier: Apache-2.0
"""Times that the budgets and datasheets let expect, none of them measured.

`python -m tests.cuda.static.predictions` writes them into docs/cuda.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tests.cuda.static import budgets, toolkit

PAGE = toolkit.ROOT / "docs" / "cuda.md"
BEGIN = "<!-- predictions: written by python -m tests.cuda.static.predictions -->\n"
END = "<!-- end of predictions -->\n"

TILE = 1024
WARPS = budgets.THREADS // 32
BATCHES = (1, 8, 64, 512)
VOCABS = (32000, 128256, 262144)
ELEMENTS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Device:
    """What a datasheet says of a GPU."""

    name: str
    bytes_per_second: float
    multiprocessors: int
    hertz: float
    cache_bytes: float  # of the second level
    largest_cluster: int

    @property
    def slots(self) -> int:
        """Return how many blocks run at once."""
        return self.multiprocessors * int(budgets.BUDGETS["kernel"]["blocks_per_multiprocessor"])


DEVICES = (
    Device("H100 SXM", 3.35e12, 132, 1.755e9, 50e6, 8),
    Device("A100 80GB SXM", 2.039e12, 108, 1.41e9, 40e6, 8),
)

# What no datasheet says: estimates, from what is known of these GPUs and of no measurement here.
READ_EFFICIENCY = 0.9  # of the bandwidth, in long reads
CACHE_GAIN = 2.0  # of the second-level cache over device memory
ISSUE_EFFICIENCY = 0.8  # of four instructions a clock and multiprocessor
LONE_WARP_ISSUE = 0.35  # instructions a clock of a warp that nobody shares a scheduler with
LATENCY = 0.7e-6  # of a load from device memory, seconds
LAUNCH = 2.5e-6
NEXT_LAUNCH = 1.0e-6
BARRIER = 1.0e-6  # of a cluster, with what waits for it
OPEN_SHARE = 0.05  # of the rows whose token top_p 0.95 does not keep, where the nucleus is large
SEARCH_LOOKS = 6  # at the row, to find where a nucleus ends


@dataclass(frozen=True)
class Job:
    """The looks at a row, how much of it the second one sees, and what one warp does at the end of a row."""

    name: str
    first: str
    finish: int  # instructions, counted roughly in the machine code
    share: float = 0.0
    searches: bool = False
    launches: int = 1

    def cost(self, look: str, element: str) -> float:
        return budgets.budget_of(budgets.Kernel("draw_rows", element, False))[look]

    def instructions(self, element: str) -> float:
        second = self.share * self.cost("kept sums", element)
        return self.cost(self.first, element) + second


JOBS = (
    Job("greedy", "maxima", finish=500),
    Job("temperature", "sums", finish=1450),
    Job("top-k 50", "chunks", share=0.04, finish=2550),
    Job("min-p 0.05", "maxima", share=0.1, finish=2300),
    Job("top-k 50 + top-p", "chunks", share=0.04, finish=2750),
    Job("top-p, peaked", "sums", share=0.05, finish=3400, launches=2),
    Job("top-p, dense", "sums", share=1.0, finish=3400, searches=True, launches=2),
)


@dataclass(frozen=True)
class Case:
    """Rows of logits on a device."""

    device: Device
    element: str
    batch: int
    vocab: int

    @property
    def elements(self) -> int:
        return self.batch * self.vocab

    @property
    def bytes(self) -> int:
        return self.elements * budgets.BYTES[self.element]

    @property
    def floor(self) -> float:
        """Return how long one read of the rows takes, in seconds."""
        return self.bytes / (self.device.bytes_per_second * READ_EFFICIENCY)

    @property
    def tiles(self) -> int:
        return -(-self.vocab // TILE)

    @property
    def blocks(self) -> int:
        """Return the blocks of a row, as tuning.h chooses them."""
        useful = min(self.device.slots // self.batch, -(-self.tiles // WARPS), self.device.largest_cluster)
        return 1 << max(useful.bit_length() - 1, 0)


def memory_time(job: Job, case: Case) -> float:
    """Return the time to read it all, a second time from the cache where the rows under way fit into it."""
    rows = min(case.batch, max(case.device.slots // case.blocks, 1))
    fits = rows * case.vocab * budgets.BYTES[case.element] < 0.8 * case.device.cache_bytes
    return case.floor * (1 + job.share / (CACHE_GAIN if fits else 1.0))


def issue_time(job: Job, case: Case) -> float:
    """Return the time to issue the instructions of the looks, on the multiprocessors that have a block."""
    busy = min(case.device.multiprocessors, case.batch * case.blocks)
    rate = busy * 4 * 32 * case.device.hertz * ISSUE_EFFICIENCY
    return case.elements * job.instructions(case.element) / rate


def row_time(job: Job, case: Case) -> float:
    """Return the time of the looks at one row, were there no other: a warp waits for each of its tiles."""
    tiles = -(-case.tiles // (WARPS * case.blocks))
    looks = 1 + job.share
    return looks * tiles * LATENCY + tiles * 32 * job.instructions(case.element) / case.device.hertz


def finish_time(job: Job, case: Case) -> float:
    return job.finish / (LONE_WARP_ISSUE * case.device.hertz)


def search_time(job: Job, case: Case) -> float:
    """Return the time to be expected for the nuclei of the rows that are open."""
    if not job.searches:
        return 0.0
    tiles = -(-case.tiles // (WARPS * case.device.largest_cluster))
    look = tiles * (LATENCY + 32 * job.cost("kept sums", case.element) / case.device.hertz) + BARRIER
    waves = max(1.0, OPEN_SHARE * case.batch * case.device.largest_cluster / case.device.slots)
    return (1 - (1 - OPEN_SHARE) ** case.batch) * waves * SEARCH_LOOKS * look


def kernel_time(job: Job, case: Case) -> float:
    """Return the seconds that kernels take, without their launches."""
    waves = -(-case.batch * case.blocks // case.device.slots)
    finish = finish_time(job, case)
    together = max(memory_time(job, case), issue_time(job, case)) + LATENCY + finish
    apart = waves * (row_time(job, case) + finish)
    return max(together, apart) + search_time(job, case)


def call_time(job: Job, case: Case) -> float:
    return LAUNCH + (job.launches - 1) * NEXT_LAUNCH + kernel_time(job, case)


# ---- the page ----


def cell(job: Job, case: Case) -> str:
    if case.batch == 1:
        return f"{call_time(job, case) * 1e6:.1f}"
    seconds = kernel_time(job, case)
    return f"{seconds * 1e6:.1f} ({seconds / case.floor:.2f})"


def table(device: Device) -> str:
    head = ["rows", "vocab", "type", "floor", *(job.name for job in JOBS)]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for element in ELEMENTS:
        for vocab in VOCABS:
            for batch in BATCHES:
                case = Case(device, element, batch, vocab)
                row = [str(batch), str(vocab), element, f"{case.floor * 1e6:.1f}"]
                lines.append(" | ".join([*row, *(cell(job, case) for job in JOBS)]))
    return "".join(f"| {line} |\n" for line in lines)


def text() -> str:
    parts = [
        f"{device.name}, microseconds, **predicted, not measured**:\n\n{table(device)}" for device in DEVICES
    ]
    return "\n" + "\n".join(parts) + "\n"


def written(page: str) -> str:
    """Return the page with the predictions of now between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + text() + END + after


def main() -> int:
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
