"""How much of a server's throughput a judge over HTTP gets, with 64 calls at once.

    python benchmarks/judge_throughput.py --vllm PYTHON [--json]     # starts vLLM's own server
    python benchmarks/judge_throughput.py --url http://HOST:PORT/v1 --model NAME
    python benchmarks/judge_throughput.py --quick                    # a server that only waits

Three sides take turns at one server: a bare client that sends requests made beforehand over open
sockets and does not read the answers (what the server itself can do), `OpenAIEngine.complete` with
its cache on disk, and the whole stage `judge` with its record files. Every turn asks about new
answers to the same questions, all of one length, so that no side finds the other's prompts in the
server's cache. `--vllm` names an interpreter that has vLLM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from alignlab import progress
from alignlab.errors import RunFailed
from alignlab.feedback.model_judge import ModelJudge
from alignlab.feedback.prompts import judge_prompt
from alignlab.generation.openai import OpenAIConfig, OpenAIEngine
from alignlab.registry import get
from alignlab.runs import Run, RunIdentity
from alignlab.seeds import derive
from alignlab.stages.judge import judge
from alignlab.stages.lab import Lab
from alignlab.types import CompletionRequest, Message, Prompt, Response, SampledBy, Sampling

HERE = Path(__file__).parent
SERVED = "sandbox"
QUICK_WAIT_S = 0.5
STARTS_WITHIN_S = 300


@dataclass(frozen=True)
class Row:
    """One side's throughput."""

    server: str
    side: str
    concurrency: int
    calls: int
    """Calls of one turn."""
    per_s: float
    """Median calls per second."""
    range: tuple[float, float]
    ratio: float
    """Median over rounds of this side's calls per second over the bare client's."""
    ratio_range: tuple[float, float]
    cpu_ms: float
    """Median processor time of this side's process per call, in milliseconds."""
    rounds: int
    seed: int
    versions: str


@dataclass(frozen=True)
class Work:
    """What every turn asks of the server."""

    url: str
    model: str
    server: str
    calls: int
    concurrency: int
    max_tokens: int
    seed: int
    folder: Path

    @property
    def config(self) -> OpenAIConfig:
        return OpenAIConfig(concurrency=self.concurrency)

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=0.7, top_p=0.9, max_tokens=self.max_tokens)


@dataclass(frozen=True)
class Turn:
    """What one turn of one side took."""

    seconds: float
    cpu_seconds: float


def material(work: Work, turn: str) -> list[tuple[Prompt, Response]]:
    """Questions with an answer each; no other turn has the same."""
    sampler = SampledBy("benchmark")
    found = []
    for k in range(work.calls):
        number = derive(work.seed, turn, k) % 10**9
        prompt = Prompt(f"p{k}", (Message("user", f"Tell me about item {number:09}."),))
        text = f"Item {number:09} is a river in the north. " * 4
        found.append((prompt, Response(f"r{k}", prompt.id, text, sampler)))
    return found


def requests(work: Work, turn: str) -> list[CompletionRequest]:
    """As a judge asks about the material."""
    shown = judge_prompt("short_score")
    return [
        CompletionRequest(response.id, shown.render(prompt, response), work.sampling, work.seed)
        for prompt, response in material(work, turn)
    ]


def bare(work: Work, turn: str) -> Callable[[], None]:
    """The requests as bytes, sent over as many open sockets as calls may be under way."""
    address = urlsplit(work.url)
    engine = OpenAIEngine(work.model, work.url, config=work.config)
    messages = []
    for request in requests(work, turn):
        body = json.dumps(engine._payload(request)).encode()
        head = (
            f"POST {address.path}/chat/completions HTTP/1.1\r\nhost: {address.netloc}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        messages.append(head.encode() + body)

    async def worker(queue: Iterator[bytes]) -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for message in queue:
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            if not head.startswith(b"http/1.1 200 "):
                raise RunFailed(f"{work.url}: expected 200, found {head[:40]!r}, {body[:200]!r}")
        writer.close()

    async def all_of_them() -> None:
        queue = iter(messages)
        await asyncio.gather(*(worker(queue) for _ in range(work.concurrency)))

    return lambda: asyncio.run(all_of_them())


def engine(work: Work, turn: str) -> Callable[[], None]:
    """Our client, from requests to completions, a new cache every turn."""
    made = OpenAIEngine(work.model, work.url, config=work.config, cache_dir=work.folder / turn)
    asked = requests(work, turn)

    def run() -> None:
        failed = [c.error for several in made.complete(asked) for c in several if c.error]
        if failed:
            raise RunFailed(f"{work.url}: {len(failed)} calls failed, the first with {failed[0]}")

    return run


def stage(work: Work, turn: str) -> Callable[[], None]:
    """The stage `judge` of a run: questions in chunks, verdicts to a file."""
    path = work.folder / f"{turn}-run"
    run = Run.start(path, RunIdentity("benchmark", {}, (work.seed,)))
    lab = Lab(run, work.seed)
    options = f"concurrency={work.concurrency}"
    source = ModelJudge(
        lab.completer(f"openai:{work.model}@{work.url}?{options}"),
        judge_prompt("short_score"), samples=1, sampling=work.sampling,
    )  # fmt: skip
    prompts, responses = zip(*material(work, turn), strict=True)

    def judge_all() -> None:
        if len(judge(lab, source, prompts, responses)) != work.calls:
            raise RunFailed(f"expected {work.calls} verdicts")
        run.close()

    return judge_all


SIDES = {"bare client": bare, "engine": engine, "stage judge": stage}


def measure(work: Work, rounds: int) -> list[Row]:
    """All sides take turns, in an order that rotates, after a turn of each that is not counted."""
    names = list(SIDES)
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    with progress.task(work.server, (rounds + 1) * len(names)) as bar:
        for number in range(rounds + 1):
            for place in range(len(names)):
                name = names[(place + number) % len(names)]
                run = SIDES[name](work, f"{name.split()[0]}-{number}")
                began, cpu = time.perf_counter(), time.process_time()
                run()
                took = Turn(time.perf_counter() - began, time.process_time() - cpu)
                turns[name] += [took] if number else []
                bar.advance()
    return [_row(work, name, turns[name], turns[names[0]]) for name in names]


def _row(work: Work, name: str, turns: Sequence[Turn], first: Sequence[Turn]) -> Row:
    per_s = [work.calls / turn.seconds for turn in turns]
    ratios = [a.seconds / b.seconds for a, b in zip(first, turns, strict=True)]
    return Row(
        server=work.server,
        side=name,
        concurrency=work.concurrency,
        calls=work.calls,
        per_s=statistics.median(per_s),
        range=(min(per_s), max(per_s)),
        ratio=statistics.median(ratios),
        ratio_range=(min(ratios), max(ratios)),
        cpu_ms=statistics.median(turn.cpu_seconds for turn in turns) / work.calls * 1000,
        rounds=len(turns),
        seed=work.seed,
        versions=f"openai {openai.__version__}, Python {platform.python_version()}",
    )


@contextmanager
def _ended(command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended, with all that it started, when it is no longer needed."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, text=True, start_new_session=True,
            **{"stdout": file, "stderr": file, **options},
        )  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def waiting_server(folder: Path) -> Iterator[str]:
    """A server that only waits; its address."""
    script = str(HERE / "judge_throughput_server.py")
    command = [sys.executable, script, str(QUICK_WAIT_S)]
    with _ended(command, folder / "server.log", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"


def write_judge(folder: Path, *, seed: int) -> Path:
    """A random model of 26 million parameters that reads and writes as the sandbox's own."""
    small = Path(get("model", "sandbox")("knows_all"))
    shutil.copytree(small, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = LlamaConfig.from_pretrained(small)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 512, 1408, 8
    config.num_attention_heads = config.num_key_value_heads = 8
    config.head_dim = 64
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@contextmanager
def vllm_server(python: str, folder: Path, model: Path, concurrency: int) -> Iterator[str]:
    """vLLM's OpenAI server, from when it is healthy; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1",
        "--port", str(port), "--model", str(model),
        "--served-model-name", SERVED, "--max-num-seqs", str(concurrency),
        "--no-enable-chunked-prefill", "--max-model-len", "512", "--disable-uvicorn-access-log",
    ]  # fmt: skip
    environment = {
        **os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"
    }  # fmt: skip
    log = folder / "server.log"
    with _ended(command, log, env=environment) as process:
        end = time.monotonic() + STARTS_WITHIN_S
        while not _healthy(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RunFailed(f"vLLM's server did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def table(rows: list[Row]) -> Table:
    first = rows[0]
    made = Table(
        title=f"Judging over HTTP: {first.server}, {first.concurrency} calls at once",
        caption=f"{first.calls} calls a turn, {first.rounds} rounds, seed {first.seed}; "
        f"{first.versions}",
    )
    for name in ("side", "calls/s", "range", "of the bare client", "range", "CPU ms a call"):
        made.add_column(name)
    for row in rows:
        made.add_row(
            row.side,
            f"{row.per_s:.1f}",
            f"{row.range[0]:.1f}-{row.range[1]:.1f}",
            f"{row.ratio:.0%}",
            f"{row.ratio_range[0]:.0%}-{row.ratio_range[1]:.0%}",
            f"{row.cpu_ms:.2f}",
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vLLM")
    server.add_argument("--url", help="a server that runs, http://HOST:PORT/v1")
    server.add_argument("--quick", action="store_true", help="a check that everything runs")
    parser.add_argument("--model", default=SERVED, help="what that server calls its model")
    parser.add_argument(
        "--size", choices=["0.9M", "26M"], default="26M",
        help="vLLM's model: the sandbox's own, or a random one that writes to the limit",
    )  # fmt: skip
    parser.add_argument("--calls", type=int, default=512)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    given = parser.parse_args()
    if given.quick:
        given.calls, given.rounds = min(given.calls, 128), min(given.rounds, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.url:
            rows = _measured(given, given.url, given.url, folder)
        elif given.quick:
            with waiting_server(folder) as url:
                rows = _measured(given, url, f"a server that waits {QUICK_WAIT_S} s", folder)
        else:
            random = given.size == "26M"
            model = Path(get("model", "sandbox")("knows_all"))
            model = write_judge(folder / "judge", seed=given.seed) if random else model
            with vllm_server(given.vllm, folder, model, given.concurrency) as url:
                rows = _measured(given, url, f"vLLM, {given.size} parameters", folder)
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console(width=140).print(table(rows))


def _measured(given: argparse.Namespace, url: str, server: str, folder: Path) -> list[Row]:
    work = Work(
        url=url,
        model=given.model,
        server=server,
        calls=given.calls,
        concurrency=given.concurrency,
        max_tokens=given.max_tokens,
        seed=given.seed,
        folder=folder,
    )
    return measure(work, given.rounds)


if __name__ == "__main__":
    main()
